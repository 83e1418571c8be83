//! Heads of requests and responses, before the encoded value: names and time of a request, the outcome of a response. Limits,
//! interceptors and dispatch read nothing else; a head is never compressed.

use super::frame::{MAX_HEAD, clip};
use crate::code::Code;

/// Flags of a response.
pub(crate) mod flag {
    /// The body is the method's own error.
    pub(crate) const SERVICE_ERROR: u8 = 1;
    /// The call was not executed: it may be tried elsewhere.
    pub(crate) const NOT_EXECUTED: u8 = 2;
    /// The definitions of the method differ: the message has the server's, the body the structure of its types.
    pub(crate) const DIFFERS: u8 = 4;
}

/// The bytes are no head; the text says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head of the frame cannot be read: {0}")]
pub(crate) struct BadHead(pub(crate) &'static str);

/// `u16 head_len | u8 flags | u32 timeout_ms | str8 service | str8 method | u8 argc | u8 pairs | (str8 key, str16 value)*`, and
/// then, if the caller says them, `u32 signature | u32 shape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead<'a> {
    pub(crate) timeout_ms: u32,
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    /// How many arguments, or [`RequestHead::NAMED`].
    pub(crate) argc: u8,
    /// The count and the pairs, checked.
    pub(crate) pairs: &'a [u8],
    /// Hash of the method's definition as the caller knows it; 0 if it says none.
    pub(crate) signature: u32,
    /// Hash of the structure of its types; 0 if the caller says none.
    pub(crate) shape: u32,
}

impl<'a> RequestHead<'a> {
    /// The arguments come by name: how many is for the decoder to see.
    pub(crate) const NAMED: u8 = 255;

    /// Appends the head. The names have been checked: at most 128 and 255 bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), BadHead> {
        let length = 1 + 4 + 1 + self.service.len() + 1 + self.method.len() + 1 + self.pairs.len();
        let length = if self.signature == 0 { length } else { length + 8 };
        if length > MAX_HEAD {
            return Err(BadHead("it is over 16 KiB: send fewer or shorter metadata"));
        }
        let [l0, l1] = (length as u16).to_be_bytes();
        let [t0, t1, t2, t3] = self.timeout_ms.to_be_bytes();
        let [service, method] = [str8_length(self.service)?, str8_length(self.method)?];
        out.reserve(2 + length);
        out.extend_from_slice(&[l0, l1, 0, t0, t1, t2, t3, service]);
        out.extend_from_slice(self.service.as_bytes());
        out.push(method);
        out.extend_from_slice(self.method.as_bytes());
        let [s0, s1, s2, s3] = self.signature.to_be_bytes();
        let [h0, h1, h2, h3] = self.shape.to_be_bytes();
        match self.pairs {
            // As nearly all are: one append.
            [0] if self.signature != 0 => {
                out.extend_from_slice(&[self.argc, 0, s0, s1, s2, s3, h0, h1, h2, h3]);
            }
            pairs => {
                out.push(self.argc);
                out.extend_from_slice(pairs);
                if self.signature != 0 {
                    out.extend_from_slice(&[s0, s1, s2, s3, h0, h1, h2, h3]);
                }
            }
        }
        Ok(())
    }

    /// Reads the head at the start of `body`; returns it and where the value starts.
    pub(crate) fn parse(body: &'a [u8]) -> Result<(Self, usize), BadHead> {
        let (mut head, end) = split_head(body)?;
        let _flags = head.u8()?;
        let timeout_ms = head.u32()?;
        if timeout_ms == 0 {
            return Err(BadHead("its timeout is 0"));
        }
        let service = head.str8()?;
        let method = head.str8()?;
        let argc = head.u8()?;
        let pairs = head.pairs()?;
        let (signature, shape) = match head.0.len() {
            8.. => (head.u32()?, head.u32()?),
            _ => (0, 0),
        };
        Ok((Self { timeout_ms, service, method, argc, pairs, signature, shape }, end))
    }
}

/// A head that was parsed: most often the next one is the same, but for its timeout, and need not be parsed.
#[derive(Debug)]
pub(crate) struct KnownHead(Vec<u8>);

impl KnownHead {
    /// `head` is all of a valid head.
    pub(crate) fn new(head: &[u8]) -> Self {
        Self(head.to_vec())
    }

    /// Where the value starts.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The timeout of the body's head, if nothing else tells it from this one.
    #[inline]
    pub(crate) fn timeout_ms(&self, body: &[u8]) -> Option<u32> {
        let (start, rest) = body.get(..self.0.len())?.split_first_chunk::<3>()?;
        let (timeout, rest) = rest.split_first_chunk::<4>()?;
        let same = *start == self.0[..3] && *rest == self.0[7..];
        Some(u32::from_be_bytes(*timeout)).filter(|timeout| same && *timeout > 0)
    }
}

/// `u16 head_len | u8 code | u8 flags | u32 retry_after_ms | str16 message | u8 pairs | (str8 key, str16 value)*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) code: u8,
    pub(crate) flags: u8,
    pub(crate) retry_after_ms: u32,
    pub(crate) message: &'a str,
    /// The count and the pairs, checked.
    pub(crate) pairs: &'a [u8],
}

impl<'a> ResponseHead<'a> {
    /// The whole head of a response that is well and says nothing.
    pub(crate) const OK: [u8; 11] = [0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// Appends the head; a message that does not fit is cut.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Pairs that leave no room for a message are left out: they are an extra, the message says what went wrong.
        let pairs = if self.pairs.len() > MAX_HEAD / 2 { &[0] } else { self.pairs };
        let message = clip(self.message, MAX_HEAD - 16 - pairs.len());
        out.extend_from_slice(&((8 + message.len() + pairs.len()) as u16).to_be_bytes());
        out.push(self.code);
        out.push(self.flags);
        out.extend_from_slice(&self.retry_after_ms.to_be_bytes());
        out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        out.extend_from_slice(message.as_bytes());
        out.extend_from_slice(pairs);
    }

    /// Reads the head at the start of `body`; returns it and where the value starts.
    pub(crate) fn parse(body: &'a [u8]) -> Result<(Self, usize), BadHead> {
        let (mut head, end) = split_head(body)?;
        let code = head.u8()?;
        let flags = head.u8()?;
        let retry_after_ms = head.u32()?;
        let message = head.str16()?;
        let pairs = head.pairs()?;
        Ok((Self { code, flags, retry_after_ms, message, pairs }, end))
    }

    /// The code in a head that was written here.
    #[inline]
    pub(crate) fn code(body: &[u8]) -> u8 {
        body.get(2).copied().unwrap_or_default()
    }

    /// True for answers that say nothing about the latency of the method: refusals and internal errors.
    #[inline]
    pub(crate) fn is_refusal(body: &[u8]) -> bool {
        const INTERNAL: u8 = Code::Internal as u8;
        match body {
            [_, _, 0, 0, ..] => false,
            [_, _, code, flags, ..] => {
                flags & flag::NOT_EXECUTED != 0 || (*code == INTERNAL && flags & flag::SERVICE_ERROR == 0)
            }
            _ => false,
        }
    }
}

/// Appends a pair to encoded pairs: their count in a byte, and the pairs. Empty means none. After an error nothing is changed.
pub(crate) fn append_pair(pairs: &mut Vec<u8>, key: &str, value: &[u8]) -> Result<(), BadHead> {
    let count = pairs.first().copied().unwrap_or(0);
    let count = count.checked_add(1).ok_or(BadHead("more than 255 pairs of metadata"))?;
    let key_length = str8_length(key)?;
    let length = u16::try_from(value.len()).map_err(|_| BadHead("a metadata value is over 65,535 bytes"))?;
    match pairs.first_mut() {
        Some(first) => *first = count,
        None => pairs.push(count),
    }
    pairs.push(key_length);
    pairs.extend_from_slice(key.as_bytes());
    pairs.extend_from_slice(&length.to_be_bytes());
    pairs.extend_from_slice(value);
    Ok(())
}

/// The pairs that [`append_pair`] appended.
pub(crate) fn read_pairs(pairs: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = Cursor(pairs.get(1..).unwrap_or_default());
    std::iter::from_fn(move || rest.pair().ok())
}

fn str8_length(text: &str) -> Result<u8, BadHead> {
    u8::try_from(text.len()).map_err(|_| BadHead("a name or metadata key is over 255 bytes"))
}

/// The head's own bytes, and where it ends in `body`. What the reader leaves of them is from a later version.
fn split_head(body: &[u8]) -> Result<(Cursor<'_>, usize), BadHead> {
    let length = usize::from(Cursor(body).u16()?);
    if length > MAX_HEAD {
        return Err(BadHead("it is over 16 KiB"));
    }
    let head = body.get(2..2 + length).ok_or(BadHead("it is longer than its frame"))?;
    Ok((Cursor(head), 2 + length))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadHead> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadHead("it is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, BadHead> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BadHead> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadHead> {
        self.take().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], BadHead> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BadHead("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, BadHead> {
        std::str::from_utf8(self.bytes(length)?).map_err(|_| BadHead("a text in it is not UTF-8"))
    }

    fn str8(&mut self) -> Result<&'a str, BadHead> {
        let length = self.u8()?;
        self.text(length.into())
    }

    fn str16(&mut self) -> Result<&'a str, BadHead> {
        let length = self.u16()?;
        self.text(length.into())
    }

    /// A key and its value: text, unless the key ends in `-bin`.
    fn pair(&mut self) -> Result<(&'a str, &'a [u8]), BadHead> {
        let key = self.str8()?;
        let length = self.u16()?;
        let value = self.bytes(length.into())?;
        if !key.ends_with("-bin") && std::str::from_utf8(value).is_err() {
            return Err(BadHead("a text in it is not UTF-8"));
        }
        Ok((key, value))
    }

    fn pairs(&mut self) -> Result<&'a [u8], BadHead> {
        let all = self.0;
        for _ in 0..self.u8()? {
            self.pair()?;
        }
        Ok(&all[..all.len() - self.0.len()])
    }
}

#[cfg(test)]
mod tests;
