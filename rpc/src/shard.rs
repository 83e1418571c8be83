//! Counters that many threads write at once, spread over cache lines: two cores that count in one line wait for each other
//! longer than most calls take.

use std::{
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

const SHARDS: usize = 16;

thread_local! {
    static SHARD: usize = shard();
}

/// Hasher that keeps the one number that an id consists of.
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |number, byte| number.wrapping_mul(31) + u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The number within an id that counts up, such as a thread's or a task's.
#[inline]
pub(crate) fn number_of(id: &impl Hash) -> u64 {
    let mut number = Number(0);
    id.hash(&mut number);
    number.finish()
}

/// Threads that start one after the other get different shards.
fn shard() -> usize {
    number_of(&std::thread::current().id()) as usize % SHARDS
}

/// Shared ownership whose reference counts are one per thread, as far as there are shards.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Arc<Share<T>>]>,
}

/// One thread's share of it.
#[derive(Debug)]
pub struct Share<T>(Arc<T>);

impl<T> Deref for Share<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Sharded<T> {
    /// Shares `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::new(Share(value.clone()))).collect() }
    }

    /// Another owner, counted on this thread's shard.
    #[inline]
    pub fn share(&self) -> Arc<Share<T>> {
        SHARD.with(|shard| self.shards[*shard].clone())
    }
}

impl<T> Deref for Sharded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shards[0]
    }
}

/// A value for each thread, as far as there are shards.
#[derive(Debug, Default)]
pub(crate) struct PerThread<T = AtomicU32> {
    shards: [Line<T>; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> PerThread<T> {
    /// The value of this thread.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        SHARD.with(|shard| &self.shards[*shard].0)
    }

    /// The values of all threads.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|line| &line.0)
    }
}

/// A counter that goes up by one, for each thread by itself.
#[derive(Debug, Default)]
pub(crate) struct Cursor(PerThread);

impl Cursor {
    /// The count before.
    #[inline]
    pub(crate) fn advance(&self) -> u32 {
        // Load and store, not one atomic step: threads that share a shard may see the same count, which costs only evenness.
        let count = self.0.mine();
        let before = count.load(Ordering::Relaxed);
        count.store(before.wrapping_add(1), Ordering::Relaxed);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_value_however_shared() {
        let value = Arc::new(7);
        let sharded = Sharded::new(value.clone());
        let shared = std::thread::scope(|scope| scope.spawn(|| sharded.share()).join()).unwrap();
        drop(sharded);
        assert_eq!(**shared, 7);
        drop(shared);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_thread_counts_without_gaps() {
        let cursor = Cursor::default();
        let counted = || (0..5).map(|_| cursor.advance()).collect::<Vec<_>>();
        assert_eq!(counted(), [0, 1, 2, 3, 4]);
        assert_eq!(counted(), [5, 6, 7, 8, 9]);
    }
}
