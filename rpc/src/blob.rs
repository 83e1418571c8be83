use std::{cell::RefCell, fmt, ops::Deref};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

use crate::buffer::{FrameBuf, HAND_OFF};

/// Smaller bodies are copied: that costs less than to count the owners of the read buffer.
pub(crate) const SHARE: usize = 1 << 10;

/// Returns true if bytes are worth keeping an allocation of this size alive: at least a quarter of it. Others are copied.
#[inline]
pub(crate) fn worth_sharing(bytes: usize, allocation: usize) -> bool {
    bytes >= SHARE && bytes >= allocation / 4
}

/// Bytes that are not copied on their way: decoded as a slice of the received memory, if they are at least a quarter of it,
/// and encoded by handing them to the socket (from 8 KiB), in bincode and MessagePack and uncompressed. In JSON they are a base64
/// string (RFC 4648, with padding).
///
/// Use it instead of `Vec<u8>`, which serde takes one byte at a time.
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
    /// The body that is being decoded, for blobs to be slices of, and the size of its allocation.
    static SHARED: RefCell<Option<(Bytes, usize)>> = const { RefCell::new(None) };
}

/// Appends bytes of a value, without a copy if they are the content of the blob that is being serialized.
#[inline]
pub(crate) fn write(bytes: &[u8], out: &mut FrameBuf) {
    if bytes.len() >= HAND_OFF
        && let Some(shared) = OFFER.with_borrow_mut(|offer| offer.take_if(|offer| std::ptr::eq(&**offer, bytes)))
    {
        out.hand_off(shared);
    } else {
        out.data().extend_from_slice(bytes);
    }
}

/// Runs `decode`, in which blobs become slices of `body` if they are worth keeping its allocation of this size alive.
pub(crate) fn sharing<R>(body: &Bytes, allocation: usize, decode: impl FnOnce() -> R) -> R {
    if !worth_sharing(body.len(), allocation) {
        return decode();
    }
    let before = SHARED.replace(Some((body.clone(), allocation)));
    let _restore = Restore(before);
    decode()
}

struct Restore(Option<(Bytes, usize)>);

impl Drop for Restore {
    fn drop(&mut self) {
        SHARED.set(self.0.take());
    }
}

/// Takes an offer back that no writer took, also if the serializer panics.
struct Withdraw;

impl Drop for Withdraw {
    fn drop(&mut self) {
        OFFER.set(None);
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
        let _withdraw = Withdraw;
        serializer.serialize_bytes(self)
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
            let (frame, allocation) = shared.as_ref()?;
            let (outer, inner) = (frame.as_ptr_range(), bytes.as_ptr_range());
            let within = outer.start <= inner.start && inner.end <= outer.end;
            (within && worth_sharing(bytes.len(), *allocation)).then(|| frame.slice_ref(bytes))
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
        for codec in [Codec::Bincode, Codec::MessagePack] {
            let blob = Blob::from(vec![7; 64 << 10]);
            let mut out = FrameBuf::default();
            codec.encode(&(1u8, &blob, 2u8), &mut out).unwrap();
            assert!(out.data().len() < 16, "only what stands around it is copied");

            let body = out.to_bytes();
            let (_, decoded, _): (u8, Blob, u8) = codec.decode(&body, body.len()).unwrap();
            assert_eq!(decoded, blob);
            assert!(body.as_ptr_range().contains(&decoded.as_ptr()));
        }
    }

    #[test]
    fn a_blob_keeps_only_memory_of_which_it_is_a_good_part() {
        for codec in [Codec::Bincode, Codec::MessagePack] {
            let (small, half) = (Blob::from(vec![1; 2000]), Blob::from(vec![2; 32 << 10]));
            let mut out = FrameBuf::default();
            codec.encode(&(&small, &half), &mut out).unwrap();
            let body = out.to_bytes();
            let inside = |blob: &Blob| body.as_ptr_range().contains(&blob.as_ptr());
            let (few, many): (Blob, Blob) = codec.decode(&body, 64 << 10).unwrap();
            assert_eq!((&few, &many), (&small, &half));
            assert_eq!((inside(&few), inside(&many)), (false, true));
            let (_, many): (Blob, Blob) = codec.decode(&body, 1 << 20).unwrap();
            assert!(!inside(&many), "it is a small part of what it came in");
        }
    }
}
