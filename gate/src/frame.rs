//! Frames of clients, in the format of zinx: type, length, value. Pure.
//!
//! ```text
//! u32 BE message id | u32 BE length of the data | data
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the data of a frame.
pub const HEAD: usize = 8;

/// One message of a client, or one for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number that decides where the message goes. 0 is the gate's own: see [`Refusal`](crate::Refusal).
    pub msg_id: u32,
    /// Content, which the gate does not read.
    pub data: Bytes,
}

impl Frame {
    /// Bytes of a frame.
    pub fn encode(msg_id: u32, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD + data.len());
        out.put_u32(msg_id);
        // A longer value has no frame: lengths are checked where data comes in.
        out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
        out.put_slice(data);
        out.freeze()
    }

    /// Takes the first frame off `buffer`; `None` while it is not whole. Nothing is allocated for a length that was only announced.
    ///
    /// # Errors
    /// The frame announces more than `most` bytes of data.
    pub fn take(buffer: &mut BytesMut, most: usize) -> Result<Option<Self>, FrameTooLong> {
        let Some(mut head) = buffer.get(..HEAD) else { return Ok(None) };
        let (msg_id, length) = (head.get_u32(), head.get_u32());
        if length as usize > most {
            return Err(FrameTooLong { msg_id, length, most });
        }
        let end = HEAD + length as usize;
        if buffer.len() < end {
            return Ok(None);
        }
        let mut frame = buffer.split_to(end);
        frame.advance(HEAD);
        Ok(Some(Self { msg_id, data: frame.freeze() }))
    }
}

/// Announced length of a frame beyond the limit: where the next frame begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of message {msg_id} announces {length} bytes: at most {most} are taken")]
pub struct FrameTooLong {
    /// Message of the frame.
    pub msg_id: u32,
    /// Announced bytes of data.
    pub length: u32,
    /// Limit, in bytes of data.
    pub most: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_zinx() {
        let bytes = Frame::encode(1, b"HELLO, WORLD");
        assert_eq!(bytes[..], *b"\0\0\0\x01\0\0\0\x0cHELLO, WORLD");
    }

    #[test]
    fn a_length_beyond_the_limit_is_an_error_before_any_data() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff][..]);
        let error = Frame::take(&mut buffer, 65_536).unwrap_err();
        assert_eq!(error, FrameTooLong { msg_id: 7, length: u32::MAX, most: 65_536 });
        assert!(error.to_string().contains("4294967295 bytes"), "{error}");
        let mut exact = BytesMut::from(&Frame::encode(1, &[0; 4])[..]);
        assert!(Frame::take(&mut exact.clone(), 3).is_err());
        assert_eq!(Frame::take(&mut exact, 4).unwrap().unwrap().data.len(), 4);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_whatever_pieces_they_come_in(
            frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cuts in prop::collection::vec(1..20_usize, 1..20),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(id, data)| Frame::encode(*id, data)).collect();
            let (mut buffer, mut taken, mut rest) = (BytesMut::new(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut buffer, 40).unwrap() {
                    taken.push((frame.msg_id, frame.data.to_vec()));
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(taken, frames);
            prop_assert!(buffer.is_empty());
        }
    }
}
