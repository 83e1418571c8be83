//! Closed loops: as many tasks as calls in flight, each making one call after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use super::{Plan, Work, window::Window};
use crate::peer::{Caller, Failure};

/// Makes calls until the plan's window is over.
pub(super) async fn run<C: Caller>(callers: Vec<C>, work: &Work, plan: Plan) -> Result<(), Failure> {
    let window = Arc::new(Window::new()?);
    let counts: Vec<_> = (0..plan.in_flight).map(|_| Arc::new(Count::default())).collect();
    let mut tasks = JoinSet::new();
    for (index, count) in counts.iter().enumerate() {
        let (caller, work) = (callers[index % callers.len()].clone(), work.clone());
        if plan.is_timed() {
            tasks.spawn(timed(caller, work, window.clone()));
        } else {
            tasks.spawn(counted(caller, work, index, count.clone()));
        }
    }
    window.watch(plan, || counts.iter().map(|count| count.0.load(Relaxed)).sum(), &mut tasks).await
}

/// Calls made by one task, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Count {
    /// One more; only one task ever writes.
    fn up(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }
}

/// Without clock reads: latency says little where many calls wait for each other.
async fn counted<C: Caller>(mut caller: C, work: Work, index: usize, count: Arc<Count>) -> Result<(), Failure> {
    let mut id = (index as i64) << 32;
    loop {
        id += 1;
        work.call(&mut caller, id).await?;
        count.up();
    }
}

async fn timed<C: Caller>(mut caller: C, work: Work, window: Arc<Window>) -> Result<(), Failure> {
    let mut id = 0;
    loop {
        id += 1;
        let begin = Instant::now();
        work.call(&mut caller, id).await?;
        window.record(begin.elapsed());
    }
}
