use std::time::{Duration, Instant};

use crate::server::{
    pace::{self, Pace, Threads},
    stopwatch::Stopwatch,
};

/// Times the polls of one connection: see [`pace`].
#[derive(Debug, Default)]
pub(in crate::server) struct Timing {
    /// True if a call of this batch was not timed.
    untimed: bool,
    /// Number of polls that are timed, whatever is known of their methods.
    suspicious: u32,
    /// Time of the timed polls of this batch.
    spent: Duration,
}

impl Timing {
    /// After a batch that took long, so many polls are timed.
    const SUSPICIOUS: u32 = 64;

    /// Polls in place, unless the method belongs elsewhere. Returns true if the call is answered.
    #[inline]
    pub(in crate::server) fn poll_in_place(&mut self, pace: &Pace, poll: impl FnOnce() -> bool) -> bool {
        if self.suspicious == 0 && !pace.is_probed() {
            self.untimed = true;
            return poll();
        }
        if pace.threads() != Threads::InPlace {
            return false;
        }
        let watch = if pace.is_probed() { Stopwatch::of_thread() } else { Stopwatch::start() };
        let answered = poll();
        let spent = watch.spent();
        pace.observe(&spent);
        self.suspicious = self.suspicious.saturating_sub(1);
        self.spent += spent.wall;
        answered
    }

    /// Adds the time of `work` to the batch, such as decoding many bytes.
    pub(in crate::server) fn count<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let before = Instant::now();
        let result = work();
        self.spent += before.elapsed();
        result
    }

    /// Returns true if the answers so far should leave before another request is taken.
    #[inline]
    pub(in crate::server) fn is_long(&self) -> bool {
        self.spent > pace::LONG
    }

    /// Ends a batch that began at `began`: if it was long, the next polls are timed.
    pub(in crate::server) fn end_batch(&mut self, began: tokio::time::Instant) {
        self.spent = Duration::ZERO;
        if std::mem::take(&mut self.untimed) && began.elapsed() > pace::LONG {
            self.suspicious = Self::SUSPICIOUS;
        }
    }
}
