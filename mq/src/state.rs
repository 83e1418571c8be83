//! The state of a node: topics, queues, and the place of each message. Pure: time comes in as an argument, and what must
//! survive goes out as records.

mod moves;
mod needed;
mod push;
mod recover;
mod remove;
mod retry;
mod stats;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use crate::{
    MqError, QueueName, Settings,
    batch::{Batch, Place},
    dedup::Dedup,
    message::{Ids, MessageId, Millis, NodeId, check_name},
    queue::{Discarded, Lease, Queue},
    record::{QueueNumber, Record, TopicConfig, TopicNumber},
    route::Expressions,
};

pub(crate) use moves::Way;
use needed::Needed;
pub(crate) use push::{Pending, Pushed};
pub(crate) use recover::Copied;
pub(crate) use retry::{LONGEST_REASON, Leased};

/// Bounds of what a node keeps in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Messages, counted once for each queue that holds them, without dead letters.
    pub(crate) live: u64,
    /// Dead letters.
    pub(crate) dead: u64,
    /// Dedup keys.
    pub(crate) dedup: usize,
    /// Topics.
    pub(crate) topics: usize,
    /// Queues of all topics.
    pub(crate) queues: usize,
    /// Bytes of the records of all topics and queues: every segment of the log begins with them.
    pub(crate) configuration: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) limits: Limits,
    ids: Ids,
    names: BTreeMap<String, TopicNumber>,
    topics: BTreeMap<TopicNumber, Topic>,
    queues: BTreeMap<QueueNumber, Queue>,
    last_topic: TopicNumber,
    last_queue: QueueNumber,
    last_lease: u64,
    dedup: Dedup,
    expressions: Expressions,
    /// Messages and dedup keys that are still needed, by segment.
    needed: Needed,
    /// Purged and deleted messages, until their places are released.
    discarded: VecDeque<Discarded>,
    totals: Totals,
    /// On their way to the log.
    pending: u64,
    /// Pushes so far.
    last_push: u64,
    /// True if a queue may have groups, or a bound of leases or deliveries.
    is_bounded: bool,
    /// Settings that new topics begin with.
    new_topics: Settings,
    /// The disk is full: leases do not end by themselves, because that takes space.
    pub(crate) frozen: bool,
}

/// Sums over all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    dead: u64,
    reasons: u64,
    leases: u64,
    /// Bytes of the records of all topics and queues.
    configuration: u64,
    /// Messages that are discarded and not released yet.
    discarded: u64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    config: TopicConfig,
    queues: BTreeMap<String, QueueNumber>,
}

/// One message that is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) queue: QueueNumber,
    pub(crate) id: MessageId,
    pub(crate) place: Place,
    pub(crate) lease: u64,
    pub(crate) retries: u16,
    /// Length of the lease.
    pub(crate) ttr: Millis,
}

/// Bytes that ending one message takes in the log, with room to spare.
const PER_COPY: u64 = 64;
/// Bytes of the record of a lease, in a batch and in the footer.
const PER_LEASE: u64 = 96;

/// Messages that one step may move while it holds the lock: some milliseconds.
pub(crate) const STEP: usize = 10_000;

impl State {
    pub(crate) fn new(node: NodeId, limits: Limits) -> Self {
        Self {
            limits,
            ids: Ids::new(node, 0),
            names: BTreeMap::new(),
            topics: BTreeMap::new(),
            queues: BTreeMap::new(),
            last_topic: 0,
            last_queue: 0,
            last_lease: 0,
            dedup: Dedup::default(),
            expressions: Expressions::default(),
            needed: Needed::default(),
            discarded: VecDeque::new(),
            totals: Totals::default(),
            pending: 0,
            last_push: 0,
            is_bounded: false,
            new_topics: Settings::default(),
            frozen: false,
        }
    }

    /// Messages, counted once for each queue that holds them.
    pub(crate) fn live(&self) -> u64 {
        self.needed.copies()
    }

    /// Bytes of the messages that are still needed; a body that several queues hold counts once.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.needed.bytes()
    }

    /// Bytes that must stay free in the log: for the end of each message, and for what copies have and the originals may not.
    pub(crate) fn reserve(&self) -> u64 {
        PER_COPY * self.live() + PER_LEASE * self.totals.leases + self.totals.reasons
    }

    /// Bytes of messages that were needed once and are not any more, since the node started.
    pub(crate) fn dropped_bytes(&self) -> u64 {
        self.needed.dropped_bytes()
    }

    /// Returns true if nothing in the segment is needed any more.
    pub(crate) fn is_free(&self, segment: u32) -> bool {
        self.needed.is_free(segment)
    }

    /// Changes a queue, and the sums over all queues with it.
    fn edit<T>(&mut self, number: QueueNumber, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let queue = self.queues.get_mut(&number)?;
        self.totals.without(queue);
        let changed = change(queue);
        self.totals.with(queue);
        Some(changed)
    }

    /// Hands out the next messages: at most `most`, and at most `bytes` unless the first alone has more. Records of what
    /// happened meanwhile come before. `None`: there are due messages to be moved first, with another call.
    pub(crate) fn pop(
        &mut self,
        number: QueueNumber,
        most: usize,
        bytes: usize,
        now: Millis,
        batch: &mut Batch,
    ) -> Option<Vec<Handed>> {
        if !self.advance(number, now, batch) {
            return None;
        }
        let next = |queue: &Queue| queue.first_ready();
        let most = most.min(self.allowed(number, now));
        let handed = self.hand_out(number, most, bytes, now, batch, next);
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.popped += handed.len() as u64;
            if let Some(rate) = self.topics[&queue.topic].config.rate {
                queue.pace.take(rate, handed.len() as u64, now);
            }
        }
        Some(handed)
    }

    /// Messages that may be handed out now by the bounds of the topic.
    fn allowed(&self, number: QueueNumber, now: Millis) -> usize {
        let Some(queue) = self.queues.get(&number) else { return 0 };
        let config = &self.topics[&queue.topic].config;
        let by_rate = config.rate.map_or(u64::MAX, |rate| queue.pace.available(rate, now));
        usize::try_from(config.max_leased.saturating_sub(queue.leased()).min(by_rate)).unwrap_or(usize::MAX)
    }

    /// The next time at which something can be handed out that cannot be now.
    pub(crate) fn next_change(&self, number: QueueNumber, now: Millis) -> Option<Millis> {
        let queue = self.queues.get(&number)?;
        let rate = self.topics[&queue.topic].config.rate.filter(|_| queue.first_ready().is_some());
        let by_rate = rate.and_then(|rate| queue.pace.next(rate, now));
        queue.next_change().into_iter().chain(by_rate).min()
    }

    /// Returns true if the end of a message may let another one of the queue go on.
    pub(crate) fn is_bounded(&self, number: QueueNumber) -> bool {
        let bounded = |queue: &Queue| queue.has_groups() || self.topics[&queue.topic].config.max_leased < u64::MAX;
        self.is_bounded && self.queues.get(&number).is_some_and(bounded)
    }

    /// Hands out dead letters, the oldest first, within the same bounds.
    pub(crate) fn pop_dead(
        &mut self,
        number: QueueNumber,
        most: usize,
        bytes: usize,
        now: Millis,
        batch: &mut Batch,
    ) -> Option<Vec<Handed>> {
        if !self.advance(number, now, batch) {
            return None;
        }
        let next = |queue: &Queue| queue.free_letters().next().map(|(_, id)| id);
        Some(self.hand_out(number, most, bytes, now, batch, next))
    }

    /// Leases what `next` chooses.
    fn hand_out(
        &mut self,
        number: QueueNumber,
        most: usize,
        bytes: usize,
        now: Millis,
        batch: &mut Batch,
        next: impl Fn(&Queue) -> Option<MessageId>,
    ) -> Vec<Handed> {
        let mut handed: Vec<Handed> = Vec::new();
        let mut left = bytes as u64;
        let Some(queue) = self.queues.get_mut(&number) else { return handed };
        let usual = self.topics[&queue.topic].config.ttr;
        self.totals.without(queue);
        while handed.len() < most {
            let Some((id, live)) = next(queue).and_then(|id| Some((id, *queue.get(id)?))) else { break };
            let length = u64::from(live.place.length);
            if !handed.is_empty() && length > left {
                break;
            }
            left = left.saturating_sub(length);
            let ttr = if live.ttr > 0 { live.ttr.into() } else { usual };
            self.last_lease += 1;
            let lease = Lease { number: self.last_lease, expires: now.saturating_add(ttr), is_begun: false };
            queue.set_lease(id, lease, live.retries);
            let (retries, expires) = (live.retries, lease.expires);
            batch.add(&Record::Lease { queue: number, id, number: lease.number, retries, expires, is_begun: false });
            handed.push(Handed { queue: number, id, place: live.place, lease: lease.number, retries, ttr });
        }
        self.totals.with(queue);
        handed
    }

    /// The number of a queue.
    pub(crate) fn queue_number(&self, topic: &str, queue: &str) -> Result<QueueNumber, MqError> {
        check_name("topic", topic)?;
        check_name("bindKey", queue)?;
        let topic = self.topic(topic)?;
        topic.queues.get(queue).copied().ok_or_else(|| MqError::NoQueue(queue.to_owned()))
    }

    /// The queue of this number.
    pub(crate) fn queue_name(&self, number: QueueNumber) -> Option<QueueName> {
        let queue = self.queues.get(&number)?;
        Some(QueueName::new(&*self.topics.get(&queue.topic)?.name, &*queue.bind_key))
    }

    fn topic(&self, name: &str) -> Result<&Topic, MqError> {
        let number = self.names.get(name).ok_or_else(|| MqError::NoTopic(name.to_owned()))?;
        self.topics.get(number).ok_or_else(|| MqError::NoTopic(name.to_owned()))
    }

    pub(crate) fn queue(&self, number: QueueNumber) -> Option<&Queue> {
        self.queues.get(&number)
    }

    /// Returns true if messages are done with when they are handed out.
    pub(crate) fn acks_by_itself(&self, number: QueueNumber) -> bool {
        let topic = self.queues.get(&number).and_then(|queue| self.topics.get(&queue.topic));
        topic.is_some_and(|topic| topic.config.auto_ack)
    }

    /// The numbers of a topic's queues.
    pub(crate) fn queues_of(&self, topic: &str) -> Vec<QueueNumber> {
        self.topic(topic).map(|topic| topic.queues.values().copied().collect()).unwrap_or_default()
    }

    /// Every queue, with its topic's name, from `from` on.
    pub(crate) fn queues_from(&self, from: QueueNumber) -> impl Iterator<Item = (QueueNumber, &str, &Queue)> {
        let named = |(number, queue): (&QueueNumber, _)| (*number, queue);
        self.queues.range(from..).map(named).filter_map(|(number, queue): (_, &Queue)| {
            Some((number, self.topics.get(&queue.topic)?.name.as_str(), queue))
        })
    }
}

impl Totals {
    fn with(&mut self, queue: &Queue) {
        let (reasons, leases) = queue.additions();
        self.dead += queue.dead();
        self.reasons += reasons;
        self.leases += leases;
    }

    fn without(&mut self, queue: &Queue) {
        let (reasons, leases) = queue.additions();
        self.dead -= queue.dead();
        self.reasons -= reasons;
        self.leases -= leases;
    }
}

#[cfg(test)]
mod tests;
