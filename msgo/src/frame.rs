//! Frames, and the compression of their bodies. Pure.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};

/// Bytes that each connection of version 1 begins with: the magic number and the version.
pub(crate) const FIRST: [u8; 2] = [0x1d, 0x01];
/// Bytes before the body: those, length, kind, compression, serializer, id.
const HEADER: usize = 17;
/// The only compression.
const GZIP: u8 = 0;
/// Go's own encoding.
pub(crate) const GOB: u8 = 0;
/// Protocol buffers.
pub(crate) const PROTOBUF: u8 = 1;

/// Kinds of frames, as they are numbered.
pub(crate) mod kind {
    pub(crate) const REQUEST: u8 = 0;
    pub(crate) const RESPONSE: u8 = 1;
    pub(crate) const PING: u8 = 2;
    pub(crate) const PONG: u8 = 3;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Of [`kind`], or any other number.
    pub(crate) kind: u8,
    pub(crate) compression: u8,
    pub(crate) serializer: u8,
    pub(crate) id: u64,
    /// Serialized and compressed; empty for signs of life.
    pub(crate) body: Bytes,
}

/// Why bytes are no frame: the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Another protocol.
    #[error("a frame begins with {0:#04x} {1:#04x}, not with 0x1d 0x01")]
    Magic(u8, u8),
    /// A length below the header's, or above the bound.
    #[error("a frame of {length} bytes: 17 to {most} are allowed (`max_frame`)")]
    Length {
        /// As written.
        length: u32,
        /// The bound.
        most: usize,
    },
}

/// Why a body is not what a frame says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBody {
    #[error("compression {0} is not known: 0 (gzip) is")]
    Compression(u8),
    #[error("the body is not gzip: {0}")]
    Corrupt(io::Error),
    #[error("the body has more than {0} bytes when it is expanded (`max_frame`)")]
    TooLarge(usize),
}

impl Frame {
    /// Takes one whole frame off the beginning of `buffer`, if one is there. `most`: bound for its bytes.
    ///
    /// # Errors
    /// The bytes are no frame, as far as they have come.
    pub(crate) fn take(buffer: &mut BytesMut, most: usize) -> Result<Option<Self>, Malformed> {
        if let [first, second, ..] = **buffer
            && [first, second] != FIRST
        {
            return Err(Malformed::Magic(first, second));
        }
        let Some(length) = buffer.get(2..6).map(|mut bytes| bytes.get_u32()) else { return Ok(None) };
        let whole = length as usize;
        if whole < HEADER || whole > most {
            return Err(Malformed::Length { length, most });
        }
        if buffer.len() < whole {
            return Ok(None);
        }
        let mut bytes = buffer.split_to(whole).freeze();
        bytes.advance(6);
        let (kind, compression, serializer, id) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u8(), bytes.get_u64());
        Ok(Some(Self { kind, compression, serializer, id, body: bytes }))
    }

    /// A sign of life.
    pub(crate) fn sign(kind: u8, id: u64) -> Self {
        Self { kind, compression: GZIP, serializer: PROTOBUF, id, body: Bytes::new() }
    }

    /// A frame with this body, which is compressed here.
    ///
    /// # Errors
    /// The body cannot be compressed.
    pub(crate) fn with_body(kind: u8, serializer: u8, id: u64, body: &[u8]) -> io::Result<Self> {
        let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
        compressed.write_all(body)?;
        Ok(Self { kind, compression: GZIP, serializer, id, body: compressed.finish()?.into() })
    }

    /// The whole frame as bytes.
    ///
    /// # Errors
    /// The length does not fit its field.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let whole = HEADER + self.body.len();
        let too_long = |_| Malformed::Length { length: u32::MAX, most: u32::MAX as usize };
        let length = u32::try_from(whole).map_err(too_long)?;
        let mut bytes = Vec::with_capacity(whole);
        bytes.extend_from_slice(&FIRST);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[self.kind, self.compression, self.serializer]);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// The body as it was before compression, `most` bytes at most.
    pub(crate) fn expand(&self, most: usize) -> Result<Vec<u8>, BadBody> {
        if self.compression != GZIP {
            return Err(BadBody::Compression(self.compression));
        }
        let (mut expanded, bound) = (Vec::new(), most as u64 + 1);
        MultiGzDecoder::new(&*self.body).take(bound).read_to_end(&mut expanded).map_err(BadBody::Corrupt)?;
        if expanded.len() > most { Err(BadBody::TooLarge(most)) } else { Ok(expanded) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1 << 20;

    #[test]
    fn the_bytes_are_those_of_the_definition() {
        let frame = Frame::sign(kind::PING, 0x0102_0304_0506_0708);
        let bytes = frame.to_bytes().unwrap();
        assert_eq!(bytes, [0x1d, 1, 0, 0, 0, 17, 2, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Frame::take(&mut BytesMut::from(&*bytes), MOST), Ok(Some(frame)));
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let take = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes), 100).unwrap_err().to_string();
        assert_eq!(take(&[0x1d, 2]), "a frame begins with 0x1d 0x02, not with 0x1d 0x01");
        assert_eq!(take(&[0x1d, 1, 0, 0, 0, 16]), "a frame of 16 bytes: 17 to 100 are allowed (`max_frame`)");
        assert!(take(&[0x1d, 1, 0xff, 0xff, 0xff, 0xff]).starts_with("a frame of 4294967295 bytes"));
    }

    #[test]
    fn a_body_is_expanded_up_to_a_bound() {
        let frame = Frame::with_body(kind::REQUEST, PROTOBUF, 1, &[7; 1000]).unwrap();
        assert_eq!(frame.expand(1000).unwrap(), [7; 1000]);
        assert!(matches!(frame.expand(999), Err(BadBody::TooLarge(999))));
        let plain = Frame { body: Bytes::from_static(b"plain"), ..frame.clone() };
        assert!(matches!(plain.expand(1000), Err(BadBody::Corrupt(_))));
        let cut = Frame { body: frame.body.slice(..frame.body.len() - 1), ..frame.clone() };
        assert!(matches!(cut.expand(1000), Err(BadBody::Corrupt(_))));
        assert!(matches!(Frame { compression: 1, ..frame }.expand(1000), Err(BadBody::Compression(1))));
    }

    proptest! {
        #[test]
        fn a_stream_of_frames_comes_apart_wherever_it_is_cut(
            frames in prop::collection::vec((any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..5),
            piece in 1..50_usize,
        ) {
            let frames: Vec<_> = frames
                .into_iter()
                .map(|(kind, id, body)| Frame { kind, compression: 3, serializer: 4, id, body: body.into() })
                .collect();
            let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes().unwrap()).collect();
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut buffer, MOST).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(buffer.is_empty());
        }
    }
}
