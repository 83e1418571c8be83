use std::{cell::RefCell, ops::Deref};

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;

use crate::Codec;
use crate::{
    blob::{SHARE, worth_sharing},
    codec::CodecError,
};

/// Bytes that a frame carries, from some point on. Few bytes are copied: that is cheaper than to share the buffer that they
/// came in, whose owners would have to be counted.
#[derive(Debug)]
pub(crate) enum Body {
    Copied {
        bytes: Recycled,
        start: usize,
    },
    /// Slice of an allocation of this size.
    Shared {
        bytes: Bytes,
        allocation: usize,
    },
}

impl Body {
    /// Returns true if a body of this length is better copied.
    #[inline]
    pub(crate) fn is_small(length: usize) -> bool {
        length < SHARE
    }

    #[inline]
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        Self::Copied { bytes: Recycled::copy_of(bytes), start: 0 }
    }

    /// Forgets the first `count` bytes, of at least as many.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        match self {
            Self::Copied { start, .. } => *start += count,
            Self::Shared { bytes, .. } => bytes.advance(count),
        }
    }

    /// Reads a value that fills it.
    #[inline(always)]
    pub(crate) fn decode<T: DeserializeOwned>(&self, codec: &Codec) -> Result<T, CodecError> {
        match self {
            Self::Copied { .. } => codec.decode_copied(self),
            Self::Shared { bytes, allocation } => codec.decode(bytes, *allocation),
        }
    }

    /// The same bytes for keeping: a slice of a much larger allocation is copied out of it.
    pub(crate) fn compact(self) -> Self {
        match self {
            Self::Shared { bytes, allocation } if !worth_sharing(bytes.len(), allocation) => {
                Bytes::copy_from_slice(&bytes).into()
            }
            other => other,
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied { bytes, start } => &bytes.0[*start..],
            Self::Shared { bytes, .. } => bytes,
        }
    }
}

/// Bytes with an allocation of their own.
impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Shared { allocation: bytes.len(), bytes }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared { allocation: bytes.capacity(), bytes: bytes.into() }
    }
}

/// For keeping, as [`Body::compact`].
impl From<Body> for Bytes {
    fn from(body: Body) -> Self {
        match body.compact() {
            Body::Shared { bytes, .. } => bytes,
            copied @ Body::Copied { .. } => Self::copy_from_slice(&copied),
        }
    }
}

/// Bytes in memory that was used before on this thread, and will be again.
#[derive(Debug)]
pub(crate) struct Recycled(Vec<u8>);

/// Each thread keeps so many: as many as arrive together.
const KEPT: usize = 256;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Recycled {
    #[inline]
    fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        copy.extend_from_slice(bytes);
        Self(copy)
    }
}

impl Drop for Recycled {
    #[inline]
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        // A thread that ends may have no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_copied_or_shared() {
        let all: Vec<u8> = (0..100).collect();
        for mut body in [Body::copied(&all), Body::from(all.clone())] {
            assert_eq!(body[..], all);
            body.advance(30);
            body.advance(30);
            assert_eq!(body[..], all[60..]);
            assert_eq!(Bytes::from(body)[..], all[60..]);
        }
    }

    #[test]
    fn a_small_part_of_an_allocation_is_copied_for_keeping() {
        let read = Bytes::from(vec![7; 64 << 10]);
        for (length, copied) in [(2 << 10, true), (15 << 10, true), (16 << 10, false)] {
            let bytes = read.slice(100..100 + length);
            let kept = Bytes::from(Body::Shared { bytes: bytes.clone(), allocation: read.len() });
            assert_eq!(kept, bytes);
            assert_eq!(kept.as_ptr() != bytes.as_ptr(), copied, "{length}");
        }
        // A buffer that grew beyond what it holds.
        let mut grown = Vec::with_capacity(64 << 10);
        grown.extend_from_slice(&[7; 2000]);
        assert_eq!(Bytes::from(Body::from(grown)).try_into_mut().unwrap().capacity(), 2000);
    }

    #[test]
    fn memory_is_used_again_and_holds_nothing_of_before() {
        let first = Recycled::copy_of(&[1; 100]);
        let place = first.0.as_ptr();
        drop(first);
        let second = Recycled::copy_of(&[2; 50]);
        assert_eq!((second.0.as_ptr(), &second.0[..]), (place, &[2; 50][..]));
    }
}
