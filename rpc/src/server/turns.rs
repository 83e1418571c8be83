//! Which connection read last on each thread: one that is always the last is the only one with anything to do.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::shard::PerThread;

/// Of all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    last: PerThread,
    connections: AtomicU32,
}

/// One connection, told apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(u32);

impl Turns {
    /// For a new connection.
    pub(crate) fn number(&self) -> Number {
        // From 1 on, and after four thousand million connections from 0: two of the same number would be taken for one, which
        // costs them nothing but system calls.
        Number(self.connections.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    /// It is this connection's turn; true if it was the last one on this thread too.
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
    fn a_turn_is_one_s_own_again_until_another_has_had_one() {
        let turns = Turns::default();
        let (first, second) = (turns.number(), turns.number());
        assert_eq!(
            [first, first, second, first, first].map(|number| turns.is_again(number)),
            [false, true, false, false, true]
        );
    }
}
