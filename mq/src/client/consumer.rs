use std::{fmt::Display, future::Future, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::sleep};
use tracing::{debug, warn};

use super::MqClient;
use crate::{Delivery, MessageId, Pop, Receipt};

/// How messages are consumed.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// How many are handled at once. Default 1.
    pub concurrency: usize,
    /// After a failure the message comes again after this time, doubling with each failure. Default 1 s.
    pub backoff: Duration,
    /// But not later than this. Default 1 minute.
    pub longest_backoff: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self { concurrency: 1, backoff: Duration::from_secs(1), longest_backoff: Duration::from_secs(60) }
    }
}

/// Handles the messages of a queue until it is stopped.
#[derive(Debug)]
#[must_use = "dropping a consumer cuts its handlers off; their messages come again"]
pub struct Consumer {
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

/// How long a worker waits for messages at a time, and after an error.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

impl Consumer {
    /// Takes no more messages, and waits until those that are being handled are done with.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
    }
}

impl MqClient {
    /// Hands the messages of a queue, of all nodes, to `handler`. Ok is an ack; an error a nack with a back-off. A message
    /// may come more than once.
    pub fn consume<H, F, E>(&self, topic: &str, queue: &str, options: ConsumerOptions, handler: H) -> Consumer
    where
        H: Fn(Delivery) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..options.concurrency.max(1) {
            let wish = Pop { wait_ms: WAIT.as_millis() as u64, ..Pop::new(topic, queue) };
            workers.spawn(work(self.clone(), wish, options.clone(), stopped.clone(), handler.clone()));
        }
        Consumer { stop, workers }
    }
}

async fn work<H, F, E>(
    client: MqClient,
    wish: Pop,
    options: ConsumerOptions,
    mut stopped: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(Delivery) -> F + Send,
    F: Future<Output = Result<(), E>> + Send,
    E: Display + Send,
{
    loop {
        let popped = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            popped = client.pop(&wish) => popped,
        };
        match popped {
            Ok(deliveries) => {
                for delivery in deliveries {
                    let about = About { id: delivery.id, receipt: delivery.receipt, retries: delivery.retries };
                    let handled = handler(delivery);
                    about.end(&client, handled.await, &options).await;
                }
            }
            Err(error) => {
                debug!("nothing can be popped from `{}` of {}: {error}", wish.queue, wish.topic);
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// What ends a delivery.
struct About {
    id: MessageId,
    receipt: Option<Receipt>,
    retries: u16,
}

impl About {
    async fn end<E: Display>(&self, client: &MqClient, handled: Result<(), E>, options: &ConsumerOptions) {
        let (id, Some(receipt)) = (self.id, self.receipt) else { return };
        let failed = handled.err().map(|error| error.to_string());
        let ended = match failed {
            None => client.ack(receipt).await,
            Some(reason) => {
                let delay = options.backoff.saturating_mul(1 << self.retries.min(20)).min(options.longest_backoff);
                debug!("message {id} comes again in {delay:?}: {reason}");
                client.nack(receipt, delay, &reason).await
            }
        };
        if let Err(error) = ended {
            warn!("message {id} was handled, and may come again: {error}");
        }
    }
}
