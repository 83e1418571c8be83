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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { kind: Kind::Request, compression: 1, codec: 0, id: 0x0102_0304_0506_0708 }
    }

    #[test]
    fn yesterdays_bytes_still_parse() {
        let bytes = [0x1d, 2, 0, 0, 0, 20, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(header().to_bytes(20), bytes);
        assert_eq!(Header::parse(&bytes, 4096), Ok(Some((header(), 20))));
    }

    #[test]
    fn what_cannot_go_on_is_named() {
        let good = header().to_bytes(17);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Header::parse(&bytes, 4096)
        };
        assert_eq!(changed(0, b'G'), Err(Malformed::Magic(b'G')));
        assert_eq!(changed(1, 9), Err(Malformed::Version(9)));
        assert_eq!(changed(5, 3), Err(Malformed::Length { length: 3, max_frame: 4096 }));
        assert_eq!(changed(2, 0x7f), Err(Malformed::Length { length: 0x7f00_0011, max_frame: 4096 }));
        assert_eq!(changed(6, 6), Err(Malformed::Kind(6)));
        assert_eq!(changed(6, 100), Err(Malformed::Kind(100)));
        assert!(matches!(changed(6, 200), Ok(Some((Header { kind: Kind::Ignorable(200), .. }, 17)))));
        assert_eq!(Header::parse(b"GET", 4096), Err(Malformed::Magic(b'G')), "before the header is complete");
        for cut in 0..HEADER {
            assert_eq!(Header::parse(&good[..cut], 4096), Ok(None));
        }
    }

    #[test]
    fn goaway_round_trips_and_survives_cuts() {
        let goaway = GoAway { last_id: 7, reason: "draining".to_owned() };
        let frame = goaway.to_frame();
        assert_eq!(GoAway::parse(&frame[HEADER..]), goaway);
        for cut in HEADER..frame.len() {
            GoAway::parse(&frame[HEADER..cut]);
        }
    }

    proptest! {
        #[test]
        fn any_header_and_goaway_round_trip(
            (kind, compression, codec, id, length) in any::<(u8, u8, u8, u64, u32)>(),
            reason in ".{0,300}",
        ) {
            if let Some(kind) = Kind::from_byte(kind) {
                let (header, length) = (Header { kind, compression, codec, id }, length.max(HEADER as u32));
                let parsed = Header::parse(&header.to_bytes(length), usize::MAX);
                prop_assert_eq!(parsed, Ok(Some((header, length as usize))));
            }
            let goaway = GoAway { last_id: id, reason };
            let parsed = GoAway::parse(&goaway.to_frame()[HEADER..]);
            prop_assert_eq!(parsed, GoAway { reason: clip(&goaway.reason, 1024).to_owned(), ..goaway });
        }
    }
}
