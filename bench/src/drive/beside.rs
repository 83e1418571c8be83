//! Calls that compute, as many as are in flight, each followed by the next; and quick ones beside them, on a schedule.
//!
//! The schedule is the runtime's timer, which is late by up to a millisecond; a loop that spins would be more exact, and
//! take a core from those that compute. Lateness counts as latency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Plan, Work, window::Window};
use crate::peer::{Caller, Failure};

/// Between one quick call and the next.
const EVERY: Duration = Duration::from_millis(2);

/// Makes calls until the plan's window is over.
pub(super) async fn run<C: Caller>(callers: Vec<C>, work: &Work, plan: Plan) -> Result<(), Failure> {
    let (window, computed) = (Arc::new(Window::new()?), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for index in 0..plan.in_flight {
        tasks.spawn(compute(callers[index % callers.len()].clone(), index, computed.clone()));
    }
    for caller in callers {
        tasks.spawn(call_on_schedule(caller, work.clone(), window.clone()));
    }
    window.watch(plan, || computed.load(Relaxed), &mut tasks).await
}

async fn compute<C: Caller>(mut caller: C, index: usize, computed: Arc<AtomicU64>) -> Result<(), Failure> {
    let mut number = (index as i64) << 32;
    loop {
        number += 1;
        match caller.compute(number).await? {
            same if same == number => computed.fetch_add(1, Relaxed),
            other => return Err(format!("sent {number} to compute with, and got {other}").into()),
        };
    }
}

/// Each begins at its time, whether or not the one before has ended.
async fn call_on_schedule<C: Caller>(caller: C, work: Work, window: Arc<Window>) -> Result<(), Failure> {
    let (mut under_way, mut due) = (JoinSet::<Result<(), Failure>>::new(), Instant::now());
    for id in 0.. {
        due += EVERY;
        sleep_until(due).await;
        let (mut caller, work, window) = (caller.clone(), work.clone(), window.clone());
        under_way.spawn(async move {
            work.call(&mut caller, id).await?;
            window.record(due.elapsed());
            Ok(())
        });
        while let Some(ended) = under_way.try_join_next() {
            ended??;
        }
    }
    Ok(())
}
