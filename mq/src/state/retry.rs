//! How deliveries end.

use super::State;
use crate::{
    MqError, Receipt,
    batch::Batch,
    message::{MessageId, Millis},
    queue::Lease,
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

    /// Takes a message out of a queue, wherever it stands there.
    pub(crate) fn finish(&mut self, queue: QueueNumber, id: MessageId, batch: &mut Batch) {
        batch.add(&Record::Gone { queue, id });
        self.apply_gone(queue, id);
    }

    pub(super) fn apply_gone(&mut self, queue: QueueNumber, id: MessageId) {
        let place = self.queues.get_mut(&queue).and_then(|queue| queue.remove(id));
        if let Some(place) = place {
            self.dropped(place);
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
        self.failed(leased.queue, leased.id, now.saturating_add(delay), reason, now, batch);
        Ok(())
    }

    /// The message never reached anybody: it is ready at once, and the delivery does not count.
    pub(crate) fn undelivered(&mut self, leased: Leased, now: Millis, batch: &mut Batch) {
        if self.check(leased, now).is_err() {
            return;
        }
        let Some(live) = self.queues.get(&leased.queue).and_then(|queue| queue.get(leased.id)) else { return };
        let state = CopyState { due: live.due, retries: live.retries, dead: None };
        self.put(leased.queue, leased.id, state, now, batch);
    }

    /// The delivery takes `ttr` from now on; the topic's if 0.
    pub(crate) fn touch(&mut self, leased: Leased, ttr: Millis, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        self.check(leased, now)?;
        let Some(queue) = self.queues.get_mut(&leased.queue) else { return Ok(()) };
        let Some(live) = queue.get(leased.id).copied() else { return Ok(()) };
        let usual = if live.ttr > 0 { live.ttr.into() } else { self.topics[&queue.topic].config.ttr };
        let expires = now.saturating_add(if ttr > 0 { ttr } else { usual });
        queue.set_lease(leased.id, Lease { number: leased.lease, expires }, live.retries);
        let Leased { queue, id, lease: number } = leased;
        batch.add(&Record::Lease { queue, id, number, retries: live.retries, expires });
        Ok(())
    }

    /// Ends the leases that have run out, and makes ready what is due. False: the batch is full, there is more to do.
    pub(crate) fn advance(&mut self, number: QueueNumber, now: Millis, batch: &mut Batch) -> bool {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.advance(now);
        }
        // It was due when its lease ended, not when somebody looked.
        while let Some((id, end)) = self.queues.get(&number).and_then(|queue| queue.first_expired(now)) {
            if batch.is_full() {
                return false;
            }
            self.failed(number, id, end, "its TTR ran out", now, batch);
        }
        true
    }

    /// The same for the queues of a topic.
    pub(super) fn advance_topic(&mut self, topic: TopicNumber, now: Millis, batch: &mut Batch) -> bool {
        let numbers: Vec<_> = self.topics.get(&topic).into_iter().flat_map(|t| t.queues.values().copied()).collect();
        numbers.into_iter().all(|number| self.advance(number, now, batch))
    }

    /// The same for all queues.
    pub(crate) fn advance_all(&mut self, now: Millis, batch: &mut Batch) -> bool {
        let numbers: Vec<_> = self.queues.keys().copied().collect();
        numbers.into_iter().all(|number| self.advance(number, now, batch))
    }

    fn failed(
        &mut self,
        number: QueueNumber,
        id: MessageId,
        due: Millis,
        reason: &str,
        now: Millis,
        batch: &mut Batch,
    ) {
        let Some(queue) = self.queues.get(&number) else { return };
        let Some(live) = queue.get(id) else { return };
        let retries = live.retries.saturating_add(1);
        let dead = (retries > self.topics[&queue.topic].config.max_retries)
            .then(|| format!("delivered {retries} times; the last time: {reason}"));
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.failed += 1;
            queue.died += u64::from(dead.is_some());
        }
        self.put(number, id, CopyState { due, retries, dead }, now, batch);
    }

    fn put(&mut self, queue: QueueNumber, id: MessageId, state: CopyState, now: Millis, batch: &mut Batch) {
        batch.add(&Record::State { queue, id, state: state.clone() });
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.set(id, state, now);
        }
    }

    /// Makes dead messages ready again, their count at 0; returns how many. If the batch is full, there may be more.
    pub(crate) fn redrive(
        &mut self,
        number: QueueNumber,
        ids: Option<&[MessageId]>,
        now: Millis,
        batch: &mut Batch,
    ) -> u64 {
        self.advance(number, now, batch);
        let Some(queue) = self.queues.get(&number) else { return 0 };
        let dead = queue.dead_after(MessageId(0)).map(|(id, _)| id);
        let chosen: Vec<_> = dead.filter(|id| ids.is_none_or(|ids| ids.contains(id))).collect();
        let mut redriven = 0;
        for id in chosen {
            if batch.is_full() {
                break;
            }
            self.put(number, id, CopyState { due: now, retries: 0, dead: None }, now, batch);
            redriven += 1;
        }
        redriven
    }
}
