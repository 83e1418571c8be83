//! Back from the log, and forward in it.

use super::{
    PER_LEASE, State, Topic,
    topics::{queue_bytes, topic_bytes},
};
use crate::{
    batch::{Batch, Place},
    dedup::{Ending, Key},
    message::{Ids, MessageId, Millis, NodeId},
    queue::{Lease, Live, Queue},
    record::{CopyState, MessageRecord, QueueNumber, Record, TopicConfig, TopicNumber},
};

/// Ids that were given to messages that a crash lost may be ahead of the time by so many milliseconds.
const BORROWED: Millis = 1000;

/// A crash loses the leases that were not synced, and others must not pass for them: so many numbers are left out, or as
/// many as the time has advanced.
const FORGOTTEN: u64 = 1 << 32;

impl State {
    /// One record of the log. Their order is the log's. What the record is about may be gone since.
    pub(crate) fn apply(&mut self, record: Record, place: Place, now: Millis) {
        match record {
            Record::Message(message) => self.apply_message(&message, place, now),
            Record::Gone { queue, id } => self.apply_gone(queue, id),
            Record::State { queue, id, state } => {
                self.edit(queue, |queue| queue.set(id, state, now));
            }
            Record::Lease { queue, id, number, retries, expires, is_begun } => {
                self.last_lease = self.last_lease.max(number);
                self.edit(queue, |queue| queue.set_lease(id, Lease { number, expires, is_begun }, retries));
            }
            Record::Topic { number, name, config } => {
                self.apply_topic(number, name, config);
            }
            Record::Queue { number, topic, bind_key, paused } => {
                self.apply_queue(number, topic, bind_key, paused);
            }
            Record::TopicGone { number } => drop(self.apply_topic_gone(number)),
            Record::QueueGone { number } => drop(self.apply_queue_gone(number)),
            Record::Purged { queue } => drop(self.apply_purge(queue)),
            Record::Dedup { topic, key, id, expires } => {
                if let Some(replaced) = self.dedup.insert(topic, key.clone(), id, expires) {
                    self.needed.release(replaced);
                }
                self.dedup.placed(topic, &key, id, place.segment);
                self.needed.retain(place.segment);
            }
            Record::Priority { queue, id, priority } => {
                self.edit(queue, |queue| queue.set_priority(id, priority));
            }
            Record::Marks { topics, queues, ids, leases } => {
                self.last_topic = self.last_topic.max(topics);
                self.last_queue = self.last_queue.max(queues);
                self.last_lease = self.last_lease.max(leases);
                self.know_id(ids);
            }
        }
    }

    fn apply_message(&mut self, message: &MessageRecord, place: Place, now: Millis) {
        self.know_id(message.id.0);
        self.is_bounded |= message.group.is_some();
        let mut queues = 0;
        for (number, state) in &message.copies {
            let live = Live::new(place, message.priority, message.ttr);
            let before = self.edit(*number, |queue| {
                let before = queue.insert(message.id, live, state.clone(), message.group.as_deref(), now);
                if message.end.is_some() {
                    queue.set_end(message.id, message.end);
                }
                before
            });
            queues += u32::from(before.is_some());
            if let Some(before) = before.flatten() {
                self.needed.drop(before);
            }
        }
        self.needed.add(place, queues);
    }

    pub(super) fn apply_topic(&mut self, number: TopicNumber, name: String, config: TopicConfig) {
        self.last_topic = self.last_topic.max(number);
        self.is_bounded |= config.max_leased < u64::MAX;
        self.totals.configuration += topic_bytes(&name, &config);
        let before = self.topics.remove(&number);
        match &before {
            Some(before) => self.totals.configuration -= topic_bytes(&name, &before.config),
            None => drop(self.names.insert(name.clone(), number)),
        }
        let queues = before.map(|topic| topic.queues).unwrap_or_default();
        self.topics.insert(number, Topic { name, config, queues });
    }

    /// A queue of a topic that is gone is gone too.
    pub(super) fn apply_queue(&mut self, number: QueueNumber, topic: TopicNumber, bind_key: String, paused: bool) {
        self.last_queue = self.last_queue.max(number);
        let Some(of) = self.topics.get_mut(&topic) else { return };
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.paused = paused;
            return;
        }
        self.totals.configuration += queue_bytes(&bind_key);
        of.queues.insert(bind_key.clone(), number);
        let mut queue = Queue::new(topic, bind_key);
        queue.paused = paused;
        self.queues.insert(number, queue);
    }

    fn know_id(&mut self, id: u64) {
        if id > self.ids.last() {
            self.ids = Ids::new(MessageId(id).node(), id);
        }
    }

    /// The log has been read to its end: whatever `node` gives from here on is above what it gave before, also what a crash
    /// made the log forget. The batches, which hold the configuration, must be synced before anything is given.
    pub(crate) fn recovered(&mut self, node: NodeId, now: Millis) -> Vec<Batch> {
        let last = self.ids.last().max(Ids::bound(now + BORROWED));
        self.ids = Ids::new(node, last);
        self.last_lease = (self.last_lease + FORGOTTEN).max(Ids::bound(now));
        while !self.release_some().1 {}
        self.configuration()
    }

    /// All that a log must say anew when its oldest segment goes, but for messages and dedup keys.
    pub(crate) fn configuration(&self) -> Vec<Batch> {
        let (mut batches, mut batch) = (Vec::new(), Batch::default());
        let mut add = |record: Record| {
            if batch.is_full() {
                batches.push(std::mem::take(&mut batch));
            }
            batch.add(&record);
        };
        let (topics, queues, leases) = (self.last_topic, self.last_queue, self.last_lease);
        add(Record::Marks { topics, queues, ids: self.ids.last(), leases });
        for (number, topic) in &self.topics {
            add(Record::Topic { number: *number, name: topic.name.clone(), config: topic.config.clone() });
        }
        for (number, queue) in &self.queues {
            let (topic, bind_key, paused) = (queue.topic, queue.bind_key.clone(), queue.paused);
            add(Record::Queue { number: *number, topic, bind_key, paused });
        }
        batches.push(batch);
        batches
    }

    /// The queues that still need a message from this place.
    fn holders(&self, message: &MessageRecord, place: Place) -> Vec<QueueNumber> {
        let holds = |number: &QueueNumber| {
            let live = self.queues.get(number).and_then(|queue| queue.get(message.id));
            live.is_some_and(|live| live.place == place)
        };
        message.copies.iter().map(|(number, _)| *number).filter(holds).collect()
    }

    /// About how many bytes a copy of the message takes, with the reasons of dead letters and the leases; 0 if it is needed no
    /// more.
    pub(crate) fn copy_bytes(&self, message: &MessageRecord, place: Place) -> u64 {
        let holders = self.holders(message, place);
        if holders.is_empty() {
            return 0;
        }
        let extra = |number: &QueueNumber| {
            let queue = self.queues.get(number)?;
            let reason = queue.dead_reason(message.id).map_or(0, str::len) as u64;
            Some(reason + if queue.lease(message.id).is_some() { PER_LEASE } else { 0 })
        };
        u64::from(place.length) + holders.iter().filter_map(extra).sum::<u64>()
    }

    /// Adds a copy of a message to the batch, as it stands now, if it is still needed; returns what
    /// [`copied`](Self::copied) wants.
    pub(crate) fn copy(&self, mut message: MessageRecord, place: Place, batch: &mut Batch) -> Option<Copied> {
        let holders = self.holders(&message, place);
        if holders.is_empty() {
            return None;
        }
        let mut more = Vec::new();
        // Where one of the queues has given up the end, as with a dead letter that was made ready again, all do.
        let end = |number: &QueueNumber| self.queues.get(number).and_then(|queue| queue.end(message.id));
        message.end = holders.iter().map(end).min().flatten();
        let priority = message.priority;
        message.copies = holders
            .iter()
            .filter_map(|number| {
                let queue = self.queues.get(number)?;
                let live = queue.get(message.id)?;
                if let Some(Lease { number: lease, expires, is_begun }) = queue.lease(message.id) {
                    let (id, retries) = (message.id, live.retries);
                    more.push(Record::Lease { queue: *number, id, number: lease, retries, expires, is_begun });
                }
                if live.priority != priority {
                    more.push(Record::Priority { queue: *number, id: message.id, priority: live.priority });
                }
                let dead = queue.dead_reason(message.id).map(str::to_owned);
                Some((*number, CopyState { due: live.due, retries: live.retries, dead }))
            })
            .collect();
        let id = message.id;
        let new = batch.add(&Record::Message(message));
        for record in &more {
            batch.add(record);
        }
        Some(Copied { id, from: place, to: new, holders })
    }

    /// The copy is in the log, its batch's content at `start` of `segment`.
    pub(crate) fn copied(&mut self, copied: &Copied, segment: u32, start: u32) {
        let place = Place { segment, offset: start + copied.to.offset, length: copied.to.length };
        let mut queues = 0;
        for number in &copied.holders {
            let Some(queue) = self.queues.get_mut(number) else { continue };
            // The message may be done with meanwhile.
            if queue.get(copied.id).is_some_and(|live| live.place == copied.from) {
                queue.moved(copied.id, place);
                queues += 1;
            }
        }
        self.needed.add(place, queues);
        (0..queues).for_each(|_| self.needed.drop(copied.from));
    }

    /// Adds dedup keys that this segment holds to the batch, among the next keys behind `after`: at most so many
    /// are looked at, and at most about so many bytes are copied. Returns them for
    /// [`copied_keys`](Self::copied_keys), and the last key that was looked at, if there are more.
    pub(crate) fn copy_keys(
        &mut self,
        segment: u32,
        after: Option<&Ending>,
        (most, bytes): (usize, u64),
        batch: &mut Batch,
    ) -> (Vec<Key>, Option<Ending>) {
        let (keys, last) = self.dedup.of_segment(segment, after, most, bytes);
        for Key { topic, key, id, expires } in &keys {
            batch.add(&Record::Dedup { topic: *topic, key: key.clone(), id: *id, expires: *expires });
        }
        (keys, last)
    }

    /// The keys are in the log, in the segment `to`.
    pub(crate) fn copied_keys(&mut self, keys: &[Key], from: u32, to: u32) {
        for Key { topic, key, id, .. } in keys {
            if self.dedup.placed(*topic, key, *id, to) {
                self.needed.retain(to);
                self.needed.release(from);
            }
        }
    }
}

/// A message that was written once more.
#[derive(Debug)]
pub(crate) struct Copied {
    id: MessageId,
    from: Place,
    /// In its batch.
    to: Place,
    holders: Vec<QueueNumber>,
}
