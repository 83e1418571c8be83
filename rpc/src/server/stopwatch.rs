//! Time that a piece of work took, and where it went.

use std::time::{Duration, Instant};

/// Readings of one piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// From begin to end.
    pub(crate) wall: Duration,
    /// CPU time of the thread; as `wall` where the system cannot tell.
    pub(crate) cpu: Duration,
    /// The thread gave its CPU up by itself: it slept, or waited for a lock, a disk or a socket.
    pub(crate) slept: bool,
}

/// Reads the clock, and on request what the thread itself has used: on a busy machine a thread may lose its CPU in the middle
/// of its work.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    usage: Option<Usage>,
}

/// A thread's CPU time, and how often it gave its CPU up.
#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu: Duration,
    sleeps: i64,
}

impl Stopwatch {
    /// Reads the clock alone.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), usage: None }
    }

    /// Reads the thread's usage too, which takes a system call at either end.
    pub(crate) fn of_thread() -> Self {
        Self { began: Instant::now(), usage: usage() }
    }

    pub(crate) fn spent(&self) -> Spent {
        let wall = self.began.elapsed();
        match self.usage.and_then(|before| Some((before, usage()?))) {
            Some((before, now)) => {
                Spent { wall, cpu: now.cpu.saturating_sub(before.cpu), slept: now.sleeps > before.sleeps }
            }
            None => Spent { wall, cpu: wall, slept: false },
        }
    }
}

#[cfg(target_os = "linux")]
fn usage() -> Option<Usage> {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::{TimeVal, TimeValLike},
    };
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    let cpu = Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()));
    Some(Usage { cpu, sleeps: usage.voluntary_context_switches() })
}

#[cfg(not(target_os = "linux"))]
fn usage() -> Option<Usage> {
    None
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a thread that sleeps is what this is about")]
    fn sleeping_is_told_from_computing() {
        let watch = Stopwatch::of_thread();
        std::thread::sleep(Duration::from_millis(20));
        let spent = watch.spent();
        assert!(
            spent.wall >= Duration::from_millis(20) && spent.cpu < Duration::from_millis(20) && spent.slept,
            "{spent:?}"
        );
        let watch = Stopwatch::of_thread();
        while watch.spent().cpu < Duration::from_millis(5) {}
        assert!(watch.spent().wall >= Duration::from_millis(4));
    }
}
