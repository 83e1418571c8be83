//! MessagePack with structs by name, behind the same limits as JSON.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{CodecError, depth::Depth};
use crate::{blob, buffer::FrameBuf};

pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut FrameBuf) -> Result<(), CodecError> {
    let mut serializer = rmp_serde::Serializer::new(FrameWriter(out)).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| CodecError(error.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    let value = T::deserialize(Depth::new(&mut deserializer, body.len())).map_err(|error| CodecError(said(&error)))?;
    // The deserializer does not say how far it came: another value begins only where bytes are left.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError("trailing bytes".into())),
    }
}

fn said(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error as E;
    match error {
        E::InvalidMarkerRead(_) | E::InvalidDataRead(_) => "the bytes end in the middle of a value".into(),
        other => other.to_string(),
    }
}

struct FrameWriter<'a>(&'a mut FrameBuf);

impl io::Write for FrameWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blob::write(bytes, self.0);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        blob::write(bytes, self.0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
