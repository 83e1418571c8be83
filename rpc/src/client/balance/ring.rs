//! Ring of hashes: each instance has many points on it, and a key belongs to the next point.

use std::{collections::HashMap, sync::Arc};

use super::key::{fnv, spread};

/// Points of an instance of weight 1. With 64 the shares of equal instances differ by about an eighth.
const POINTS: f64 = 64.0;
/// A weight above this counts as this.
const HEAVIEST: f64 = 10.0;

/// Ring of hashes. Points of an instance depend on its id and weight alone, so the others keep their keys when it leaves.
#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted by slot, and so by id.
    members: Box<[Member]>,
    /// Sorted: position in the upper half, slot in the lower.
    points: Box<[u64]>,
}

/// An instance on the ring.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    slot: u32,
    /// Number of points.
    count: u32,
    /// Hash of the id.
    hash: u64,
}

impl Member {
    fn new(slot: u32, id: &str, weight: f64) -> Self {
        Self { slot, count: (weight.min(HEAVIEST) * POINTS).ceil() as u32, hash: fnv(id.as_bytes()) }
    }

    fn points(&self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.count)).map(|point| {
            let position = spread(self.hash.wrapping_add(point.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            at(position, self.slot)
        })
    }
}

/// Joins the upper half of a position with a slot.
fn at(position: u64, slot: u32) -> u64 {
    (position >> 32 << 32) | u64::from(slot)
}

impl Ring {
    /// `before` is a ring of mostly the same instances: it makes this one cheaper and does not change it.
    pub(super) fn new<'a>(
        before: Option<&Arc<Self>>,
        instances: impl Iterator<Item = (u32, &'a str, f64)>,
    ) -> Arc<Self> {
        let members: Box<[_]> = instances.map(|(slot, id, weight)| Member::new(slot, id, weight)).collect();
        if let Some(before) = before.filter(|before| before.members == members) {
            return before.clone();
        }
        let points = before.and_then(|before| before.changed_to(&members));
        Arc::new(Self { points: points.unwrap_or_else(|| sorted(members.iter())).into(), members })
    }

    /// Points of these members. Points of members that stay are neither hashed nor sorted again, but get their new slots.
    /// Returns `None` if there is too little in common.
    fn changed_to(&self, members: &[Member]) -> Option<Vec<u64>> {
        let of_now: HashMap<_, _> = members.iter().map(|member| ((member.hash, member.count), member.slot)).collect();
        let mut slots = vec![GONE; self.members.last()?.slot as usize + 1];
        let mut last = None;
        for member in &self.members {
            let Some(slot) = of_now.get(&(member.hash, member.count)).copied() else { continue };
            // Else two ids have one hash, and their order among equals would not be that of their slots.
            if last.is_some_and(|last| last >= slot) {
                return None;
            }
            last = Some(slot);
            slots[member.slot as usize] = slot;
        }
        let mut kept = slots.iter().copied().filter(|slot| *slot != GONE).peekable();
        let new: Vec<_> = members.iter().filter(|member| kept.next_if_eq(&member.slot).is_none()).collect();
        if new.len() > members.len() / 2 {
            return None;
        }
        let mut new = sorted(new.into_iter()).into_iter().peekable();
        let mut points = Vec::with_capacity(members.iter().map(|member| member.count as usize).sum());
        for point in &*self.points {
            let slot = slots[*point as u32 as usize];
            if slot == GONE {
                continue;
            }
            let point = at(*point, slot);
            while let Some(before) = new.next_if(|new| *new < point) {
                points.push(before);
            }
            points.push(point);
        }
        points.extend(new);
        Some(points)
    }

    /// Slots from `position` on, once round, most of them several times.
    #[inline]
    pub(super) fn from(&self, position: u32) -> impl Iterator<Item = u32> {
        let first = self.points.partition_point(|point| (point >> 32) as u32 <= position);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|point| *point as u32)
    }
}

/// Marks a slot whose member is gone.
const GONE: u32 = u32::MAX;

fn sorted<'a>(members: impl Iterator<Item = &'a Member> + Clone) -> Vec<u64> {
    let mut points = Vec::with_capacity(members.clone().map(|member| member.count as usize).sum());
    points.extend(members.flat_map(Member::points));
    points.sort_unstable();
    points
}

#[cfg(test)]
mod tests;
