use std::{cell::RefCell, fmt, ops::Deref};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

use crate::buffer::HAND_OFF;

/// Smaller bodies are copied: sharing would keep the whole read buffer alive for a few bytes.
pub(crate) const SHARE: usize = 1 << 10;

/// A body of bytes that is not copied on its way: decoded as a slice of the received frame (from 1 KiB), encoded by handing
/// the bytes to the socket (from 8 KiB), in bincode and uncompressed. In JSON it is a base64 string (RFC 4648, with padding).
///
/// Use it instead of `Vec<u8>`, which serde takes one byte at a time. A small `Blob` kept from a large frame keeps the
/// whole frame in memory.
///
/// ```
/// let blob = ms_rpc::Blob::from(vec![1, 2, 3]);
/// assert_eq!(blob[..], [1, 2, 3]);
/// assert_eq!(serde_json::to_string(&blob).unwrap(), r#""AQID""#);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(pub Bytes);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Blob> for Bytes {
    fn from(blob: Blob) -> Self {
        blob.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

thread_local! {
    /// The blob that is being serialized, for the writer to take as it is.
    static OFFER: RefCell<Option<Bytes>> = const { RefCell::new(None) };
    /// The frame that is being decoded, for blobs to be slices of.
    static SHARED: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// The blob that is being serialized, if `bytes` is its content.
pub(crate) fn offered(bytes: &[u8]) -> Option<Bytes> {
    OFFER.with_borrow_mut(|offer| offer.take_if(|offer| std::ptr::eq(&**offer, bytes)))
}

/// Runs `decode`, in which blobs become slices of `body`.
pub(crate) fn sharing<R>(body: &Bytes, decode: impl FnOnce() -> R) -> R {
    if body.len() < SHARE {
        return decode();
    }
    let before = SHARED.replace(Some(body.clone()));
    let _restore = Restore(before);
    decode()
}

struct Restore(Option<Bytes>);

impl Drop for Restore {
    fn drop(&mut self) {
        SHARED.set(self.0.take());
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&STANDARD.encode(&self.0));
        }
        if self.len() < HAND_OFF {
            return serializer.serialize_bytes(self);
        }
        OFFER.set(Some(self.0.clone()));
        let done = serializer.serialize_bytes(self);
        OFFER.set(None);
        done
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Base64)
        } else {
            deserializer.deserialize_bytes(Raw)
        }
    }
}

struct Raw;

impl Visitor<'_> for Raw {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        let shared = SHARED.with_borrow(|shared| {
            let frame = shared.as_ref()?;
            let (outer, inner) = (frame.as_ptr_range(), bytes.as_ptr_range());
            let within = !bytes.is_empty() && outer.start <= inner.start && inner.end <= outer.end;
            within.then(|| frame.slice_ref(bytes))
        });
        Ok(Blob(shared.unwrap_or_else(|| Bytes::copy_from_slice(bytes))))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }
}

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a base64 string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
        STANDARD.decode(text).map(Blob::from).map_err(|error| E::custom(format_args!("base64: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, buffer::FrameBuf};

    #[test]
    fn large_blobs_are_never_copied() {
        let blob = Blob::from(vec![7; 64 << 10]);
        let mut out = FrameBuf::default();
        Codec::Bincode.encode(&(1u8, &blob, 2u8), &mut out).unwrap();
        assert!(out.data().len() < 16, "only what stands around it is copied");

        let body = Bytes::from(out.gather(FrameBuf::default().mark()));
        let (_, decoded, _): (u8, Blob, u8) = Codec::Bincode.decode(&body).unwrap();
        assert_eq!(decoded, blob);
        assert!(body.as_ptr_range().contains(&decoded.as_ptr()));
    }
}
