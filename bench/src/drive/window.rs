//! The measured window: opened after the warm-up, closed after its time; and the latencies seen in it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::{Latency, Pace, Plan, Seen, Told, say};
use crate::{peer::Failure, process::Usage};

/// The longest latency that is told apart.
const LONGEST: Duration = Duration::from_secs(60);

/// Where the run stands, and what was timed so far.
#[derive(Debug)]
pub(super) struct Window {
    open: AtomicBool,
    latencies: Mutex<Histogram<u64>>,
}

impl Window {
    /// Not open yet.
    pub(super) fn new() -> Result<Self, Failure> {
        let latencies = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)?;
        Ok(Self { open: AtomicBool::new(false), latencies: Mutex::new(latencies) })
    }

    /// One more call has ended; it counts if the window is open.
    pub(super) fn record(&self, latency: Duration) {
        if self.open.load(Relaxed) {
            self.latencies().saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Takes the run through its window while `tasks` work, and reports it: the calls are those recorded if the plan
    /// times them all, else what `counted` has grown by. A task that ends, ends the run.
    pub(super) async fn watch(
        &self,
        plan: Plan,
        counted: impl Fn() -> u64,
        tasks: &mut JoinSet<Result<(), Failure>>,
    ) -> Result<(), Failure> {
        pass(plan.warm_up_ms, tasks).await?;
        say(Told::Begun)?;
        let (usage, begin, before) = (Usage::now()?, Instant::now(), counted());
        self.open.store(true, Relaxed);
        pass(plan.window_ms, tasks).await?;
        self.open.store(false, Relaxed);
        let (seconds, counted, Usage { cpu_us, rss }) = (begin.elapsed().as_secs_f64(), counted(), Usage::now()?);
        let mut seen = Seen { calls: counted - before, seconds, latency: None, cpu_us: cpu_us - usage.cpu_us, rss };
        if plan.is_timed() {
            let latencies = self.latencies();
            let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
            if plan.pace != Pace::Beside {
                seen.calls = latencies.len();
            }
            seen.latency = Some(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) });
        }
        say(Told::Ended(seen))
    }

    fn latencies(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pass(milliseconds: u64, tasks: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(milliseconds)) => Ok(()),
        Some(ended) = tasks.join_next() => match ended? {
            Ok(()) => Err("a task ended before its time".into()),
            Err(failure) => Err(failure),
        },
    }
}
