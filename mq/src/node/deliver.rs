//! Delivery: from the queue, with the body, to a waiting consumer; and back when it reaches no consumer.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::{Instant, sleep_until},
};

use super::{
    Node,
    inner::{Need, Shared},
};
use crate::{
    Delivery, Extensions, MessageId, MqError, Pop, Receipt,
    batch::Place,
    record::{MessageRecord, QueueNumber},
    state::{Handed, Leased},
    store::{File, is_unreadable},
};

/// Bytes of messages in one answer, unless one alone has more.
const BYTES: u32 = 3 << 20;

/// Where deliveries come from.
#[derive(Clone, Copy)]
enum Source {
    Queue,
    DeadLetters,
}

/// Result of a look at a queue.
enum Found {
    Messages(Vec<Handed>),
    /// Nothing is ready. There will be news, or a change by itself after this time.
    Nothing(Pin<Box<OwnedNotified>>, Option<Duration>),
    /// There are due messages that had to be moved first; another look is needed.
    Unfinished,
}

impl<F: File> Node<F> {
    /// See [`Engine::pop`](crate::Engine::pop).
    pub(super) async fn take(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        let most = pop.max_messages.clamp(1, 1000) as usize;
        let bytes = pop.max_bytes.min(BYTES) as usize;
        let deadline = Instant::now() + Duration::from_millis(pop.wait_ms.min(24 * 3600 * 1000));
        // The departing waiter wakes the next one, so one waiter always owns the timer for what changes by itself.
        let mut waiter: Option<Popper<'_, F>> = None;
        loop {
            let found = {
                let mut inner = self.shared.space(Need::Lease).await?;
                let number = inner.state.queue_number(&pop.topic, &pop.queue)?;
                let now = self.shared.clock.now();
                let (state, group) = inner.state_and_group(now);
                let found = match state.pop(number, most, bytes, now, &mut group.batch) {
                    None => Found::Unfinished,
                    Some(handed) if handed.is_empty() => {
                        let next = inner.state.next_change(number, now);
                        let news = inner.waiting.entry(number).or_default().clone();
                        let mut listening = Box::pin(news.clone().notified_owned());
                        // Before anybody else can look: so no news is missed.
                        listening.as_mut().enable();
                        match &mut waiter {
                            // The queue may be another one of the same name by now.
                            Some(waiter) => waiter.news = news,
                            None => {
                                inner.poppers += 1;
                                waiter = Some(Popper { shared: &self.shared, news });
                            }
                        }
                        let next = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
                        Found::Nothing(listening, next)
                    }
                    Some(handed) => {
                        // A waiter must hear of the end of the lease; a departing waiter tells the next.
                        if waiter.is_none()
                            && let Some(news) = inner.waiting.get(&number)
                        {
                            news.notify_one();
                        }
                        Found::Messages(handed)
                    }
                };
                self.shared.unlock_and_wake(inner);
                found
            };
            match found {
                Found::Unfinished => tokio::task::yield_now().await,
                Found::Messages(handed) => {
                    let delivered = self.deliver(handed, Source::Queue).await?;
                    if !delivered.is_empty() {
                        return Ok(delivered);
                    }
                }
                Found::Nothing(news, next) => {
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
        }
    }

    /// See [`Engine::pop_dead`](crate::Engine::pop_dead).
    pub(super) async fn take_dead(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        let most = pop.max_messages.clamp(1, 1000) as usize;
        let bytes = pop.max_bytes.min(BYTES) as usize;
        loop {
            let handed = {
                let mut inner = self.shared.space(Need::Lease).await?;
                let number = inner.state.queue_number(&pop.topic, &pop.queue)?;
                let now = self.shared.clock.now();
                let (state, group) = inner.state_and_group(now);
                let handed = state.pop_dead(number, most, bytes, now, &mut group.batch);
                self.shared.unlock_and_wake(inner);
                handed
            };
            match handed {
                None => tokio::task::yield_now().await,
                Some(handed) if handed.is_empty() => return Ok(Vec::new()),
                Some(handed) => {
                    let delivered = self.deliver(handed, Source::DeadLetters).await?;
                    if !delivered.is_empty() {
                        return Ok(delivered);
                    }
                }
            }
        }
    }

    /// Adds the bodies. Cancelled, it gives the messages back.
    async fn deliver(&self, handed: Vec<Handed>, source: Source) -> Result<Vec<Delivery>, MqError> {
        let mut guard = Undelivered { shared: &self.shared, handed };
        let mut reasons = Vec::new();
        let (cached, by_itself): (Vec<_>, bool) = {
            let inner = self.shared.lock();
            let by_itself = match source {
                Source::Queue => guard.handed.first().is_some_and(|first| inner.state.acks_by_itself(first.queue)),
                Source::DeadLetters => {
                    let reason = |handed: &Handed| inner.state.queue(handed.queue)?.dead_reason(handed.id);
                    reasons.extend(guard.handed.iter().map(|handed| reason(handed).unwrap_or_default().to_owned()));
                    false
                }
            };
            (guard.handed.iter().map(|handed| inner.cache.get(handed.place)).collect(), by_itself)
        };
        let mut reasons = reasons.into_iter();
        // Most often the same for all.
        let mut lease = (0, Extensions::default());
        let missing: Vec<_> = guard.handed.iter().zip(&cached).filter(|(_, cached)| cached.is_none()).collect();
        let missing: Vec<_> = missing.into_iter().map(|(handed, _)| *handed).collect();
        let mut read = self.read(missing).await?.into_iter();
        // Damaged messages, and those that were cancelled meanwhile, are not delivered.
        let acked: Vec<_> = if by_itself {
            let acks: Vec<_> = guard.handed.iter().map(leased).collect();
            let acked = self.durable(Need::End, |state, now, batch| {
                Ok(acks.iter().map(|ack| state.ack(*ack, now, batch).is_ok()).collect())
            });
            let acked = acked.await?;
            self.shared.wake_bounded(acks.iter().map(|ack| ack.queue));
            acked
        } else {
            Vec::new()
        };
        let mut acked = acked.into_iter();
        let mut deliveries = Vec::with_capacity(guard.handed.len());
        for (handed, cached) in guard.handed.iter().zip(cached) {
            let found = match cached {
                Some(cached) => cached.message(),
                None => read.next().flatten(),
            };
            let mine = acked.next().unwrap_or(!by_itself);
            if handed.ttr != lease.0 {
                lease = (handed.ttr, Extensions::lease(handed.ttr));
            }
            let mut extensions = if by_itself { Extensions::default() } else { lease.1.clone() };
            extensions.0.extend(reasons.next().map(|reason| (Delivery::REASON, reason.into_bytes().into())));
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
                extensions,
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
                    // The message may have been copied forward in between.
                    let now_at = inner.state.queue(queue).and_then(|queue| queue.get(id)).map(|live| live.place);
                    match now_at {
                        Some(moved) if moved != place => place = moved,
                        Some(_) if is_unreadable(&error) => {
                            inner.lose_one(queue, id);
                            drop(inner);
                            self.wake_bounded(std::iter::once(queue));
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

/// Waiter for messages of a queue, until it is dropped.
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
        self.shared.give_back(&self.handed.iter().map(leased).collect::<Vec<_>>());
    }
}
