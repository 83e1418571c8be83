//! bincode, behind limits of our own: it has no depth limit, and without a size limit a few bytes can ask for any memory.

use std::marker::PhantomData;

use bincode::{config, enc::write::Writer, error::EncodeError};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, DeserializeSeed},
};

use super::{CodecError, depth::Depth};
use crate::{
    blob,
    buffer::{FrameBuf, HAND_OFF},
};

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<{ 64 << 20 }>> =
    config::standard().with_limit::<{ 64 << 20 }>();

pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
    bincode::serde::encode_into_writer(value, FrameWriter(out), CONFIG).map_err(|error| CodecError(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let seed = Limited(PhantomData);
    let (value, used) =
        bincode::serde::seed_decode_from_slice(seed, body, CONFIG).map_err(|error| CodecError(error.to_string()))?;
    match body.len() - used {
        0 => Ok(value),
        trailing => Err(CodecError(format!("{trailing} trailing bytes"))),
    }
}

struct Limited<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Limited<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(Depth::new(deserializer))
    }
}

struct FrameWriter<'a>(&'a mut FrameBuf);

impl Writer for FrameWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() >= HAND_OFF
            && let Some(shared) = blob::offered(bytes)
        {
            self.0.hand_off(shared);
        } else {
            self.0.data().extend_from_slice(bytes);
        }
        Ok(())
    }
}
