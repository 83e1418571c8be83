//! Dispatcher: starts handlers while slots are free, and says how they ended.

use std::{any::Any, fmt::Display, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, error, warn};

use super::{
    held::{Next, Started},
    settle::{End, Ending},
    shared::{Phase, Shared},
};
use crate::{Delivery, MessageId, Receipt};

/// Runs until the consumer stops and its last handler has ended.
pub(super) async fn run<H, F, E>(shared: Arc<Shared>, endings: mpsc::Sender<Ending>, handler: H)
where
    H: Fn(Delivery) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let mut handlers = JoinSet::new();
    loop {
        while handlers.try_join_next().is_some() {}
        if !shared.is_running() {
            let unbegun = shared.held().take_ready();
            for receipt in unbegun {
                let _ = endings.send(Ending { receipt, end: End::Return }).await;
            }
        }
        let next = shared.held().start(Instant::now());
        match next {
            Next::Start(started) => {
                drop(handlers.spawn(handle(shared.clone(), endings.clone(), handler.clone(), *started)));
            }
            Next::Wait => {
                // Slots may be idle, with nothing popped ahead: that makes room for pops too small to be worth it otherwise.
                shared.room.send_replace(());
                shared.work.notified().await;
            }
            Next::Done => break,
        }
    }
    while handlers.join_next().await.is_some() {}
}

/// Slot of a running handler: freed however the handler ends.
struct Slot {
    shared: Arc<Shared>,
    endings: mpsc::Sender<Ending>,
    receipt: Option<Receipt>,
    bytes: usize,
    began: Instant,
    is_freed: bool,
}

impl Slot {
    /// Frees the slot; returns the receipt if the message is to be settled.
    fn free(&mut self) -> Option<Receipt> {
        self.is_freed = true;
        let is_settled = self.shared.held().ended(self.receipt, self.bytes, self.began.elapsed());
        self.shared.freed();
        self.receipt.filter(|_| is_settled)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_freed
            && let Some(receipt) = self.free()
        {
            // The handler's future panicked while it was dropped. Where the channel is full, the lease ends by itself.
            let reason = "the handler panicked while it was cancelled".to_owned();
            if self.endings.try_send(Ending { receipt, end: End::Nack { delay: Duration::ZERO, reason } }).is_err() {
                self.shared.held().settled(&receipt);
            }
        }
    }
}

async fn handle<H, F, E>(shared: Arc<Shared>, endings: mpsc::Sender<Ending>, handler: H, started: Started)
where
    H: FnOnce(Delivery) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let Started { delivery, bytes, lost } = started;
    let (id, receipt, retries) = (delivery.id, delivery.receipt, delivery.retries);
    let mut slot = Slot {
        shared: shared.clone(),
        endings: endings.clone(),
        receipt,
        bytes,
        began: Instant::now(),
        is_freed: false,
    };
    // A panic may come from the call as well as from its future.
    let run = AssertUnwindSafe(async move { handler(delivery).await }).catch_unwind();
    let end = tokio::select! {
        biased;
        () = lease_lost(lost) => {
            let Shared { topic, queue, .. } = &*shared;
            warn!("the lease of message {id} of queue {queue:?} of topic {topic:?} is lost: its handler is cancelled");
            shared.report.handled("lost");
            None
        }
        () = shared.reached(Phase::CutOff) => {
            shared.report.handled("cut_off");
            shared.held().cut_off();
            let reason = "the consumer was stopped before the handler was done".to_owned();
            Some(End::Nack { delay: Duration::ZERO, reason })
        }
        result = run => Some(ended(&shared, id, retries, result)),
    };
    // Freed before the settler takes the ending, so that a full channel holds back no slot's handler but this one's.
    if let (Some(receipt), Some(end)) = (slot.free(), end) {
        // An error: the consumer was stopped, and took too long to settle.
        let _ = endings.send(Ending { receipt, end }).await;
    }
}

async fn lease_lost(lost: Option<oneshot::Receiver<()>>) {
    match lost {
        // The sender sends nothing: it is dropped.
        Some(lost) => drop(lost.await),
        None => std::future::pending().await,
    }
}

/// Logs and counts the result of a handler.
fn ended<E: Display>(
    shared: &Shared,
    id: MessageId,
    retries: u16,
    result: Result<Result<(), E>, Box<dyn Any + Send>>,
) -> End {
    let Shared { topic, queue, options, .. } = shared;
    let delay = options.backoff.saturating_mul(1 << retries.min(20)).min(options.longest_backoff);
    let reason = match result {
        Ok(Ok(())) => {
            shared.report.handled("done");
            return End::Ack;
        }
        Ok(Err(error)) => {
            shared.report.handled("failed");
            let reason = error.to_string();
            debug!("message {id} of queue {queue:?} of topic {topic:?} is nacked for {delay:?}: {reason}");
            reason
        }
        Err(panic) => {
            shared.report.handled("panicked");
            let reason = format!("the handler panicked: {}", text_of(&*panic));
            error!("message {id} of queue {queue:?} of topic {topic:?} is nacked for {delay:?}: {reason}");
            reason
        }
    };
    End::Nack { delay, reason: clipped(reason) }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("its payload is no text")
}

/// Bytes of a reason: nodes keep it with a dead letter.
const LONGEST_REASON: usize = 1024;

fn clipped(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    reason
}
