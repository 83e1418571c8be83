//! Until when a leader may take itself for one. Time is counted by a clock that goes on while the machine is suspended.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, time::sleep};

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment on a clock that goes on while the machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self(now())
    }
}

/// Nanoseconds since the machine started.
fn now() -> u64 {
    let time = clock_gettime(CLOCK);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// End of the time for which a renewal that was sent then is relied on: two thirds of what the registry grants. The rest is for
/// clocks that do not go equally fast.
fn until(sent: u64, granted: Duration) -> u64 {
    sent.saturating_add(u64::try_from(granted.as_nanos()).unwrap_or(u64::MAX) / 3 * 2)
}

/// One candidate's term: first wanted, then led, then over. Once over, it stays so.
#[derive(Debug)]
pub struct Term {
    /// Up to which moment the registry has confirmed that nobody else can lead.
    until: AtomicU64,
    begun: AtomicBool,
    over: watch::Sender<bool>,
}

/// No moment, and before all.
const OVER: u64 = 0;

impl Term {
    /// A machine that was suspended is seen to have been so within this time.
    const LOOK: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self { until: AtomicU64::new(1), begun: AtomicBool::new(false), over: watch::Sender::new(false) }
    }

    /// Notes that the registry has confirmed the candidate: nobody else can lead for `granted` from the moment when the
    /// confirmation was *asked for*. False: it came too late, and the term is over.
    pub fn confirm(&self, asked: Moment, granted: Duration) -> bool {
        self.confirm_at(until(asked.0, granted), now())
    }

    fn confirm_at(&self, until: u64, now: u64) -> bool {
        loop {
            let seen = self.until.load(Ordering::Acquire);
            if seen == OVER || (self.begun.load(Ordering::Acquire) && now >= seen) {
                self.end();
                return false;
            }
            // If another thread ends the term concurrently, the exchange fails and the loop looks again; ending wins.
            if self.until.compare_exchange(seen, seen.max(until), Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return true;
            }
        }
    }

    /// Begins the term. False: the confirmed time has passed meanwhile, and it does not begin.
    pub(crate) fn begin(&self) -> bool {
        let begins = self.is_confirmed();
        self.begun.store(begins, Ordering::Release);
        begins
    }

    /// Returns true if the registry has confirmed the candidate lately, elected or not.
    pub(crate) fn is_confirmed(&self) -> bool {
        now() < self.until.load(Ordering::Acquire)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.left(now()).is_some()
    }

    /// How long it lasts if nothing more is confirmed; `None`: it is over.
    fn left(&self, now: u64) -> Option<Duration> {
        loop {
            let seen = self.until.load(Ordering::Acquire);
            if now < seen {
                return Some(Duration::from_nanos(seen - now));
            }
            if seen == OVER || self.until.compare_exchange(seen, OVER, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return None;
            }
        }
    }

    pub(crate) fn end(&self) {
        self.until.store(OVER, Ordering::Release);
        self.over.send_replace(true);
    }

    /// Waits until it is over.
    pub(crate) async fn over(&self) {
        let mut over = self.over.subscribe();
        while let Some(left) = self.left(now()) {
            tokio::select! {
                // An error cannot be: the sender is `self`.
                _ = over.wait_for(|over| *over) => return,
                () = sleep(left.min(Self::LOOK)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_the_lease_count_from_the_moment_of_asking() {
        assert_eq!(until(1_000, Duration::from_nanos(300)), 1_200);
        assert_eq!(until(u64::MAX - 1, Duration::from_secs(1)), u64::MAX);
        let (first, second) = (now(), now());
        assert!(0 < first && first <= second);
    }

    #[test]
    fn what_is_over_stays_so() {
        let term = Term::new();
        assert!(!term.begin(), "nothing is confirmed yet");
        assert!(term.confirm_at(100, 50) && term.confirm_at(400, 200), "a candidate may be late");
        assert!(term.confirm_at(300, 200), "an older answer takes nothing back");
        term.begun.store(true, Ordering::Release);
        assert_eq!(term.left(399), Some(Duration::from_nanos(1)));
        assert!(term.confirm_at(500, 399));
        assert!(!term.confirm_at(900, 500), "the confirmation comes too late");
        assert!(term.left(0).is_none() && !term.confirm_at(900, 1));
    }

    #[test]
    fn whoever_looks_too_late_ends_it() {
        let term = Term::new();
        assert!(term.confirm_at(100, 50));
        assert!(term.left(99).is_some() && term.left(100).is_none());
        assert!(!term.confirm_at(900, 60));
        assert!(term.left(60).is_none());
    }

    #[tokio::test]
    async fn its_end_is_told() {
        let term = Term::new();
        assert!(term.confirm(Moment::now(), Duration::from_millis(30)) && term.begin() && term.is_live());
        term.over().await;
        assert!(!term.is_live(), "by the clock");
        let term = Term::new();
        assert!(term.confirm(Moment::now(), Duration::MAX) && term.begin());
        tokio::join!(term.over(), async { term.end() });
        assert!(!term.is_live(), "by word");
    }
}
