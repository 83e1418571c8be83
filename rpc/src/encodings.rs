//! Codecs and compressions that the two sides of a connection know.

use crate::{Codec, Compression, compress::list};

/// Codecs and compressions that a server knows: the built-in ones, and those that it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encodings {
    codecs: Vec<Codec>,
    compressions: Vec<Compression>,
}

impl Encodings {
    /// Adds a codec of the user's own; the built-in ones are there.
    pub(crate) fn add_codec(&mut self, codec: Codec) {
        if Codec::built_in(codec.number()).is_none() {
            self.codecs.push(codec);
        }
    }

    /// Adds a compression of the user's own; the built-in ones are there.
    pub(crate) fn add_compression(&mut self, compression: Compression) {
        if Compression::built_in(compression.number()).is_none() {
            self.compressions.push(compression);
        }
    }

    /// The codec of this number.
    #[inline]
    pub(crate) fn codec(&self, number: u8) -> Option<Codec> {
        Codec::built_in(number).or_else(|| self.codecs.iter().find(|own| own.number() == number).cloned())
    }

    /// The compression of this number.
    #[inline]
    pub(crate) fn compression(&self, number: u8) -> Option<Compression> {
        Compression::built_in(number).or_else(|| self.compressions.iter().find(|own| own.number() == number).cloned())
    }

    pub(crate) fn codecs(&self) -> impl Iterator<Item = Codec> {
        Codec::ALL.into_iter().chain(self.codecs.iter().cloned())
    }

    pub(crate) fn compressions(&self) -> impl Iterator<Item = Compression> {
        Compression::ALL.into_iter().chain(self.compressions.iter().cloned())
    }

    /// Returns an error if two codecs or two compressions have the same number.
    pub(crate) fn check(&self) -> Result<(), String> {
        unique("codec", self.codecs.iter().map(|own| (own.number(), own.to_string())).collect())?;
        unique("compression", self.compressions.iter().map(|own| (own.number(), own.to_string())).collect())
    }

    /// Message for a request with a codec that is unknown here.
    #[cold]
    pub(crate) fn unknown_codec(&self, number: u8) -> String {
        format!("codec {number} is unknown here: use {}", list(self.codecs()))
    }

    /// Message for a request with a compression that is unknown here.
    #[cold]
    pub(crate) fn unknown_compression(&self, number: u8) -> String {
        format!("compression {number} is unknown here: use {}", list(self.compressions()))
    }
}

fn unique(what: &str, own: Vec<(u8, String)>) -> Result<(), String> {
    for (at, (number, name)) in own.iter().enumerate() {
        if let Some((_, other)) = own[..at].iter().find(|(other, _)| other == number) {
            return Err(format!(
                "the {what}s `{other}` and `{name}` have the same number {number}: change one of them"
            ));
        }
    }
    Ok(())
}

/// Numbers of the codecs and compressions that a server listed in its HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    codecs: Numbers,
    compressions: Numbers,
}

/// One bit for each number, so that a look costs each call a load and a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers([u64; 4]);

impl Numbers {
    fn new(numbers: &[u8]) -> Self {
        let mut bits = [0; 4];
        numbers.iter().for_each(|number| bits[usize::from(number >> 6)] |= 1 << (number & 63));
        Self(bits)
    }

    #[inline]
    fn has(&self, number: u8) -> bool {
        self.0[usize::from(number >> 6)] >> (number & 63) & 1 == 1
    }

    fn all(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|number| self.has(*number))
    }
}

impl Offered {
    /// `Compression::None` is always known.
    pub(crate) fn new(codecs: &[u8], compressions: &[u8]) -> Self {
        let mut compressions = Numbers::new(compressions);
        compressions.0[0] |= 1;
        Self { codecs: Numbers::new(codecs), compressions }
    }

    /// Returns true if the server knows both.
    #[inline]
    pub(crate) fn has(&self, codec: &Codec, compression: &Compression) -> bool {
        self.codecs.has(codec.number()) && self.compressions.has(compression.number())
    }

    /// Message for a call whose codec or compression the server does not know: built-in ones by name, others by number.
    #[cold]
    pub(crate) fn lacks(&self, codec: &Codec, compression: &Compression) -> String {
        let (what, wanted, number, known) = if self.codecs.has(codec.number()) {
            let name = |number| Compression::built_in(number).map_or_else(|| number.to_string(), |own| own.to_string());
            let known = self.compressions.all().map(name).collect::<Vec<_>>();
            ("compression", compression.to_string(), compression.number(), known)
        } else {
            let name = |number| Codec::built_in(number).map_or_else(|| number.to_string(), |own| own.to_string());
            ("codec", codec.to_string(), codec.number(), self.codecs.all().map(name).collect())
        };
        format!("does not know the {what} `{wanted}` ({number}); it knows {}", known.join(", "))
    }
}
