//! How much a server does at once, over all its connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Who is refused because there is too much to do should come back after this time.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Counts something that there may only be so much of. The limit is looked at before the work and counted with it: threads
/// that look at the same moment may go one over it each.
#[derive(Debug)]
pub(crate) struct Load {
    count: AtomicUsize,
    most: usize,
}

impl Load {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), most })
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= self.most
    }

    pub(crate) fn enter(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts `amount` until the guard is dropped; `None` if that would be too much.
    pub(crate) fn take(self: &Arc<Self>, amount: usize) -> Option<Taken> {
        let before = self.count.fetch_add(amount, Ordering::AcqRel);
        let taken = Taken { load: self.clone(), amount };
        (before + amount <= self.most).then_some(taken)
    }
}

/// A part of a [`Load`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    load: Arc<Load>,
    amount: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.load.count.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let load = Load::new(10);
        let seven = load.take(7).unwrap();
        assert!(load.take(4).is_none());
        let three = load.take(3).unwrap();
        assert!(load.is_full());
        drop((seven, three));
        assert!(load.take(10).is_some());
    }
}
