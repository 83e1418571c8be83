//! How deliveries end.

use super::{STEP, State};
use crate::{
    MqError, Receipt,
    batch::Batch,
    message::{LONGEST_DELAY, MessageId, Millis},
    queue::{Lease, Standing},
    record::{CopyState, QueueNumber, Record, TopicNumber},
};

/// Which delivery is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leased {
    pub(crate) queue: QueueNumber,
    pub(crate) id: MessageId,
    pub(crate) lease: u64,
}

impl From<&Receipt> for Leased {
    fn from(receipt: &Receipt) -> Self {
        Self { queue: receipt.queue, id: receipt.id, lease: receipt.lease }
    }
}

impl State {
    /// The delivery's end, if it has not ended.
    fn check(&self, leased: Leased, now: Millis) -> Result<Lease, MqError> {
        let lease = self.queues.get(&leased.queue).and_then(|queue| queue.lease(leased.id));
        let lease = lease.filter(|lease| lease.number == leased.lease && lease.expires > now);
        lease.ok_or(MqError::NotLeased(leased.id.0))
    }

    /// The message is done with.
    pub(crate) fn ack(&mut self, leased: Leased, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        self.check(leased, now)?;
        if let Some(queue) = self.queues.get_mut(&leased.queue) {
            queue.acked += 1;
        }
        self.finish(leased.queue, leased.id, batch);
        Ok(())
    }

    /// Ends the current lease of a message with an ack.
    pub(crate) fn ack_by_id(
        &mut self,
        topic: &str,
        queue: &str,
        id: MessageId,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        let lease = self.queue(number).and_then(|queue| queue.lease(id)).ok_or(MqError::NoMessage(id.0))?;
        let leased = Leased { queue: number, id, lease: lease.number };
        self.ack(leased, now, batch).map_err(|_| MqError::NoMessage(id.0))
    }

    /// Takes a message out of a queue, wherever it stands there.
    pub(crate) fn cancel(&mut self, topic: &str, queue: &str, id: MessageId, batch: &mut Batch) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        if self.queue(number).is_none_or(|queue| queue.get(id).is_none()) {
            return Err(MqError::NoMessage(id.0));
        }
        self.finish(number, id, batch);
        Ok(())
    }

    /// The same for a message that is there.
    pub(crate) fn finish(&mut self, queue: QueueNumber, id: MessageId, batch: &mut Batch) {
        batch.add(&Record::Gone { queue, id });
        self.apply_gone(queue, id);
    }

    pub(super) fn apply_gone(&mut self, queue: QueueNumber, id: MessageId) {
        if let Some(place) = self.edit(queue, |queue| queue.remove(id)).flatten() {
            self.needed.drop(place);
        }
    }

    /// The delivery came to nothing: the message comes again after `delay`, or is dead.
    pub(crate) fn nack(
        &mut self,
        leased: Leased,
        delay: Millis,
        reason: &str,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        self.check(leased, now)?;
        if self.is_dead(leased.queue, leased.id) {
            return self.undelivered(leased, now, batch);
        }
        self.failed(leased.queue, leased.id, Failure { at: now, delay, reason, is_last: false }, now, batch);
        Ok(())
    }

    fn is_dead(&self, queue: QueueNumber, id: MessageId) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.dead_reason(id).is_some())
    }

    /// The message stands where it stood before the lease, and the delivery does not count.
    pub(crate) fn undelivered(&mut self, leased: Leased, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        self.check(leased, now)?;
        let Some(queue) = self.queues.get(&leased.queue) else { return Ok(()) };
        let Some(live) = queue.get(leased.id) else { return Ok(()) };
        let dead = queue.dead_reason(leased.id).map(str::to_owned);
        let rate = self.topics[&queue.topic].config.rate.filter(|_| dead.is_none());
        let state = CopyState { due: live.due, retries: live.retries, dead };
        self.put(leased.queue, leased.id, state, now, batch);
        if let (Some(rate), Some(queue)) = (rate, self.queues.get_mut(&leased.queue)) {
            queue.pace.give_back(rate, now);
        }
        Ok(())
    }

    /// The delivery takes `ttr` from now on; the topic's if 0.
    pub(crate) fn touch(&mut self, leased: Leased, ttr: Millis, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        let before = self.check(leased, now)?;
        let Some(queue) = self.queues.get(&leased.queue) else { return Ok(()) };
        let Some(live) = queue.get(leased.id).copied() else { return Ok(()) };
        let usual = if live.ttr > 0 { live.ttr.into() } else { self.topics[&queue.topic].config.ttr };
        let expires = now.saturating_add(if ttr > 0 { ttr } else { usual });
        self.renew(leased, Lease { expires, ..before }, batch);
        Ok(())
    }

    /// The message's handling begins: if the lease ends by itself, the message is dead at once.
    pub(crate) fn begin(&mut self, leased: Leased, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        let before = self.check(leased, now)?;
        if !self.is_dead(leased.queue, leased.id) {
            self.renew(leased, Lease { is_begun: true, ..before }, batch);
        }
        Ok(())
    }

    fn renew(&mut self, Leased { queue, id, .. }: Leased, lease: Lease, batch: &mut Batch) {
        let Some(retries) = self.queues.get(&queue).and_then(|queue| queue.get(id)).map(|live| live.retries) else {
            return;
        };
        self.edit(queue, |queue| queue.set_lease(id, lease, retries));
        let Lease { number, expires, is_begun } = lease;
        batch.add(&Record::Lease { queue, id, number, retries, expires, is_begun });
    }

    /// The delivery failed for good: the message is dead. A dead letter stays as it is.
    pub(crate) fn bury(&mut self, leased: Leased, reason: &str, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        self.check(leased, now)?;
        if self.is_dead(leased.queue, leased.id) {
            return self.undelivered(leased, now, batch);
        }
        self.failed(leased.queue, leased.id, Failure { at: now, delay: 0, reason, is_last: true }, now, batch);
        Ok(())
    }

    /// Ends the leases that have run out, makes ready what is due, and drops dead letters that are too old: one step of it.
    /// Returns false if there may be more to do.
    pub(crate) fn advance(&mut self, number: QueueNumber, now: Millis, batch: &mut Batch) -> bool {
        let mut moved = 0;
        // The message was due when its lease ended, not when somebody looked.
        while !self.frozen
            && let Some((id, end)) = self.queues.get(&number).and_then(|queue| queue.first_expired(now))
        {
            if batch.is_full() || moved >= STEP {
                return false;
            }
            let is_last =
                self.queues.get(&number).and_then(|queue| queue.lease(id)).is_some_and(|lease| lease.is_begun);
            let reason = if is_last { "its TTR ran out after it was begun" } else { "its TTR ran out" };
            self.failed(number, id, Failure { at: end, delay: 0, reason, is_last }, now, batch);
            moved += 1;
        }
        while !self.frozen
            && let Some((id, end)) = self.queues.get(&number).and_then(|queue| queue.first_outlived(now))
        {
            if batch.is_full() || moved >= STEP {
                return false;
            }
            self.outlived(number, id, end, now, batch);
            moved += 1;
        }
        // The ends above may have let others of their groups go on.
        let Some(due) = self.edit(number, |queue| queue.advance(now, STEP - moved)) else { return true };
        moved += due;
        moved < STEP && self.drop_old_letters(number, STEP - moved, now, batch)
    }

    /// The message's time to live has ended: it is dead.
    fn outlived(&mut self, number: QueueNumber, id: MessageId, end: Millis, now: Millis, batch: &mut Batch) {
        let Some(queue) = self.queues.get_mut(&number) else { return };
        queue.outlived += 1;
        queue.died += 1;
        let retries = queue.get(id).map_or(0, |live| live.retries);
        let dead = Some("its time to live ended before it was handled".to_owned());
        self.put(number, id, CopyState { due: end, retries, dead }, now, batch);
        self.drop_old_letters(number, 1, now, batch);
    }

    /// Gives a message that is ready or delayed another due time.
    pub(crate) fn reschedule(
        &mut self,
        topic: &str,
        queue: &str,
        id: MessageId,
        due: Millis,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        let queue = self.queues.get(&number).ok_or(MqError::NoMessage(id.0))?;
        let retries = queue.get(id).ok_or(MqError::NoMessage(id.0))?.retries;
        if due > now + LONGEST_DELAY {
            let text = format!("due in {} ms: at most {LONGEST_DELAY} ms (366 days) are taken", due - now);
            return Err(MqError::Invalid(text));
        }
        match queue.standing(id) {
            Some(Standing::Leased(_)) => {
                Err(MqError::Invalid(format!("message {id} is leased: it is scheduled by how its lease ends")))
            }
            Some(Standing::Dead(_)) => Err(MqError::Invalid(format!("message {id} is dead: redrive it"))),
            _ => {
                self.put(number, id, CopyState { due: due.max(now), retries, dead: None }, now, batch);
                Ok(())
            }
        }
    }

    /// Gives a message another priority, wherever it stands.
    pub(crate) fn reprioritize(
        &mut self,
        topic: &str,
        queue: &str,
        id: MessageId,
        priority: u8,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        let there = self.queues.get(&number).is_some_and(|queue| queue.get(id).is_some());
        if !there {
            return Err(MqError::NoMessage(id.0));
        }
        batch.add(&Record::Priority { queue: number, id, priority });
        self.edit(number, |queue| queue.set_priority(id, priority));
        Ok(())
    }

    /// Drops dead letters beyond the topic's number and age, and the node's number, the oldest first: at most `most`. Returns
    /// false if there may be more.
    fn drop_old_letters(&mut self, number: QueueNumber, most: usize, now: Millis, batch: &mut Batch) -> bool {
        for _ in 0..most {
            let Some(queue) = self.queues.get(&number) else { return true };
            let Some((died, id)) = queue.free_letters().next() else { return true };
            let config = &self.topics[&queue.topic].config;
            let too_many = queue.dead() > config.max_dead || self.totals.dead > self.limits.dead;
            if !too_many && died.saturating_add(config.dead_age) > now {
                return true;
            }
            self.finish(number, id, batch);
            if let Some(queue) = self.queues.get_mut(&number) {
                queue.dropped += 1;
            }
        }
        false
    }

    /// Brings the queues of a topic to the present, one step each.
    pub(super) fn advance_topic(&mut self, topic: TopicNumber, now: Millis, batch: &mut Batch) {
        let numbers: Vec<_> = self.topics.get(&topic).into_iter().flat_map(|t| t.queues.values().copied()).collect();
        for number in numbers {
            self.advance(number, now, batch);
        }
    }

    /// Brings all queues to the present, one step of it. Returns false if there may be more to do.
    pub(crate) fn advance_all(&mut self, now: Millis, batch: &mut Batch) -> bool {
        let numbers: Vec<_> = self.queues.keys().copied().collect();
        numbers.into_iter().all(|number| self.advance(number, now, batch))
    }

    fn failed(&mut self, number: QueueNumber, id: MessageId, failure: Failure<'_>, now: Millis, batch: &mut Batch) {
        let Failure { at, delay, reason, is_last } = failure;
        let Some(queue) = self.queues.get(&number) else { return };
        let Some(live) = queue.get(id) else { return };
        let retries = live.retries.saturating_add(1);
        let config = &self.topics[&queue.topic].config;
        let is_dead = is_last || retries > config.max_retries;
        let due = at.saturating_add(delay.max(config.pause(retries)));
        let most = if self.totals.reasons > REASONS { SHORT_REASON } else { LONGEST_REASON };
        let reason = &reason[..reason.floor_char_boundary(most)];
        let dead = is_dead.then(|| format!("delivered {retries} times; the last time: {reason}"));
        // A dead letter keeps the time of its death.
        let due = if is_dead { at } else { due };
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.failed += 1;
            queue.died += u64::from(is_dead);
        }
        self.put(number, id, CopyState { due, retries, dead }, now, batch);
        if is_dead {
            self.drop_old_letters(number, 1, now, batch);
        }
    }

    fn put(&mut self, queue: QueueNumber, id: MessageId, state: CopyState, now: Millis, batch: &mut Batch) {
        batch.add(&Record::State { queue, id, state: state.clone() });
        self.edit(queue, |queue| queue.set(id, state, now));
    }

    /// Makes dead letters that are not leased ready again, their retries at 0: the oldest, or those of `ids`, at most
    /// [`STEP`]. Returns how many.
    pub(crate) fn redrive(
        &mut self,
        number: QueueNumber,
        ids: Option<&[MessageId]>,
        now: Millis,
        batch: &mut Batch,
    ) -> u64 {
        self.advance(number, now, batch);
        let Some(queue) = self.queues.get(&number) else { return 0 };
        let chosen: Vec<_> = match ids {
            Some(ids) => ids.iter().copied().take(STEP).collect(),
            None => queue.free_letters().map(|(_, id)| id).take(STEP).collect(),
        };
        let mut redriven = 0;
        for id in chosen {
            // An id may be given twice.
            if self.queues.get(&number).is_some_and(|queue| queue.is_free_letter(id)) {
                self.put(number, id, CopyState { due: now, retries: 0, dead: None }, now, batch);
                redriven += 1;
            }
        }
        redriven
    }
}

/// End of a delivery that came to nothing.
#[derive(Clone, Copy, Debug)]
struct Failure<'a> {
    at: Millis,
    /// Least time until the next delivery; the topic's pause if that is longer.
    delay: Millis,
    reason: &'a str,
    /// The message is dead, whatever its retries.
    is_last: bool,
}

/// Bytes of a nack's reason that are kept.
pub(crate) const LONGEST_REASON: usize = 1024;
/// The same when all reasons together have more than [`REASONS`].
const SHORT_REASON: usize = 64;
/// Bytes of all reasons, in memory, beyond which new ones are short.
const REASONS: u64 = 64 << 20;
