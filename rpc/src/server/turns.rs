//! Answers in parts, while one connection is the only busy one.
//!
//! A client with 64 calls in flight sends all of them, waits for all answers, and sends again: each side sleeps while the
//! other works. A connection that was the last to read on its thread, and reads again, serves no thread-mate: it writes its
//! answers after a quarter of what has arrived, at least 16, so that the client begins with them while the others are made.
//! Measured at 1 x 64 (`bench rpc`): 1.27 times the calls of a hand-written loop instead of 0.72. Among several connections
//! that overlap comes by itself, and more writes only cost. To be deleted when one task reads and another one writes.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::shard::PerThread;

/// Number of parts in which a busy connection answers what has arrived.
pub(crate) const PARTS: usize = 4;
/// A part has at least so many answers, because each part takes a system call.
pub(crate) const SMALLEST_PART: usize = 16;

/// The connection that read last, per thread.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    last: PerThread,
    connections: AtomicU32,
}

/// Number of a connection, unique among the last four thousand million: two with the same number would be taken for one,
/// which costs system calls and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(u32);

impl Turns {
    /// The number of a new connection.
    pub(crate) fn number(&self) -> Number {
        Number(self.connections.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    /// Notes that a connection reads; true if it was the last one to read on this thread too.
    #[inline]
    pub(crate) fn is_again(&self, Number(number): Number) -> bool {
        let last = self.last.mine();
        let again = last.load(Ordering::Relaxed) == number;
        if !again {
            last.store(number, Ordering::Relaxed);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_alone_until_another_one_reads() {
        let turns = Turns::default();
        let (first, second) = (turns.number(), turns.number());
        assert_eq!(
            [first, first, second, first, first].map(|number| turns.is_again(number)),
            [false, true, false, false, true]
        );
    }
}
