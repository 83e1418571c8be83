//! An open loop: calls begin on a schedule, and latency counts from the scheduled moment, so that a stall is charged
//! with every call that it delayed (no coordinated omission).

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::{JoinSet, yield_now};

use super::{Plan, Work, window::Window};
use crate::peer::{Caller, Failure};

/// Makes calls at the plan's rate until its window is over.
pub(super) async fn run<C: Caller>(callers: Vec<C>, work: &Work, plan: Plan) -> Result<(), Failure> {
    if plan.rate <= 0.0 || !plan.rate.is_finite() {
        return Err(format!("a rate of {} calls a second", plan.rate).into());
    }
    let window = Arc::new(Window::new()?);
    let schedule = Arc::new(Schedule { begin: Instant::now(), rate: plan.rate, turns: Mutex::default() });
    let mut tasks = JoinSet::new();
    for index in 0..plan.in_flight {
        let (caller, work) = (callers[index % callers.len()].clone(), work.clone());
        tasks.spawn(call_when_due(caller, work, schedule.clone(), window.clone()));
    }
    tasks.spawn(async move {
        // Spins: a timer would be too coarse by a thousand. It yields to every task that can run, and to the sockets.
        loop {
            schedule.advance();
            yield_now().await;
        }
    });
    window.watch(plan, || 0, &mut tasks).await
}

/// Workers take turns, the one that rested longest first, so that every connection has its share.
async fn call_when_due<C: Caller>(
    mut caller: C,
    work: Work,
    schedule: Arc<Schedule>,
    window: Arc<Window>,
) -> Result<(), Failure> {
    loop {
        let number = poll_fn(|cx| schedule.poll_due(cx)).await;
        work.call(&mut caller, number as i64).await?;
        window.record(schedule.moment(number).elapsed());
    }
}

/// Call number `n` is due `n / rate` seconds after the beginning, whatever became of the calls before it.
#[derive(Debug)]
struct Schedule {
    begin: Instant,
    rate: f64,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    due: u64,
    taken: u64,
    resting: VecDeque<Waker>,
}

impl Schedule {
    fn moment(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.rate)
    }

    fn advance(&self) {
        let due = (self.begin.elapsed().as_secs_f64() * self.rate) as u64;
        let mut turns = self.turns();
        turns.due = due;
        let wanted = (due - turns.taken).min(turns.resting.len() as u64);
        turns.resting.drain(..wanted as usize).for_each(Waker::wake);
    }

    fn poll_due(&self, cx: &Context<'_>) -> Poll<u64> {
        let mut turns = self.turns();
        if turns.taken < turns.due {
            turns.taken += 1;
            return Poll::Ready(turns.taken);
        }
        turns.resting.push_back(cx.waker().clone());
        Poll::Pending
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
