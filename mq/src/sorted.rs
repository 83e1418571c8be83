//! An ordered map for millions of small entries that come mostly in their order. Pure.
//!
//! The standard library's tree leaves its nodes half empty when keys rise; here they are full then, which is half of the
//! memory.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound::{Excluded, Included, Unbounded},
};

/// Entries by their keys, in chunks that are found by the least key that they may have.
#[derive(Debug)]
pub(crate) struct Sorted<K, V = ()> {
    chunks: BTreeMap<K, Vec<(K, V)>>,
    length: usize,
}

/// The entries of a map that is taken apart.
pub(crate) type Entries<K, V> = std::iter::Flatten<btree_map::IntoValues<K, Vec<(K, V)>>>;

/// Entries of a full chunk: moving half of them costs less than a miss of the cache.
const CHUNK: usize = 64;

impl<K: Copy + Ord, V> Sorted<K, V> {
    pub(crate) fn new() -> Self {
        Self { chunks: BTreeMap::new(), length: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (_, chunk) = self.chunks.range(..=key).next_back()?;
        chunk.binary_search_by_key(key, |(key, _)| *key).ok().map(|at| &chunk[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (_, chunk) = self.chunks.range_mut(..=key).next_back()?;
        chunk.binary_search_by_key(key, |(key, _)| *key).ok().map(|at| &mut chunk[at].1)
    }

    /// Returns what the key had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let rises = self.chunks.last_key_value().is_some_and(|(least, _)| *least <= key);
        let chunk = if rises {
            self.chunks.last_entry().map(|last| last.into_mut())
        } else {
            self.chunks.range_mut(..=key).next_back().map(|(_, chunk)| chunk)
        };
        let Some(chunk) = chunk else {
            // Below all others.
            self.chunks.insert(key, vec![(key, value)]);
            self.length += 1;
            return None;
        };
        let at = match chunk.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => return Some(std::mem::replace(&mut chunk[at].1, value)),
            Err(at) => at,
        };
        self.length += 1;
        if chunk.len() < CHUNK {
            chunk.insert(at, (key, value));
        } else if at == CHUNK {
            // The next ones come here, most likely.
            let mut next = Vec::with_capacity(CHUNK);
            next.push((key, value));
            self.chunks.insert(key, next);
        } else {
            let mut upper = chunk.split_off(CHUNK / 2);
            match at.checked_sub(CHUNK / 2) {
                Some(at) if at > 0 => upper.insert(at, (key, value)),
                _ => chunk.insert(at, (key, value)),
            }
            self.chunks.insert(upper[0].0, upper);
        }
        None
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (least, chunk) = self.chunks.range_mut(..=key).next_back()?;
        let at = chunk.binary_search_by_key(key, |(key, _)| *key).ok()?;
        let (_, value) = chunk.remove(at);
        self.length -= 1;
        if chunk.is_empty() {
            let least = *least;
            self.chunks.remove(&least);
        } else if chunk.len() < chunk.capacity() / 4 {
            // Few that stay for long must not hold the room of many.
            chunk.shrink_to(2 * chunk.len());
        }
        Some(value)
    }

    pub(crate) fn first(&self) -> Option<&K> {
        self.chunks.values().next().and_then(|chunk| chunk.first()).map(|(key, _)| key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.values().flatten().map(|(key, value)| (key, value))
    }

    pub(crate) fn into_entries(self) -> Entries<K, V> {
        self.chunks.into_values().flatten()
    }

    /// The entries above `key`.
    pub(crate) fn above(&self, key: K) -> impl Iterator<Item = (&K, &V)> {
        let least = self.chunks.range(..=key).next_back().map(|(least, _)| *least);
        let chunks = self.chunks.range((least.map_or(Excluded(key), Included), Unbounded));
        chunks.flat_map(|(_, chunk)| chunk).skip_while(move |(other, _)| *other <= key).map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In any order, against the standard library's.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..600_u16), 0..3000), after in 0..600_u16) {
            let (mut sorted, mut tree) = (Sorted::new(), BTreeMap::new());
            for (step, (insert, key)) in steps.into_iter().enumerate() {
                if insert {
                    prop_assert_eq!(sorted.insert(key, step), tree.insert(key, step));
                } else {
                    prop_assert_eq!(sorted.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(sorted.get(&key), tree.get(&key));
                prop_assert_eq!(sorted.get_mut(&key), tree.get_mut(&key));
                prop_assert_eq!(sorted.len(), tree.len());
                prop_assert_eq!(sorted.first(), tree.first_key_value().map(|(key, _)| key));
            }
            prop_assert!(sorted.iter().eq(tree.iter()));
            prop_assert!(sorted.above(after).eq(tree.range((Excluded(after), Unbounded))));
        }
    }

    #[test]
    fn rising_keys_fill_the_chunks_and_few_that_stay_hold_little() {
        let mut sorted = Sorted::new();
        (0..64_000).for_each(|key| assert_eq!(sorted.insert(key, key), None));
        assert_eq!(sorted.chunks.len(), 1000);
        (0..64_000).filter(|key| key % CHUNK != 5).for_each(|key| assert_eq!(sorted.remove(&key), Some(key)));
        assert_eq!(sorted.len(), 1000);
        let room: usize = sorted.chunks.values().map(Vec::capacity).sum();
        assert!(room <= 8000, "{room}");
        assert_eq!((0..64_000).filter_map(|key| sorted.remove(&key)).count(), 1000);
        assert!(sorted.chunks.is_empty());
    }
}
