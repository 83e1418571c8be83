//! Bytes to fewer bytes and back, one message at a time.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use flate2::{bufread, read, write};

/// How bodies are compressed: each message by itself, above a threshold, and only when it shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950).
    Zlib,
}

impl Compression {
    /// Every compression.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zlib];

    /// Bodies below this many bytes are sent as they are, unless configured otherwise.
    pub const DEFAULT_THRESHOLD: usize = 1 << 10;

    /// Its number on the wire.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Zlib => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.number() == number)
    }

    /// The compressed form, if this compresses and the form is smaller.
    pub(crate) fn shrink(self, body: &[u8]) -> Option<Vec<u8>> {
        let level = flate2::Compression::fast();
        let room = Vec::with_capacity(body.len() / 2);
        let done = match self {
            Self::None => return None,
            Self::Gzip => {
                let mut encoder = write::GzEncoder::new(room, level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Zlib => {
                let mut encoder = write::ZlibEncoder::new(room, level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        done.ok().filter(|compressed| compressed.len() < body.len())
    }

    /// The body, which may not exceed `limit` bytes: memory grows with the output as it comes, never by a claim.
    pub(crate) fn expand(self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, ExpandError> {
        let mut out = Vec::new();
        let most = limit as u64 + 1;
        let done = match self {
            Self::None => compressed.take(most).read_to_end(&mut out),
            Self::Gzip => read::MultiGzDecoder::new(compressed).take(most).read_to_end(&mut out),
            Self::Zlib => {
                let mut rest = compressed;
                let mut decoder = bufread::ZlibDecoder::new(&mut rest);
                let read = decoder.by_ref().take(most).read_to_end(&mut out);
                // It stops at the end of the stream and looks no further; gzip takes what follows for another member.
                match read {
                    Ok(_) if out.len() <= limit && !rest.is_empty() => Err(io::Error::other("bytes follow its end")),
                    read => read,
                }
            }
        };
        match done {
            Ok(_) if out.len() > limit => Err(ExpandError::TooLarge { limit }),
            Ok(_) => Ok(out),
            Err(error) => Err(ExpandError::Corrupt { compression: self, reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
        })
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.to_string() == name)
            .ok_or_else(|| format!("compression {name:?} is unknown: use none, gzip or zlib"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error("the body expands beyond {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body is no {compression}: {reason}")]
    Corrupt { compression: Compression, reason: String },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bodies_round_trip(seed in prop::collection::vec(any::<u8>(), 1..64), times in 1usize..200) {
            let body = seed.repeat(times);
            for compression in [Compression::Gzip, Compression::Zlib] {
                if let Some(compressed) = compression.shrink(&body) {
                    prop_assert!(compressed.len() < body.len());
                    prop_assert_eq!(compression.expand(&compressed, body.len()).unwrap(), body.clone());
                    let error = compression.expand(&compressed, body.len() - 1);
                    prop_assert_eq!(error, Err(ExpandError::TooLarge { limit: body.len() - 1 }));
                }
            }
        }

        #[test]
        fn any_bytes_end_in_a_body_or_an_error(bytes: Vec<u8>) {
            for compression in Compression::ALL {
                let _ = compression.expand(&bytes, 1 << 16);
            }
        }
    }

    #[test]
    fn a_stream_is_whole_and_alone() {
        let body = [7; 1000];
        for compression in [Compression::Gzip, Compression::Zlib] {
            let mut compressed = compression.shrink(&body).unwrap();
            assert_eq!(compression.expand(&compressed, 1000).unwrap(), body);
            for cut in 0..compressed.len() {
                compression.expand(&compressed[..cut], 1000).unwrap_err();
            }
            compressed.push(0);
            compression.expand(&compressed, 1000).unwrap_err();
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = Compression::Gzip.shrink(&vec![0; 256 << 20]).unwrap();
        assert_eq!(Compression::Gzip.expand(&bomb, 4 << 20), Err(ExpandError::TooLarge { limit: 4 << 20 }));
        assert!(matches!(Compression::Gzip.expand(b"plain text", 100), Err(ExpandError::Corrupt { .. })));
    }
}
