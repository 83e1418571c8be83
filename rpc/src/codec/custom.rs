//! Codecs of the user's own.

use std::cell::Cell;

use serde::{Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{CodecError, depth::Depth};
use crate::{
    buffer::{FrameBuf, HAND_OFF},
    custom::{Custom, CustomError},
};

/// Codec of the user's own, to be made a [`Codec`](crate::Codec) with [`Codec::custom`](crate::Codec::custom). Both sides
/// must have it: a server by [`Server::codec`](crate::Server::codec).
///
/// A panic, or success without a value, is an error of the one call, which names the codec. Nesting is limited to 128 levels, as in every
/// codec.
///
/// ```
/// use ms_rpc::{Codec, CustomCodec, CustomError, ReadValue, erased_serde};
///
/// struct Pretty;
///
/// impl CustomCodec for Pretty {
///     fn number(&self) -> u8 {
///         200
///     }
///     fn name(&self) -> &str {
///         "pretty-json"
///     }
///     fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError> {
///         Ok(serde_json::to_vec_pretty(value)?)
///     }
///     fn decode(&self, bytes: &[u8], value: ReadValue<'_>) -> Result<(), CustomError> {
///         let mut deserializer = serde_json::Deserializer::from_slice(bytes);
///         value.read(&mut deserializer)?;
///         Ok(deserializer.end()?)
///     }
/// }
///
/// let codec = Codec::custom(Pretty)?;
/// assert_eq!(codec.to_string(), "pretty-json");
/// # Ok::<(), ms_rpc::NumberError>(())
/// ```
pub trait CustomCodec: Send + Sync + 'static {
    /// Number on the wire: 128 to 254. Asked for once.
    fn number(&self) -> u8;

    /// Name for messages. Asked for once.
    fn name(&self) -> &str;

    /// Returns true if values carry the names of their fields, so that a reader tolerates fields that were added or moved. By
    /// default false: then a call whose two sides have types of different structure is refused before it is executed.
    fn names_fields(&self) -> bool {
        false
    }

    /// Encodes a value. The bytes are a frame's: an empty value is no bytes.
    ///
    /// # Errors
    /// The value cannot be encoded.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CustomError>;

    /// Decodes a value that fills `bytes`: calls `value` with a deserializer, and checks that no bytes are left over.
    ///
    /// # Errors
    /// The bytes are no such value.
    fn decode(&self, bytes: &[u8], value: ReadValue<'_>) -> Result<(), CustomError>;
}

/// The value that a [`CustomCodec`] decodes.
pub struct ReadValue<'a>(&'a mut Read<'a>);

type Read<'a> = dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'a;

impl ReadValue<'_> {
    /// Reads the value from `deserializer`, which may be a `&mut dyn erased_serde::Deserializer`.
    ///
    /// # Errors
    /// The deserializer's, or that of the value's type.
    pub fn read<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), CustomError> {
        (self.0)(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer)).map_err(Into::into)
    }
}

impl std::fmt::Debug for ReadValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadValue")
    }
}

/// A value that notes that it was serialized whole.
struct Watched<'a, T: ?Sized> {
    value: &'a T,
    written: Cell<bool>,
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let done = self.value.serialize(serializer)?;
        self.written.set(true);
        Ok(done)
    }
}

impl Custom<dyn CustomCodec> {
    #[cold]
    pub(super) fn names_fields(&self) -> bool {
        self.run(|codec| Ok(codec.names_fields())).unwrap_or(false)
    }

    #[cold]
    pub(super) fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
        let watched = Watched { value, written: Cell::new(false) };
        let bytes = self.run(|codec| codec.encode(&watched)).map_err(|reason| self.failed(&reason))?;
        if !watched.written.get() {
            return Err(self.failed("it reported success without writing the value"));
        }
        if bytes.len() < HAND_OFF {
            out.data().extend_from_slice(&bytes);
        } else {
            out.hand_off(bytes.into());
        }
        Ok(())
    }

    #[cold]
    pub(super) fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CodecError> {
        let mut value = None;
        let mut read = |deserializer: &mut dyn erased_serde::Deserializer<'_>| {
            let read = T::deserialize(Depth::new(deserializer, body.len()));
            let done = read.as_ref().map(|_| ()).map_err(serde::de::Error::custom);
            value = Some(read);
            done
        };
        self.run(|codec| codec.decode(body, ReadValue(&mut read))).map_err(|reason| self.failed(&reason))?;
        match value {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(self.failed(&error.to_string())),
            None => Err(self.failed("it reported success without reading a value")),
        }
    }

    fn failed(&self, reason: &str) -> CodecError {
        CodecError(format!("codec `{}` ({}): {reason}", self.name(), self.number()))
    }
}
