//! Changes of a node: pushes, ends of leases, and changes of topics, queues and messages.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    Node,
    backup::Wish,
    completion::Waiter,
    inner::{Group, Need, Shared},
    writer::stage,
};
use crate::{
    Change, Delivery, Durability, End, Engine, Look, MessageId, MqError, Pop, Push, QueueName, Receipt, Seen,
    batch::Batch,
    message::Millis,
    route::{Mode, compile},
    state::{LONGEST_REASON, Leased, STEP, State},
    store::File,
};

/// Bytes of the records of one step, so that it fits into a batch and into the space that was seen to be free.
pub(super) const STEP_BYTES: usize = 512 << 10;
/// Bytes of a record that ends or renews a lease, without its reason.
const END_BYTES: usize = 32;

impl<F: File> Engine for Node<F> {
    async fn push(&self, push: Push) -> Result<MessageId, MqError> {
        State::check_batch(std::slice::from_ref(&push))?;
        let durability = push.durability;
        self.compile(std::slice::from_ref(&push));
        let begun = self.begin_push(Need::Push, durability, |state, now, group| {
            let pushed = state.push_one(push, now, &mut group.batch)?;
            Ok(stage(group, durability).add(pushed))
        });
        let (id, certain) = begun.await?;
        if let Some(certain) = certain {
            certain.await?;
        }
        Ok(id)
    }

    async fn push_batch(&self, pushes: Vec<Push>) -> Result<Vec<MessageId>, MqError> {
        State::check_batch(&pushes)?;
        let Some(durability) = pushes.iter().map(|push| push.durability).min() else {
            return Ok(Vec::new());
        };
        self.compile(&pushes);
        let begun = self.begin_push(Need::Push, durability, |state, now, group| {
            let pushed = state.push_all(pushes, now, &mut group.batch)?;
            let stage = stage(group, durability);
            Ok(pushed.into_iter().map(|pushed| stage.add(pushed)).collect())
        });
        let (ids, certain) = begun.await?;
        if let Some(certain) = certain {
            certain.await?;
        }
        Ok(ids)
    }

    async fn pop(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.take(pop).await
    }

    async fn pop_dead(&self, pop: &Pop) -> Result<Vec<Delivery>, MqError> {
        self.take_dead(pop).await
    }

    async fn end_all(&self, receipts: &[Receipt], end: &End) -> Result<Vec<Result<(), MqError>>, MqError> {
        let mut ended = Vec::with_capacity(receipts.len());
        let mut is_bounded = false;
        let reason = if let Nack { reason, .. } | Bury(reason) = end { reason.len().min(LONGEST_REASON) } else { 0 };
        for receipts in receipts.chunks(STEP_BYTES / (END_BYTES + reason)) {
            let done = |state: &mut State, now, batch: &mut Batch| {
                ended.extend(receipts.iter().map(|receipt| {
                    self.own(receipt)?;
                    end_one(state, receipt.into(), end, now, batch)
                }));
                is_bounded |= receipts.iter().any(|receipt| state.is_bounded(receipt.queue));
                Ok(())
            };
            match end {
                Ack => self.durable(Need::End, done).await?,
                Nack { .. } | Bury(_) | Begin => self.durable(Need::Lease, done).await?,
                // A crash ends leases anyway.
                Touch(_) => self.shared.change(self.shared.space(Need::Lease).await?, done)?,
                Return => self.shared.change(self.shared.space(Need::End).await?, done)?,
            }
        }
        if !matches!(end, Ack) || is_bounded {
            self.shared.wake_numbers(receipts.iter().map(|receipt| receipt.queue));
        }
        Ok(ended)
    }

    fn give_back(&self, receipts: Vec<Receipt>) -> impl FnOnce() + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || {
            let leased = receipts.iter().filter(|receipt| receipt.store == shared.store).map(Leased::from);
            shared.give_back(&leased.collect::<Vec<_>>());
        }
    }

    fn queue_of(&self, receipt: &Receipt) -> Option<QueueName> {
        self.own(receipt).ok()?;
        self.shared.lock().state.queue_name(receipt.queue)
    }

    async fn change(&self, change: Change) -> Result<u64, MqError> {
        match change {
            Change::Declare(QueueName { topic, queue }) => {
                let declare = |state: &mut State, now, batch: &mut Batch| state.declare(&topic, &queue, now, batch);
                self.durable(Need::Lease, declare).await.map(|()| 0)
            }
            Change::Configure(topic, settings) => {
                let queues = self.shared.lock().state.queues_of(&topic);
                for queue in queues {
                    self.advance(queue).await;
                }
                if settings.mode == Some(Mode::Fuzzy) {
                    self.shared.patterns.store(true, Ordering::Relaxed);
                }
                let configure =
                    |state: &mut State, now, batch: &mut Batch| state.configure(&topic, &settings, now, batch);
                self.durable(Need::Lease, configure).await?;
                // A bound may be higher now.
                self.shared.wake_topic(&topic);
                Ok(0)
            }
            Change::Pause(QueueName { topic, queue }, paused) => {
                self.durable(Need::Lease, |state, _, batch| state.pause(&topic, &queue, paused, batch)).await?;
                self.shared.wake(&topic, &queue);
                Ok(0)
            }
            Change::Purge(name) => {
                self.present(&name).await?;
                let QueueName { topic, queue } = &name;
                let purged = self.durable(Need::End, |state, now, batch| state.purge(topic, queue, now, batch)).await?;
                self.release().await;
                Ok(purged)
            }
            Change::PurgeDead(name) => {
                self.present(&name).await?;
                let QueueName { topic, queue } = &name;
                self.repeat(Need::End, |state, _, batch| state.purge_dead(topic, queue, batch)).await
            }
            Change::DeleteQueue(QueueName { topic, queue }) => {
                self.delete(|state, _, batch| state.delete_queue(&topic, &queue, batch)).await
            }
            Change::DeleteTopic(topic) => self.delete(|state, _, batch| state.delete_topic(&topic, batch)).await,
            Change::Cancel(QueueName { topic, queue }, id) => {
                let cancel = |state: &mut State, _, batch: &mut Batch| state.cancel(&topic, &queue, id, batch);
                self.durable(Need::End, cancel).await?;
                self.shared.wake_freed(&topic, &queue);
                Ok(1)
            }
            Change::Reschedule(name, id, due) => {
                self.present(&name).await?;
                let QueueName { topic, queue } = &name;
                let reschedule =
                    |state: &mut State, now, batch: &mut Batch| state.reschedule(topic, queue, id, due, now, batch);
                self.durable(Need::Lease, reschedule).await?;
                self.shared.wake(topic, queue);
                Ok(1)
            }
            Change::Reprioritize(name, id, priority) => {
                self.present(&name).await?;
                let QueueName { topic, queue } = &name;
                let reprioritize =
                    |state: &mut State, _, batch: &mut Batch| state.reprioritize(topic, queue, id, priority, batch);
                self.durable(Need::Lease, reprioritize).await.map(|()| 1)
            }
            Change::AckById(QueueName { topic, queue }, id) => {
                let ack = |state: &mut State, now, batch: &mut Batch| state.ack_by_id(&topic, &queue, id, now, batch);
                self.durable(Need::End, ack).await?;
                self.shared.wake_freed(&topic, &queue);
                Ok(1)
            }
            Change::Move(from, to, which) => self.transfer(&from, &to, which, false).await,
            Change::Copy(from, to, which) => self.transfer(&from, &to, which, true).await,
            Change::Redrive(name, ids) => {
                self.present(&name).await?;
                let QueueName { topic, queue } = &name;
                let mut ids = ids.as_deref();
                let redriven = self.repeat(Need::Lease, |state, now, batch| {
                    let number = state.queue_number(topic, queue)?;
                    let redriven = state.redrive(number, ids, now, batch);
                    ids = ids.map(|ids| &ids[STEP.min(ids.len())..]);
                    Ok((redriven, ids.map_or(redriven == STEP as u64, |ids| !ids.is_empty())))
                });
                let redriven = redriven.await?;
                self.shared.wake(topic, queue);
                Ok(redriven)
            }
            Change::Backup(name) => self.back_up(name).await,
        }
    }

    async fn look(&self, look: Look) -> Result<Seen, MqError> {
        self.seen(look).await
    }
}

use End::{Ack, Begin, Bury, Nack, Return, Touch};

fn end_one(state: &mut State, leased: Leased, end: &End, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
    match end {
        Ack => state.ack(leased, now, batch),
        Nack { delay, reason } => state.nack(leased, millis(*delay), reason, now, batch),
        Touch(ttr) => state.touch(leased, ttr.map_or(0, millis), now, batch),
        Bury(reason) => state.bury(leased, reason, now, batch),
        Begin => state.begin(leased, now, batch),
        Return => state.undelivered(leased, now, batch),
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<F: File> Node<F> {
    /// Compiles the route keys that are regular expressions and not known yet, without the lock.
    fn compile(&self, pushes: &[Push]) {
        if !self.shared.patterns.load(Ordering::Relaxed) || pushes.iter().all(|push| push.route_key.is_none()) {
            return;
        }
        let missing = self.shared.lock().state.uncompiled(pushes);
        if !missing.is_empty() {
            let compiled = |key: String| {
                let compiled = compile(&key);
                (key, compiled)
            };
            let compiled = missing.into_iter().map(compiled).collect();
            self.shared.lock().state.know(compiled);
        }
    }

    /// Adds a push to a group. The waiter ends when the messages are as durable as they ask for.
    pub(super) async fn begin_push<T>(
        &self,
        need: Need,
        durability: Durability,
        push: impl FnOnce(&mut State, Millis, &mut Group) -> Result<T, MqError>,
    ) -> Result<(T, Option<Waiter>), MqError> {
        let mut inner = self.shared.space(need).await?;
        let now = self.shared.clock.now();
        let (state, group) = inner.state_and_group(now);
        let pushed = push(state, now, group)?;
        let waiter = (durability != Durability::Queued).then(|| stage(group, durability).reached());
        self.shared.unlock_and_wake(inner);
        Ok((pushed, waiter))
    }

    fn own(&self, receipt: &Receipt) -> Result<(), MqError> {
        if (receipt.node, receipt.store) == (self.shared.node, self.shared.store) {
            return Ok(());
        }
        Err(MqError::OtherNode { node: receipt.node.get(), store: format!("{:x}", receipt.store) })
    }

    /// Makes a change, and waits until it is durable.
    pub(super) async fn durable<T>(
        &self,
        need: Need,
        change: impl FnOnce(&mut State, Millis, &mut Batch) -> Result<T, MqError>,
    ) -> Result<T, MqError> {
        let (value, waiter) = self.shared.add(self.shared.space(need).await?, |state, now, group| {
            let value = change(state, now, &mut group.batch)?;
            Ok((value, stage(group, Durability::Synced).reached()))
        })?;
        waiter.await?;
        Ok(value)
    }

    /// Makes a change in steps, each of them under the lock, until a step says that nothing is left. Returns the sum.
    async fn repeat(
        &self,
        need: Need,
        mut step: impl FnMut(&mut State, Millis, &mut Batch) -> Result<(u64, bool), MqError>,
    ) -> Result<u64, MqError> {
        let mut sum = 0;
        loop {
            let (changed, more) = self.durable(need, &mut step).await?;
            sum += changed;
            if !more {
                return Ok(sum);
            }
        }
    }
}

impl<F: File> Node<F> {
    /// See [`Change::Backup`].
    async fn back_up(&self, name: String) -> Result<u64, MqError> {
        let (wish, answer) = Wish::new(name)?;
        {
            // The segment that is written ends, and another one begins.
            let mut inner = self.shared.space(Need::Lease).await?;
            inner.backups.push(wish);
            self.shared.unlock_and_wake(inner);
        }
        answer.await.unwrap_or(Err(MqError::Closed))
    }

    /// Removes queues, and ends the waiting for their messages.
    async fn delete(
        &self,
        delete: impl FnOnce(&mut State, Millis, &mut Batch) -> Result<u64, MqError>,
    ) -> Result<u64, MqError> {
        let (deleted, waiter) = self.shared.add(self.shared.space(Need::End).await?, |state, now, group| {
            let deleted = delete(state, now, &mut group.batch)?;
            Ok((deleted, stage(group, Durability::Synced).reached()))
        })?;
        // Before anything is awaited: a caller that goes must not leave the waiters asleep.
        self.shared.forget_waiting();
        waiter.await?;
        self.release().await;
        Ok(deleted)
    }

    /// Releases removed messages, in steps. If the caller goes, the thread of the log goes on with it.
    async fn release(&self) {
        while !self.shared.release_some() {
            tokio::task::yield_now().await;
        }
    }
}

impl<F: File> Shared<F> {
    /// Releases a part of the removed messages; returns true if nothing is left.
    pub(super) fn release_some(&self) -> bool {
        let (discarded, done) = self.lock().state.release_some();
        // Millions of entries: not under the lock.
        drop(discarded);
        done
    }

    /// Ends leases whose messages reached nobody.
    pub(super) fn give_back(&self, leased: &[Leased]) {
        let changed = self.change(self.lock(), |state, now, batch| {
            // A lease that has ended needs nothing.
            leased.iter().for_each(|leased| drop(state.undelivered(*leased, now, batch)));
            Ok(())
        });
        // An error means that the node has ended, and the leases with it.
        if changed.is_ok() {
            self.wake_numbers(leased.iter().map(|leased| leased.queue));
        }
    }
}
