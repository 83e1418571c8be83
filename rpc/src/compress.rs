//! Bytes to fewer bytes and back, one message at a time.

mod custom;
mod streams;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use crate::custom::{Custom, NumberError};

pub use custom::CustomCompression;

/// Compression of bodies: each message by itself, above a threshold, and only when it shrinks. Chosen by the caller, for a
/// client ([`compression`](crate::ClientBuilder::compression)) or a call
/// ([`CallOptions::compression`](crate::CallOptions::compression)). A server knows the built-in ones, and those that it was given; a
/// client that wants another fails before it sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip (RFC 1952). Levels 1 to 9, by default 1.
    Gzip,
    /// zlib (RFC 1950). Levels 1 to 9, by default 1.
    Zlib,
    /// Zstandard (RFC 8878), with the feature `zstd`. Levels up to 22, negative ones for speed, by default 3.
    #[cfg(feature = "zstd")]
    Zstd,
    /// LZ4 frames: fast, and without levels.
    Lz4,
    /// The user's own, made by [`Compression::custom`].
    Custom(Custom<dyn CustomCompression>),
}

impl Compression {
    /// Every built-in compression.
    #[cfg(feature = "zstd")]
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Zlib, Self::Zstd, Self::Lz4];
    /// Every built-in compression.
    #[cfg(not(feature = "zstd"))]
    pub const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Zlib, Self::Lz4];

    /// Bodies below this many bytes are sent as they are, unless configured otherwise.
    pub const DEFAULT_THRESHOLD: usize = 1 << 10;

    /// A compression of the user's own.
    ///
    /// # Errors
    /// Its number is not 128 to 254.
    pub fn custom(compression: impl CustomCompression) -> Result<Self, NumberError> {
        let (number, name) = (compression.number(), compression.name().to_owned());
        Custom::<dyn CustomCompression>::new("compression", number, name, Box::new(compression)).map(Self::Custom)
    }

    /// Number on the wire.
    #[inline]
    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Zlib => 2,
            #[cfg(feature = "zstd")]
            Self::Zstd => 3,
            Self::Lz4 => 4,
            Self::Custom(custom) => custom.number(),
        }
    }

    /// The built-in compression of this number.
    #[inline]
    pub(crate) fn built_in(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Zlib,
            #[cfg(feature = "zstd")]
            3 => Self::Zstd,
            4 => Self::Lz4,
            _ => return None,
        })
    }

    /// The compressed form, if this compresses and the form is smaller. A level is brought into the compression's range.
    pub(crate) fn shrink(&self, body: &[u8], level: Option<i32>) -> Result<Option<Vec<u8>>, CompressError> {
        let done = match self {
            Self::None => return Ok(None),
            Self::Gzip => streams::gzip(body, level),
            Self::Zlib => streams::zlib(body, level),
            #[cfg(feature = "zstd")]
            Self::Zstd => streams::zstd(body, level),
            Self::Lz4 => streams::lz4(body),
            Self::Custom(custom) => {
                let failed = |reason| CompressError::Failed { compression: self.clone(), reason };
                let done = custom.run(|own| Ok(own.compress(body))).map_err(failed)?;
                return Ok(done.filter(|compressed| compressed.len() < body.len()));
            }
        };
        // A body that the encoder cannot take is sent as it is.
        Ok(done.ok().filter(|compressed| compressed.len() < body.len()))
    }

    /// The body, which may not exceed `limit` bytes: memory grows with the output as it comes, never by a claim.
    pub(crate) fn expand(&self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
        let mut out = Vec::new();
        let most = limit as u64 + 1;
        let done = match self {
            Self::None => {
                out.extend_from_slice(&compressed[..compressed.len().min(limit + 1)]);
                Ok(())
            }
            Self::Gzip => streams::from_gzip(compressed, most, &mut out),
            Self::Zlib => streams::from_zlib(compressed, most, &mut out),
            #[cfg(feature = "zstd")]
            Self::Zstd => streams::from_zstd(compressed, most, &mut out),
            Self::Lz4 => streams::from_lz4(compressed, most, &mut out),
            Self::Custom(custom) => {
                custom.run(|own| own.expand(compressed, limit)).map(|body| out = body).map_err(std::io::Error::other)
            }
        };
        match done {
            Ok(()) if out.len() > limit => Err(CompressError::TooLarge { compression: self.clone(), limit }),
            Ok(()) => Ok(out),
            Err(error) => Err(CompressError::Corrupt { compression: self.clone(), reason: error.to_string() }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Custom(custom) => custom.name(),
        })
    }
}

/// The built-in ones.
impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|compression| compression.to_string() == name);
        known.ok_or_else(|| format!("compression {name:?} is unknown: use {}", list(Self::ALL)))
    }
}

/// Names, separated by commas.
pub(crate) fn list(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

/// Reason that a body cannot be compressed or expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompressError {
    #[error("the body expands beyond {limit} bytes ({compression})")]
    TooLarge { compression: Compression, limit: usize },
    #[error("the body is no {compression}: {reason}")]
    Corrupt { compression: Compression, reason: String },
    #[error("compression `{compression}` failed: {reason}")]
    Failed { compression: Compression, reason: String },
}
