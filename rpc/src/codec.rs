//! Values to bytes and back.

mod binary;
mod custom;
mod depth;
mod json;
mod message_pack;
mod reader;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    blob,
    buffer::FrameBuf,
    custom::{Custom, NumberError},
};

pub use custom::{CustomCodec, ReadValue};

/// Encoding of values: arguments, results, and methods' own errors. Chosen by the caller, for a client
/// ([`codec`](crate::ClientBuilder::codec)) or a call ([`CallOptions::codec`](crate::CallOptions::codec)). A server knows the
/// built-in ones, and those that it was given; a client that wants another fails before it sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// bincode 2, standard configuration: compact and fast. Both sides must have the same types.
    #[default]
    Bincode,
    /// JSON: readable, tolerant of order and of added fields.
    Json,
    /// MessagePack, with structs by the names of their fields: compact, and tolerant of order and of added fields.
    MessagePack,
    /// The user's own, made by [`Codec::custom`].
    Custom(Custom<dyn CustomCodec>),
}

impl Codec {
    /// Every built-in codec.
    pub const ALL: [Self; 3] = [Self::Bincode, Self::Json, Self::MessagePack];

    /// A codec of the user's own.
    ///
    /// # Errors
    /// Its number is not 128 to 254.
    pub fn custom(codec: impl CustomCodec) -> Result<Self, NumberError> {
        let (number, name) = (codec.number(), codec.name().to_owned());
        Custom::<dyn CustomCodec>::new("codec", number, name, Box::new(codec)).map(Self::Custom)
    }

    /// Number on the wire.
    #[inline]
    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::Bincode => 0,
            Self::Json => 1,
            Self::MessagePack => 2,
            Self::Custom(custom) => custom.number(),
        }
    }

    /// The built-in codec of this number.
    #[inline]
    pub(crate) fn built_in(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Bincode),
            1 => Some(Self::Json),
            2 => Some(Self::MessagePack),
            _ => None,
        }
    }

    /// Returns true if values carry the names of fields: then a reader tolerates fields that were added or moved.
    #[inline]
    pub(crate) fn names_fields(&self) -> bool {
        match self {
            Self::Bincode => false,
            Self::Json | Self::MessagePack => true,
            Self::Custom(custom) => custom.names_fields(),
        }
    }

    /// Appends `value`. After an error `out` holds a part of it.
    #[inline]
    pub(crate) fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
        match self {
            Self::Bincode => binary::encode(value, out),
            _ => self.encode_other(value, out),
        }
    }

    /// Apart from [`encode`](Self::encode), so that encoding in bincode is short enough to be inlined.
    #[inline(never)]
    fn encode_other<T: Serialize + ?Sized>(&self, value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
        match self {
            Self::Bincode => binary::encode(value, out),
            Self::Json => serde_json::to_writer(out.data(), value).map_err(|error| CodecError(error.to_string())),
            Self::MessagePack => message_pack::encode(value, out),
            Self::Custom(custom) => custom.encode(value, out),
        }
    }

    /// Reads a value that fills a body too small to share.
    #[inline]
    pub(crate) fn decode_copied<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::Bincode => binary::decode(body),
            Self::Json => json::decode(body).map_err(|error| CodecError(error.to_string())),
            Self::MessagePack => message_pack::decode(body),
            Self::Custom(custom) => custom.decode(body),
        }
    }

    /// Reads a value that fills `body`, which is a slice of an allocation of this size. Nesting beyond 128 levels, lengths beyond
    /// the body and trailing bytes are errors.
    pub(crate) fn decode<T: DeserializeOwned>(&self, body: &Bytes, allocation: usize) -> Result<T, CodecError> {
        match self {
            Self::Json => self.decode_copied(body),
            _ => blob::sharing(body, allocation, || self.decode_copied(body)),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bincode => "bincode",
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::Custom(custom) => custom.name(),
        })
    }
}

/// The built-in ones.
impl FromStr for Codec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.to_string() == name)
            .ok_or_else(|| format!("codec {name:?} is unknown: use bincode, json or messagepack"))
    }
}

/// Reason that bytes are no value, or a value cannot become bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CodecError(pub(crate) String);
