//! How long a piece of work took.

use std::time::{Duration, Instant};

/// Reads the clock, and where it matters also what the thread itself has spent: on a busy machine a thread may have to wait
/// in the middle of its work.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    /// What the thread had spent by then.
    spent: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), spent: None }
    }

    /// Leaves out what the thread waits. That takes a system call, twice.
    pub(crate) fn of_thread() -> Self {
        Self { began: Instant::now(), spent: thread_time() }
    }

    /// With all waiting.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Without the waiting, if it was started so and the system can say it.
    pub(crate) fn spent(&self) -> Duration {
        let spent = self.spent.and_then(|before| Some(thread_time()?.saturating_sub(before)));
        spent.unwrap_or_else(|| self.elapsed())
    }
}

#[cfg(target_os = "linux")]
fn thread_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::ThreadCPUTime).try_into().ok()
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> Option<Duration> {
    None
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a thread that waits is what this is about")]
    fn waiting_is_left_out() {
        let watch = Stopwatch::of_thread();
        std::thread::sleep(Duration::from_millis(20));
        assert!(watch.elapsed() >= Duration::from_millis(20));
        assert!(watch.spent() < Duration::from_millis(20), "{:?}", watch.spent());
        assert!(Stopwatch::start().spent() > Duration::ZERO);
    }
}
