//! Handing out: from the queue, with the body, to whoever waits; and back when it reaches nobody.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Node, inner::Shared};
use crate::{
    Delivery, Extensions, MessageId, MqError, Pop, Receipt,
    batch::Place,
    record::{MessageRecord, QueueNumber},
    state::{Handed, Leased},
    store::File,
};

impl<F: File> Node<F> {
    /// Takes the next messages; none if none comes in the time that the wish gives.
    ///
    /// # Errors
    /// No such queue, or the disk.
    pub async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        let most = pop.max_messages.clamp(1, 1000) as usize;
        let deadline = Instant::now() + Duration::from_millis(pop.wait_ms.min(24 * 3600 * 1000));
        // Whoever goes wakes the next, so that of those who wait one always knows when something changes by itself.
        let mut waited: Option<Popper<'_, F>> = None;
        loop {
            let (handed, news, next) = {
                let mut inner = self.shared.lock();
                inner.check_open()?;
                let number = inner.state.queue_number(&pop.topic, &pop.queue)?;
                let now = self.shared.clock.now();
                let (state, group) = inner.state_and_group(now);
                let handed = state.pop(number, most, pop.max_bytes as usize, now, &mut group.batch);
                let news = inner.waiting.entry(number).or_default().clone();
                let found = if handed.is_empty() {
                    let next = inner.state.queue(number).and_then(crate::queue::Queue::next_change);
                    let mut listening = Box::pin(news.clone().notified_owned());
                    // Before anybody else can look: so no news is missed.
                    listening.as_mut().enable();
                    if waited.is_none() {
                        inner.poppers += 1;
                        waited = Some(Popper { shared: &self.shared, news });
                    }
                    (handed, Some(listening), next.map(|next| Duration::from_millis(next.saturating_sub(now))))
                } else {
                    // Whoever waits must hear of the lease's end; who has waited says so when it goes.
                    if waited.is_none() {
                        news.notify_one();
                    }
                    (handed, None, None)
                };
                self.shared.unlock_and_wake(inner);
                found
            };
            let Some(news) = news else {
                let delivered = self.deliver(handed).await?;
                if !delivered.is_empty() {
                    return Ok(delivered);
                }
                continue;
            };
            let until = next.map_or(deadline, |next| deadline.min(Instant::now() + next));
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            tokio::select! {
                () = news => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Adds the bodies. Cancelled, it gives the messages back.
    async fn deliver(&self, handed: Vec<Handed>) -> Result<Vec<Delivery>, MqError> {
        let mut guard = Undelivered { shared: &self.shared, handed };
        let (cached, by_itself): (Vec<_>, bool) = {
            let inner = self.shared.lock();
            let by_itself = guard.handed.first().is_some_and(|first| inner.state.acks_by_itself(first.queue));
            (guard.handed.iter().map(|handed| inner.cache.get(handed.place)).collect(), by_itself)
        };
        let missing: Vec<_> = guard.handed.iter().zip(&cached).filter(|(_, cached)| cached.is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|(handed, _)| *handed).collect();
        let mut read = self.read(missing).await?.into_iter();
        // What is damaged, or was cancelled meanwhile, is nobody's.
        let mut acked = if by_itself {
            let acks: Vec<_> = guard.handed.iter().map(leased).collect();
            self.ack_all(&acks).await?.into_iter()
        } else {
            Vec::new().into_iter()
        };
        let mut deliveries = Vec::with_capacity(guard.handed.len());
        for (handed, cached) in guard.handed.iter().zip(cached) {
            let found = match cached {
                Some(cached) => cached.message(),
                None => read.next().flatten(),
            };
            let mine = acked.next().unwrap_or(!by_itself);
            let Some(MessageRecord { body, headers, .. }) = found.filter(|_| mine) else { continue };
            let receipt = Receipt {
                node: self.shared.node,
                store: self.shared.store,
                queue: handed.queue,
                id: handed.id,
                lease: handed.lease,
            };
            deliveries.push(Delivery {
                id: handed.id,
                receipt: (!by_itself).then_some(receipt),
                body: body.into(),
                headers: headers.into_iter().map(|(key, value)| (key, value.into())).collect(),
                retries: handed.retries,
                extensions: if by_itself { Extensions::default() } else { Extensions::lease(handed.ttr) },
            });
        }
        guard.handed.clear();
        Ok(deliveries)
    }

    /// Reads messages from the disk; none for those that are damaged, which are dropped and remembered.
    async fn read(&self, handed: Vec<Handed>) -> Result<Vec<Option<MessageRecord>>, MqError> {
        if handed.is_empty() {
            return Ok(Vec::new());
        }
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || {
            handed.iter().map(|handed| shared.read_one(handed.queue, handed.id, handed.place)).collect()
        });
        reading.await.map_err(|_| MqError::Closed)?
    }
}

impl<F: File> Shared<F> {
    /// Reads a message, wherever it is by now; none if it is gone or damaged.
    pub(super) fn read_one(
        &self,
        queue: QueueNumber,
        id: MessageId,
        mut place: Place,
    ) -> Result<Option<MessageRecord>, MqError> {
        loop {
            match self.files.read(id, place) {
                Ok(message) => return Ok(Some(message)),
                Err(error) => {
                    let mut inner = self.lock();
                    // It may have been copied forward in between.
                    let now_at = inner.state.queue(queue).and_then(|queue| queue.get(id)).map(|live| live.place);
                    match now_at {
                        Some(moved) if moved != place => place = moved,
                        Some(_) if error.kind() == std::io::ErrorKind::InvalidData => {
                            inner.lose_one(queue, id);
                            return Ok(None);
                        }
                        Some(_) => return Err(MqError::DiskFailed(error.to_string())),
                        None => return Ok(None),
                    }
                }
            }
        }
    }
}

fn leased(handed: &Handed) -> Leased {
    Leased { queue: handed.queue, id: handed.id, lease: handed.lease }
}

/// Somebody who waits for messages, or has.
struct Popper<'a, F: File> {
    shared: &'a Shared<F>,
    news: Arc<Notify>,
}

impl<F: File> Drop for Popper<'_, F> {
    fn drop(&mut self) {
        self.shared.lock().poppers -= 1;
        self.news.notify_one();
    }
}

/// Messages that were taken and have not reached anybody.
struct Undelivered<'a, F: File> {
    shared: &'a Arc<Shared<F>>,
    handed: Vec<Handed>,
}

impl<F: File> Drop for Undelivered<'_, F> {
    fn drop(&mut self) {
        if self.handed.is_empty() {
            return;
        }
        // An error: the node has ended, and with it the leases.
        let _ = self.shared.change(|state, now, batch| {
            self.handed.iter().for_each(|handed| state.undelivered(leased(handed), now, batch));
            Ok(())
        });
        self.handed.iter().for_each(|handed| self.shared.wake_number(handed.queue));
    }
}
