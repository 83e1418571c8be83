//! bincode: written by its crate, read by [`Reader`].

use bincode::{config, enc::write::Writer, error::EncodeError};
use serde::{Serialize, de::DeserializeOwned};

use super::{CodecError, reader::Reader};
use crate::{blob, buffer::FrameBuf};

const CONFIG: config::Configuration = config::standard();

pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
    bincode::serde::encode_into_writer(value, FrameWriter(out), CONFIG).map_err(|error| CodecError(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader::new(body);
    let value = T::deserialize(&mut reader).map_err(|error| CodecError(error.to_string()))?;
    match reader.rest().len() {
        0 => Ok(value),
        trailing => Err(CodecError(format!("{trailing} trailing bytes"))),
    }
}

struct FrameWriter<'a>(&'a mut FrameBuf);

impl Writer for FrameWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        blob::write(bytes, self.0);
        Ok(())
    }
}
