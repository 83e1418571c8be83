//! Key of a call, hashed.

use std::{
    io::{Cursor, Write},
    net::IpAddr,
    sync::Arc,
};

/// Key of a call: its bytes and their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallKey {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) hashes: Key,
}

impl CallKey {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), hashes: Key::new(bytes) }
    }
}

/// Hashes of a call's key: the same in every process, on every machine, in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) crc: u32,
    /// Position on a ring.
    pub(crate) position: u32,
}

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { crc: crc32fast::hash(bytes), position: (spread(fnv(bytes)) >> 32) as u32 }
    }

    /// 64 well-mixed bits.
    pub(super) fn hash(self) -> u64 {
        spread(u64::from(self.position) << 32 | u64::from(self.crc))
    }

    /// Key of an address as it is written, without a port.
    pub(crate) fn of_address(address: IpAddr) -> Self {
        let mut text = Cursor::new([0; LONGEST_ADDRESS]);
        // The longest address fits, so the write cannot fail.
        let _ = write!(text, "{}", address.to_canonical());
        let length = text.position() as usize;
        Self::new(&text.get_ref()[..length])
    }
}

/// An IPv6 address that ends in an IPv4 address.
const LONGEST_ADDRESS: usize = 45;

/// FNV-1a: the same on every machine, which the standard hasher is not.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Lets every bit of a number count in every bit of another.
pub(super) fn spread(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}
