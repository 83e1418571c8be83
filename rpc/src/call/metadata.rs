//! Pairs that travel with a call, or back with its answer.

use std::fmt;

use bytes::Bytes;

use crate::proto::{BadHead, append_pair, read_pairs};

/// Keys and values that travel with a call, in either direction. Cheap to clone.
///
/// Values are text, or any bytes under a key that ends in `-bin`. Keys have 1 to 255 bytes, values at most 65,535, all pairs
/// together about 16 KiB. A key may occur more than once; keys that begin with `ms.` belong to the framework.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// As on the wire: the count and the pairs; empty without any.
    encoded: Bytes,
}

impl Metadata {
    /// Keys with this ending hold any bytes.
    pub const BINARY_SUFFIX: &str = "-bin";

    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// `encoded`: the pairs of a head that was checked.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Self {
        if encoded.len() > 1 { Self { encoded: Bytes::copy_from_slice(encoded) } } else { Self::default() }
    }

    /// The form on the wire.
    pub(crate) fn encoded(&self) -> &[u8] {
        if self.encoded.is_empty() { &[0] } else { &self.encoded }
    }

    /// Returns true if there is no pair.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Adds a text.
    ///
    /// # Errors
    /// The key is empty, too long or ends in `-bin`; the value is too long; there are 255 pairs already.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), InvalidMetadata> {
        if key.ends_with(Self::BINARY_SUFFIX) {
            return Err(invalid(key, "a key that ends in `-bin` holds bytes: use `insert_bytes`"));
        }
        self.append(key, value.as_bytes())
    }

    /// Adds bytes; `key` ends in `-bin`.
    ///
    /// # Errors
    /// The key is too long or does not end in `-bin`; the value is too long; there are 255 pairs already.
    pub fn insert_bytes(&mut self, key: &str, value: &[u8]) -> Result<(), InvalidMetadata> {
        if !key.ends_with(Self::BINARY_SUFFIX) {
            return Err(invalid(key, "bytes need a key that ends in `-bin`"));
        }
        self.append(key, value)
    }

    fn append(&mut self, key: &str, value: &[u8]) -> Result<(), InvalidMetadata> {
        if key.is_empty() {
            return Err(invalid(key, "a key has at least one byte"));
        }
        let mut encoded = Vec::from(std::mem::take(&mut self.encoded));
        let appended = append_pair(&mut encoded, key, value);
        self.encoded = encoded.into();
        appended.map_err(|BadHead(reason)| invalid(key, reason))
    }

    /// Adds pairs, as far as there is room for them.
    pub(crate) fn append_all(&mut self, other: &Self) {
        let mut encoded = Vec::from(std::mem::take(&mut self.encoded));
        // Beyond 255 pairs there is no room.
        let _ = other.iter().try_for_each(|(key, value)| append_pair(&mut encoded, key, value));
        self.encoded = encoded.into();
    }

    /// The first text under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_bytes(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value under `key`, as bytes.
    pub fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        read_pairs(&self.encoded)
    }
}

/// A pair of metadata that cannot travel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata {key:?}: {reason}")]
#[non_exhaustive]
pub struct InvalidMetadata {
    /// Its key.
    pub key: String,
    /// The broken rule.
    pub reason: String,
}

pub(super) fn invalid(key: &str, reason: &str) -> InvalidMetadata {
    InvalidMetadata { key: key.to_owned(), reason: reason.to_owned() }
}

/// Prints keys alone: values may be secrets.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_kept_in_order() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "blue").unwrap();
        metadata.insert_bytes("trace-bin", &[0xff, 0]).unwrap();
        metadata.insert("tenant", "red").unwrap();
        assert_eq!((metadata.get("tenant"), metadata.get_bytes("trace-bin")), (Some("blue"), Some(&[0xff, 0][..])));
        assert_eq!((metadata.get("trace-bin"), metadata.get("other"), metadata.iter().count()), (None, None, 3));
        assert_eq!(Metadata::from_encoded(metadata.encoded()), metadata);
        assert_eq!(Metadata::from_encoded(Metadata::new().encoded()), Metadata::new());
        assert!(!format!("{metadata:?}").contains("blue"));
    }

    #[test]
    fn a_pair_that_cannot_travel_is_refused_and_named() {
        let mut metadata = Metadata::new();
        for refused in [
            metadata.insert("", "x"),
            metadata.insert("raw-bin", "x"),
            metadata.insert_bytes("raw", b"x"),
            metadata.insert(&"k".repeat(256), "x"),
            metadata.insert("long", &"x".repeat(65_536)),
        ] {
            refused.unwrap_err();
        }
        assert!(metadata.is_empty());
        (0..255).for_each(|_| metadata.insert("k", "v").unwrap());
        assert!(metadata.insert("k", "v").unwrap_err().reason.contains("255"));
        assert_eq!(metadata.iter().count(), 255);
    }
}
