//! One unit on the wire. The text of record is PROTOCOL.md.
//!
//! ```text
//! 0 magic 0x1d | 1 version 2 | 2..6 length of the whole frame | 6 kind | 7 compression | 8 codec | 9..17 id | body
//! ```
//! All numbers are big-endian.

pub(crate) const HEADER: usize = 17;
pub(crate) const MAGIC: u8 = 0x1d;
pub(crate) const VERSION: u8 = 2;
/// The codec byte of frames that carry no value.
pub(crate) const RAW: u8 = 255;
/// The largest frame unless configured otherwise.
pub(crate) const DEFAULT_MAX_FRAME: usize = 4 << 20;
/// No configuration goes beyond this.
pub(crate) const LARGEST_MAX_FRAME: usize = 64 << 20;
/// Nor below this: HELLO, and the status that says that an answer is too large, must fit.
pub(crate) const SMALLEST_MAX_FRAME: usize = 1 << 10;
/// The largest head of a request or response.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// The low bits of a call's id: its slot in the caller's table.
pub(crate) const SLOT_BITS: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Ping,
    Pong,
    Cancel,
    GoAway,
    Hello,
    /// Unknown, and of the range that may be ignored.
    Ignorable(u8),
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::Ping,
            3 => Self::Pong,
            4 => Self::Cancel,
            5 => Self::GoAway,
            9 => Self::Hello,
            128.. => Self::Ignorable(byte),
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Response => 1,
            Self::Ping => 2,
            Self::Pong => 3,
            Self::Cancel => 4,
            Self::GoAway => 5,
            Self::Hello => 9,
            Self::Ignorable(byte) => byte,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) compression: u8,
    pub(crate) codec: u8,
    pub(crate) id: u64,
}

impl Header {
    /// A frame of the connection itself, without a value in it.
    pub(crate) fn control(kind: Kind, id: u64) -> Self {
        Self { kind, compression: 0, codec: RAW, id }
    }

    /// The header for a frame of `length` bytes in all.
    pub(crate) fn to_bytes(self, length: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = MAGIC;
        bytes[1] = VERSION;
        bytes[2..6].copy_from_slice(&length.to_be_bytes());
        bytes[6] = self.kind.byte();
        bytes[7] = self.compression;
        bytes[8] = self.codec;
        bytes[9..17].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes`, and the length of the whole frame; `None` when there are too few bytes.
    pub(crate) fn parse(bytes: &[u8], max_frame: usize) -> Result<Option<(Self, usize)>, Malformed> {
        match bytes {
            [magic, ..] if *magic != MAGIC => return Err(Malformed::Magic(*magic)),
            [_, version, ..] if *version != VERSION => return Err(Malformed::Version(*version)),
            _ => {}
        }
        let Some(bytes) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [_, _, l0, l1, l2, l3, kind, compression, codec, id @ ..] = *bytes;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length < HEADER || length > max_frame {
            return Err(Malformed::Length { length, max_frame });
        }
        let kind = Kind::from_byte(kind).ok_or(Malformed::Kind(kind))?;
        Ok(Some((Self { kind, compression, codec, id: u64::from_be_bytes(id) }, length)))
    }
}

/// Bytes after which a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the first byte of a frame is {0:#04x}, not {MAGIC:#04x}: this is not the ms-rpc protocol")]
    Magic(u8),
    #[error("protocol version {0} is not spoken here, only version {VERSION}")]
    Version(u8),
    #[error("a frame of {length} bytes: from {HEADER} to {max_frame} are accepted")]
    Length { length: usize, max_frame: usize },
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    #[error("frame kind {0:?} does not belong here")]
    Unexpected(Kind),
    #[error("call id {id:#x} does not rise above {last:#x}")]
    FallingId { id: u64, last: u64 },
    #[error("the HELLO cannot be read: {0}")]
    Hello(&'static str),
}

/// The body of GOAWAY: the last id taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GoAway {
    pub(crate) last_id: u64,
    pub(crate) reason: String,
}

impl GoAway {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        let reason = clip(&self.reason, 1024);
        let length = HEADER + 8 + 2 + reason.len();
        let mut frame = Vec::with_capacity(length);
        frame.extend_from_slice(&Header::control(Kind::GoAway, 0).to_bytes(length as u32));
        frame.extend_from_slice(&self.last_id.to_be_bytes());
        frame.extend_from_slice(&(reason.len() as u16).to_be_bytes());
        frame.extend_from_slice(reason.as_bytes());
        frame
    }

    /// A body that is cut short still says that the peer goes away.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let (last_id, rest) = match body.split_first_chunk::<8>() {
            Some((id, rest)) => (u64::from_be_bytes(*id), rest),
            None => (0, &[][..]),
        };
        let reason = String::from_utf8_lossy(rest.get(2..).unwrap_or_default()).into_owned();
        Self { last_id, reason }
    }
}

/// The longest start of `text` with at most `bytes` bytes.
pub(crate) fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests;
