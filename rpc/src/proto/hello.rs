//! HELLO: the first frame of each side. A list of `u8 tag | u16 length | value`; unknown tags are skipped.

use super::frame::{HEADER, Header, Kind, Malformed};

mod tag {
    pub(super) const INSTANCE: u8 = 1;
    pub(super) const INCARNATION: u8 = 2;
    pub(super) const SCOPE: u8 = 3;
    pub(super) const MAX_FRAME: u8 = 4;
    pub(super) const MAX_IN_FLIGHT: u8 = 5;
    pub(super) const CODECS: u8 = 6;
    pub(super) const COMPRESSIONS: u8 = 7;
    pub(super) const NAME: u8 = 16;
    pub(super) const CREDENTIALS: u8 = 17;
}

/// HELLO of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerHello {
    /// The id it is registered under; empty without a registry.
    pub(crate) instance: String,
    /// Random per start.
    pub(crate) incarnation: u64,
    /// Where it is registered; empty without a registry.
    pub(crate) scopes: Vec<String>,
    pub(crate) max_frame: u32,
    pub(crate) max_in_flight: u32,
    /// Numbers of the codecs that it knows.
    pub(crate) codecs: Vec<u8>,
    /// Numbers of the compressions that it knows.
    pub(crate) compressions: Vec<u8>,
}

impl ServerHello {
    /// bincode and JSON: what a server knows that does not say.
    const ASSUMED_CODECS: [u8; 2] = [0, 1];
    /// `Compression::None`, gzip and zlib.
    const ASSUMED_COMPRESSIONS: [u8; 3] = [0, 1, 2];

    pub(crate) fn to_frame(&self) -> Vec<u8> {
        let mut list = List::new();
        list.push(tag::INSTANCE, self.instance.as_bytes());
        list.push(tag::INCARNATION, &self.incarnation.to_be_bytes());
        for scope in &self.scopes {
            list.push(tag::SCOPE, scope.as_bytes());
        }
        list.push(tag::MAX_FRAME, &self.max_frame.to_be_bytes());
        list.push(tag::MAX_IN_FLIGHT, &self.max_in_flight.to_be_bytes());
        list.push(tag::CODECS, &self.codecs);
        list.push(tag::COMPRESSIONS, &self.compressions);
        list.finish()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let (codecs, compressions) = (Self::ASSUMED_CODECS.to_vec(), Self::ASSUMED_COMPRESSIONS.to_vec());
        let mut hello = Self { codecs, compressions, ..Self::default() };
        for entry in entries(body) {
            let (tag, value) = entry?;
            match tag {
                tag::INSTANCE => hello.instance = text(value)?,
                tag::INCARNATION => hello.incarnation = u64::from_be_bytes(number(value)?),
                tag::SCOPE => hello.scopes.push(text(value)?),
                tag::MAX_FRAME => hello.max_frame = u32::from_be_bytes(number(value)?),
                tag::MAX_IN_FLIGHT => hello.max_in_flight = u32::from_be_bytes(number(value)?),
                tag::CODECS => hello.codecs = value.to_vec(),
                tag::COMPRESSIONS => hello.compressions = value.to_vec(),
                _ => {}
            }
        }
        if hello.max_frame == 0 || hello.max_in_flight == 0 {
            return Err(Malformed::Hello("the server's limits are missing"));
        }
        Ok(hello)
    }
}

/// HELLO of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
    /// Compressions for answers, best first; empty for none.
    pub(crate) compressions: Vec<u8>,
    /// The largest frame that it takes; 0: it did not say.
    pub(crate) max_frame: u32,
}

impl ClientHello {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        let mut list = List::new();
        list.push(tag::NAME, self.name.as_bytes());
        list.push(tag::CREDENTIALS, &self.credentials);
        list.push(tag::COMPRESSIONS, &self.compressions);
        list.push(tag::MAX_FRAME, &self.max_frame.to_be_bytes());
        list.finish()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut hello = Self::default();
        for entry in entries(body) {
            let (tag, value) = entry?;
            match tag {
                tag::NAME => hello.name = text(value)?,
                tag::CREDENTIALS => hello.credentials = value.to_vec(),
                tag::COMPRESSIONS => hello.compressions = value.to_vec(),
                tag::MAX_FRAME => hello.max_frame = u32::from_be_bytes(number(value)?),
                _ => {}
            }
        }
        Ok(hello)
    }
}

struct List(Vec<u8>);

impl List {
    fn new() -> Self {
        Self(vec![0; HEADER])
    }

    /// Appends a value, which comes from checked configuration: a value too long for its length field is cut.
    fn push(&mut self, tag: u8, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.0.push(tag);
        self.0.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.0.extend_from_slice(value);
    }

    fn finish(mut self) -> Vec<u8> {
        let header = Header::control(Kind::Hello, 0).to_bytes(self.0.len() as u32);
        self.0[..HEADER].copy_from_slice(&header);
        self.0
    }
}

fn entries(mut body: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    std::iter::from_fn(move || {
        let (first, rest) = match body {
            [] => return None,
            [tag, high, low, rest @ ..] => ((*tag, usize::from(u16::from_be_bytes([*high, *low]))), rest),
            _ => {
                body = &[];
                return Some(Err(Malformed::Hello("it is cut short")));
            }
        };
        match rest.split_at_checked(first.1) {
            Some((value, rest)) => {
                body = rest;
                Some(Ok((first.0, value)))
            }
            None => {
                body = &[];
                Some(Err(Malformed::Hello("a value in it is cut short")))
            }
        }
    })
}

fn text(value: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(value.to_vec()).map_err(|_| Malformed::Hello("a text in it is not UTF-8"))
}

fn number<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::Hello("a number in it has the wrong size"))
}

#[cfg(test)]
mod tests;
