//! Consumer: hands the messages of a queue to a handler, renews their leases meanwhile, and settles them.

mod fetch;
mod handle;
mod held;
mod keep;
mod report;
mod settle;
mod shared;

use std::{fmt, fmt::Display, future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

use super::{MqClient, waits::SLICE};
use crate::Delivery;
use settle::{ENDINGS, Settler};
use shared::{Phase, Shared};

/// Settings of a consumer. Values outside a range are brought into it.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Handlers that run at once. Default 1, at least 1.
    pub concurrency: usize,
    /// Messages that are held at most: popped ahead, in a handler, or handled with the acknowledgement on its way. How many
    /// are popped ahead follows the speed of the handlers: none where handlers take longer than 100 ms. With 1 each message
    /// is acknowledged before the next is popped. Default 256, at least `concurrency`; with several nodes, up to one more
    /// per node.
    pub prefetch: usize,
    /// Bytes of bodies and headers of messages that are held; a message is popped whatever its size. Default 8 MiB.
    pub prefetch_bytes: usize,
    /// After a failure the message is delivered again after this time, doubling with each failure. Default 1 s.
    pub backoff: Duration,
    /// Upper bound of the time between two deliveries. Default 1 minute.
    pub longest_backoff: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            concurrency: 1,
            prefetch: 256,
            prefetch_bytes: 8 << 20,
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
        }
    }
}

/// A consumer that runs until it is stopped. Dropped, it stops at once in the background, with a warning: handlers are
/// cancelled and their messages are nacked.
#[must_use = "a consumer that is dropped stops"]
pub struct Consumer(Option<Tasks>);

/// Result of [`Consumer::stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Messages that were popped ahead, and given back to their nodes unhandled. They are ready at once, and this does not
    /// count as a retry.
    pub given_back: usize,
    /// Handlers that were cancelled at the deadline. Their messages are nacked without a delay.
    pub cut_off: usize,
    /// Messages whose nodes could not be told in time: they are delivered again when their leases end.
    pub unsettled: usize,
}

/// Time for the calls that settle messages, after the last handler has ended.
const SETTLING: Duration = Duration::from_secs(5);
/// Time for a cancelled handler to give its thread back.
const CUTTING: Duration = Duration::from_secs(1);

impl MqClient {
    /// Hands the messages of a queue, of all nodes, to `handler`, until the consumer is stopped. Must be called within a
    /// tokio runtime.
    ///
    /// - `Ok` acknowledges the message. An error nacks it with a back-off, and so does a panic, with the panic's text as the
    ///   reason.
    /// - While a message is held, its lease is renewed, however long the handler runs. If the lease is lost all the same -
    ///   the node could not be reached until it ended, or the message was purged - the handler is cancelled: its future
    ///   is dropped.
    /// - Acknowledgements are sent in batches, and repeated until the lease ends. A message may still be delivered more than
    ///   once, as after a crash.
    /// - Errors of pops are logged once each until they change, and counted in `ms_mq_consumer_errors_total`. A topic that
    ///   does not exist yet is waited for.
    ///
    /// Messages of a topic with `auto_ack` are not popped ahead; there is nothing to renew or to acknowledge.
    pub fn consume<H, F, E>(&self, topic: &str, queue: &str, options: ConsumerOptions, handler: H) -> Consumer
    where
        H: Fn(Delivery) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let shared = Arc::new(Shared::new(&self.nodes, &self.waits, topic, queue, options));
        let (endings, ended) = mpsc::channel(ENDINGS);
        Consumer(Some(Tasks {
            keep: tokio::spawn(keep::run(shared.clone(), endings.downgrade())),
            fetch: tokio::spawn(fetch::run(shared.clone(), endings.clone())),
            handle: tokio::spawn(handle::run(shared.clone(), endings, handler)),
            settle: tokio::spawn(Settler::new(shared.clone()).run(ended)),
            shared,
        }))
    }
}

impl Consumer {
    /// Stops the consumer: pops no more, gives back what no handler has begun, and waits for the handlers. Handlers that still
    /// run after `within` are cancelled. Calls that settle messages take up to 5 s more.
    pub async fn stop(mut self, within: Duration) -> Stopped {
        match self.0.take() {
            Some(tasks) => tasks.stop(within).await,
            None => Stopped::default(),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let Some(tasks) = self.0.take() else { return };
        let Shared { topic, queue, .. } = &*tasks.shared;
        warn!("a consumer of queue {queue:?} of topic {topic:?} was dropped: its handlers are cancelled");
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tasks.stop(Duration::ZERO));
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.0.as_ref().map(|tasks| &tasks.shared);
        f.debug_struct("Consumer")
            .field("topic", &shared.map(|shared| &shared.topic))
            .field("queue", &shared.map(|shared| &shared.queue))
            .finish_non_exhaustive()
    }
}

/// Tasks of one consumer.
struct Tasks {
    shared: Arc<Shared>,
    fetch: JoinHandle<()>,
    handle: JoinHandle<()>,
    settle: JoinHandle<()>,
    keep: JoinHandle<()>,
}

impl Tasks {
    async fn stop(mut self, within: Duration) -> Stopped {
        let deadline = Instant::now() + within;
        self.shared.set_phase(Phase::Stopping);
        let Self { shared, fetch, handle, .. } = &mut self;
        // A pop that is under way ends within its slice, and what it brings is given back.
        let fetched = async {
            if timeout(SLICE + CUTTING, &mut *fetch).await.is_err() {
                fetch.abort();
            }
            shared.held().fetch_ended();
            shared.work.notify_one();
        };
        let handled = async {
            if timeout_at(deadline, &mut *handle).await.is_err() {
                shared.set_phase(Phase::CutOff);
                if timeout(SLICE + 2 * CUTTING, &mut *handle).await.is_err() {
                    handle.abort();
                }
            }
        };
        tokio::join!(fetched, handled);
        // The settler ends when all that could tell it something have ended.
        if timeout(SETTLING, &mut self.settle).await.is_err() {
            self.settle.abort();
        }
        self.keep.abort();
        self.shared.held().stopped()
    }
}
