//! A ring of hashes: every instance has many points on it, and a key belongs to the next point.

use super::key::{fnv, spread};

/// Points of an instance of weight 1. With 64 the shares of equal instances differ by about an eighth.
const POINTS: f64 = 64.0;
/// A weight above this counts as this.
const HEAVIEST: f64 = 10.0;

/// Where an instance's points are depends on nothing but its id and weight: so the others' keys stay when it goes.
#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted: the position in the upper half, the place in the lower.
    points: Box<[u64]>,
}

impl Ring {
    pub(super) fn new<'a>(instances: impl Iterator<Item = (u32, &'a str, f64)>) -> Self {
        let mut points = Vec::new();
        for (place, id, weight) in instances {
            let (hash, count) = (fnv(id.as_bytes()), (weight.min(HEAVIEST) * POINTS).ceil() as u64);
            points.extend((0..count).map(|point| {
                let position = spread(hash.wrapping_add(point.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                (position >> 32 << 32) | u64::from(place)
            }));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The places from `position` on, once round, most of them several times.
    #[inline]
    pub(super) fn from(&self, position: u32) -> impl Iterator<Item = u32> {
        let first = self.points.partition_point(|point| (point >> 32) as u32 <= position);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|point| *point as u32)
    }
}
