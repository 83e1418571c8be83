//! The part of a node that makes the calls of the topic [`CALLS`].

use std::time::Duration;

use metrics::counter;
use ms_rpc::{CallOptions, ClientProxy, Outcome};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use crate::{CALLS, Call, DEFAULT_QUEUE, Delivery, End, Engine, MqError, Pop, Receipt};

/// Makes the calls of an engine's topic [`CALLS`] when they are due. Dropped, it stops at once.
///
/// - An answer acknowledges the message.
/// - An idempotent call that fails is made again after the topic's back-off, as often as its retries allow; then it is a dead
///   letter.
/// - Any other call is made at most once: again only if it certainly was not executed. If it failed, or nobody knows whether it
///   was executed - also after a crash of the node - it is a dead letter that says so.
#[derive(Debug)]
#[must_use = "a caller that is dropped stops"]
pub struct Caller {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Longest wait of one pop.
const WAIT: Duration = Duration::from_secs(10);
/// Pause until a topic that is not there yet, or a full disk, is looked at again.
const PAUSE: Duration = Duration::from_millis(500);
/// Time between the end of a call and the end of its lease.
const MARGIN: Duration = Duration::from_secs(10);

impl Caller {
    /// Makes at most `concurrency` calls at a time, at least 1. Must be called within a tokio runtime. The proxy's layers,
    /// credentials and retries count for the calls.
    pub fn start<E: Engine>(engine: E, proxy: ClientProxy, concurrency: usize) -> Self {
        let (stop, stopping) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(engine, proxy, concurrency.max(1), stopping)) }
    }

    /// Begins no more calls, and waits for those under way. After `within` they are cut off: idempotent calls are ready at once,
    /// the others are dead letters when their leases end.
    pub async fn stop(mut self, within: Duration) {
        let _ = self.stop.send(true);
        if timeout_at(Instant::now() + within, &mut self.task).await.is_err() {
            self.task.abort();
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<E: Engine>(engine: E, proxy: ClientProxy, concurrency: usize, mut stopping: watch::Receiver<bool>) {
    let mut calls = JoinSet::new();
    let mut told = None;
    while !*stopping.borrow_and_update() {
        while calls.try_join_next().is_some() {}
        if calls.len() >= concurrency {
            calls.join_next().await;
            continue;
        }
        let most = u32::try_from(concurrency - calls.len()).unwrap_or(u32::MAX);
        let wish = Pop { max_messages: most, wait_ms: WAIT.as_millis() as u64, ..Pop::new(CALLS, DEFAULT_QUEUE) };
        let popped = tokio::select! {
            popped = engine.pop(&wish) => popped,
            _ = stopping.changed() => break,
        };
        match popped {
            Ok(deliveries) => {
                told = None;
                for delivery in deliveries {
                    calls.spawn(make(engine.clone(), proxy.clone(), delivery));
                }
            }
            Err(MqError::Closed | MqError::DiskFailed(_)) => break,
            Err(error) => {
                // Without the topic there are no calls.
                if !matches!(error, MqError::NoTopic(_) | MqError::NoQueue(_)) && told.as_ref() != Some(&error) {
                    warn!("calls wait: {error}");
                }
                told = Some(error);
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    _ = stopping.changed() => break,
                }
            }
        }
    }
    while calls.join_next().await.is_some() {}
}

/// Makes one call, and settles its message.
async fn make<E: Engine>(engine: E, proxy: ClientProxy, delivery: Delivery) {
    let Some(receipt) = delivery.receipt else {
        warn!("topic {CALLS} acknowledges by itself: call {} is not made, turn auto_ack off", delivery.id);
        return;
    };
    let mut unmade = Unmade(Some(Box::new(engine.give_back(vec![receipt]))));
    let call = match Call::parse(&delivery.body) {
        Ok(call) => call,
        Err(error) => return settle(&engine, &mut unmade, receipt, End::Bury(error.to_string())).await,
    };
    if let Err(error) = prepare(&engine, &call, &delivery, receipt).await {
        debug!("call {} is not made: {error}", delivery.id);
        return;
    }
    if !call.idempotent {
        unmade.0 = None;
    }
    let mut options = CallOptions::new().deadline(Duration::from_millis(call.deadline_ms));
    if call.idempotent {
        options = options.idempotent();
    }
    for (key, value) in &delivery.headers {
        if let Ok(value) = std::str::from_utf8(value) {
            options = options.metadata(key, value);
        }
    }
    let Call { service, method, arguments, idempotent, .. } = &call;
    let (end, result) = match proxy.with(options).call(service, method, arguments).await {
        Ok(_) => (End::Ack, "done"),
        Err(status) => {
            let is_unmade = matches!(status.outcome(), Outcome::NotSent | Outcome::Refused);
            let reason = format!("{service}.{method}: {status}");
            match status.retry_after() {
                delay if *idempotent || is_unmade => (End::nack(delay.unwrap_or_default(), reason), "failed"),
                _ => (End::Bury(reason), "dead"),
            }
        }
    };
    counter!("ms_mq_calls_total", "result" => result).increment(1);
    settle(&engine, &mut unmade, receipt, end).await;
}

/// Extends the lease so that it outlives the call. A call that must not be made twice is begun for good.
async fn prepare(engine: &impl Engine, call: &Call, delivery: &Delivery, receipt: Receipt) -> Result<(), MqError> {
    let needed = Duration::from_millis(call.deadline_ms) + MARGIN;
    if delivery.lease().is_none_or(|lease| lease < needed) {
        engine.end(&receipt, &End::Touch(Some(needed))).await?;
    }
    if call.idempotent { Ok(()) } else { engine.end(&receipt, &End::Begin).await }
}

/// Ends the lease; on a full disk, as soon as there is space.
async fn settle(engine: &impl Engine, unmade: &mut Unmade, receipt: Receipt, end: End) {
    while let Err(error) = engine.end(&receipt, &end).await {
        if error != MqError::DiskFull {
            debug!("call {} was made, and its lease is lost: {error}", receipt.id());
            break;
        }
        sleep(PAUSE).await;
    }
    unmade.0 = None;
}

/// Gives a message back whose call was cut off, if it may be made again.
struct Unmade(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Unmade {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}
