//! Bounds for what a server does at once, over all its connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Time after which a caller that was refused for lack of capacity should come back.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Bounded counters of calls in flight and of the bytes of their requests. The bounds are looked at before a call is decoded
/// and counted when it outlives its first poll: threads that look at the same moment may exceed them by one call each.
#[derive(Debug)]
pub(crate) struct Capacity {
    calls: AtomicUsize,
    max_calls: usize,
    bytes: AtomicUsize,
    max_bytes: usize,
}

/// A call's share of the capacity, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    capacity: Arc<Capacity>,
    bytes: usize,
}

/// The bound that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Calls,
    Bytes,
}

impl Capacity {
    pub(crate) fn new(max_calls: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), max_calls, bytes: AtomicUsize::new(0), max_bytes })
    }

    /// Returns an error if there is no room for another call with a request of `bytes` bytes.
    #[inline]
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Full> {
        if self.calls.load(Ordering::Acquire) >= self.max_calls {
            return Err(Full::Calls);
        }
        // A request that exceeds the bound by itself is taken while nothing else is held.
        let held = self.bytes.load(Ordering::Acquire);
        if held > 0 && held.saturating_add(bytes) > self.max_bytes {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    /// Counts a call.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Permit { capacity: self.clone(), bytes }
    }
}

impl Permit {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.capacity.calls.fetch_sub(1, Ordering::AcqRel);
        self.capacity.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let capacity = Capacity::new(2, 10);
        let first = capacity.take(7);
        assert_eq!((capacity.check(3), capacity.check(4)), (Ok(()), Err(Full::Bytes)));
        let second = capacity.take(1);
        assert_eq!(capacity.check(0), Err(Full::Calls));
        drop((first, second));
        assert_eq!(capacity.check(100), Ok(()), "a large request is served while nothing else is");
    }
}
