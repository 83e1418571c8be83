//! Calls at a steady rate, and what became of them.

mod tally;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use ms_rpc::{Code, Status};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

pub use tally::{Ended, Tally};

use crate::Failure;

/// Calls at a steady rate, whether or not earlier ones have ended. Dropping it cuts them off.
#[derive(Debug)]
pub struct Load {
    stop: Arc<Notify>,
    driver: JoinHandle<Tally>,
}

impl Load {
    /// Makes `rate` calls a second from now on. `call` gets the number of its call, from 0, and answers with the port of
    /// the instance that served it, or anything else worth noting.
    pub fn start<C, F>(rate: u32, call: C) -> Self
    where
        C: Fn(u64) -> F + Send + 'static,
        F: Future<Output = Result<u64, Status>> + Send + 'static,
    {
        let stop = Arc::new(Notify::new());
        let driver = tokio::spawn(drive(rate, call, stop.clone()));
        Self { stop, driver }
    }

    /// Makes no more calls, and waits until those in flight have ended.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn stop(mut self) -> Result<Tally, Failure> {
        self.stop.notify_one();
        Ok((&mut self.driver).await?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive<C, F>(rate: u32, call: C, stop: Arc<Notify>) -> Tally
where
    C: Fn(u64) -> F,
    F: Future<Output = Result<u64, Status>> + Send + 'static,
{
    let begin = Instant::now();
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let mut ended = Vec::new();
    let mut made = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.notified() => break,
        }
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while made < due {
            calls.spawn(timed(made, call(made)));
            made += 1;
        }
        while let Some(outcome) = calls.try_join_next() {
            ended.push(outcome.unwrap_or_else(|error| Ended::panicked(&error)));
        }
    }
    let length = begin.elapsed();
    while let Some(outcome) = calls.join_next().await {
        ended.push(outcome.unwrap_or_else(|error| Ended::panicked(&error)));
    }
    Tally::new(ended, length)
}

async fn timed(number: u64, call: impl Future<Output = Result<u64, Status>>) -> Ended {
    let begin = Instant::now();
    let result = call.await;
    Ended { number, begin, after: begin.elapsed(), result }
}

impl Ended {
    fn panicked(error: &tokio::task::JoinError) -> Self {
        let status = Status::new(Code::Internal, format!("the call did not return: {error}"));
        Self { number: u64::MAX, begin: Instant::now(), after: Duration::ZERO, result: Err(status) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_call_is_counted() {
        let load = Load::start(1_000, |number| async move {
            if number % 10 == 3 { Err(Status::new(Code::Aborted, format!("number {number}"))) } else { Ok(number % 2) }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let tally = load.stop().await.unwrap();
        assert!(tally.calls() >= 100, "{}", tally.calls());
        assert_eq!(tally.failed().count() as u64, (tally.calls() + 6) / 10);
        assert!(tally.first_failures().contains("aborted"), "{}", tally.first_failures());
    }
}
