//! Removal of many messages at once: the queue is empty at once, and its places are released in steps.

use super::{
    STEP, State,
    topics::{queue_bytes, topic_bytes},
};
use crate::{
    MqError,
    batch::Batch,
    message::{Millis, check_name},
    queue::{Discarded, Queue},
    record::{QueueNumber, Record, TopicNumber},
};

impl State {
    /// Drops what is ready, delayed, leased or on its way; returns how many messages were there.
    pub(crate) fn purge(&mut self, topic: &str, queue: &str, now: Millis, batch: &mut Batch) -> Result<u64, MqError> {
        let number = self.queue_number(topic, queue)?;
        self.advance(number, now, batch);
        batch.add(&Record::Purged { queue: number });
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.purged = self.last_push;
        }
        Ok(self.apply_purge(number))
    }

    pub(super) fn apply_purge(&mut self, number: QueueNumber) -> u64 {
        self.edit(number, Queue::purge).map_or(0, |discarded| self.discard(discarded))
    }

    /// Drops dead letters that are not leased, one step of it; returns how many, and true if more may be left.
    pub(crate) fn purge_dead(&mut self, topic: &str, queue: &str, batch: &mut Batch) -> Result<(u64, bool), MqError> {
        let number = self.queue_number(topic, queue)?;
        let Some(queue) = self.queues.get(&number) else { return Ok((0, false)) };
        let letters: Vec<_> = queue.free_letters().take(STEP).map(|(_, id)| id).collect();
        letters.iter().for_each(|id| self.finish(number, *id, batch));
        Ok((letters.len() as u64, letters.len() == STEP))
    }

    pub(crate) fn delete_queue(&mut self, topic: &str, queue: &str, batch: &mut Batch) -> Result<u64, MqError> {
        let number = self.queue_number(topic, queue)?;
        batch.add(&Record::QueueGone { number });
        Ok(self.apply_queue_gone(number))
    }

    pub(super) fn apply_queue_gone(&mut self, number: QueueNumber) -> u64 {
        let Some(mut queue) = self.queues.remove(&number) else { return 0 };
        if let Some(topic) = self.topics.get_mut(&queue.topic) {
            topic.queues.remove(&queue.bind_key);
        }
        self.pending = self.pending.saturating_sub(queue.pending);
        self.totals.configuration -= queue_bytes(&queue.bind_key);
        self.totals.without(&queue);
        self.discard(queue.clear())
    }

    pub(crate) fn delete_topic(&mut self, topic: &str, batch: &mut Batch) -> Result<u64, MqError> {
        check_name("topic", topic)?;
        let number = self.names.get(topic).copied().ok_or_else(|| MqError::NoTopic(topic.to_owned()))?;
        batch.add(&Record::TopicGone { number });
        Ok(self.apply_topic_gone(number))
    }

    pub(super) fn apply_topic_gone(&mut self, number: TopicNumber) -> u64 {
        let Some(topic) = self.topics.remove(&number) else { return 0 };
        self.names.remove(&topic.name);
        self.totals.configuration -= topic_bytes(&topic.name, &topic.config);
        for segment in self.dedup.remove_topic(number) {
            self.needed.release(segment);
        }
        topic.queues.into_values().map(|queue| self.apply_queue_gone(queue)).sum()
    }

    fn discard(&mut self, discarded: Discarded) -> u64 {
        let count = discarded.count;
        self.totals.discarded += count;
        if count > 0 {
            self.discarded.push_back(discarded);
        }
        count
    }

    /// Releases the places of discarded messages, one step of it. Returns what is to be dropped without the lock, and false if
    /// more is left.
    pub(crate) fn release_some(&mut self) -> (Option<Discarded>, bool) {
        let Some(discarded) = self.discarded.front_mut() else { return (None, true) };
        let mut released = 0;
        for place in discarded.by_ref().take(STEP) {
            released += 1;
            self.needed.drop(place);
        }
        self.totals.discarded -= released as u64;
        let done = if released < STEP { self.discarded.pop_front() } else { None };
        (done, self.discarded.is_empty())
    }
}
