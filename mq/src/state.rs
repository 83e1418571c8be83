//! The state of a node: topics, queues, and the place of each message. Pure: time comes in as an argument, and what must
//! survive goes out as records.

mod needed;
mod push;
mod recover;
mod remove;
mod retry;
mod stats;

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::{
    MqError, Settings,
    batch::{Batch, Place},
    dedup::Dedup,
    message::{Ids, MessageId, Millis, NodeId, check_name},
    queue::{Discarded, Lease, Queue},
    record::{QueueNumber, Record, TopicConfig, TopicNumber},
    route::{Expressions, Mode},
};

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

const DEFAULT_TTR: Millis = 30_000;
const DEFAULT_RETRIES: u16 = 5;
const DEFAULT_DEDUP: Millis = 10 * 60 * 1000;
const LONGEST_DEDUP: Millis = 24 * 3600 * 1000;
const DEFAULT_DEAD: u64 = 100_000;

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

    /// Makes a queue, and its topic if need be.
    pub(crate) fn declare(&mut self, topic: &str, queue: &str, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        check_name("topic", topic)?;
        check_name("bindKey", queue)?;
        if self.queue_number(topic, queue).is_ok() {
            return Err(MqError::QueueExists(queue.to_owned()));
        }
        self.check_room_for_queues(std::iter::once((topic, queue)))?;
        self.make_queue(topic, queue, now, batch);
        Ok(())
    }

    /// Refuses new topics and queues beyond the node's bounds. The names are those of new queues, with topics that may be new.
    fn check_room_for_queues<'a>(&self, new: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), MqError> {
        let (mut topics, mut queues, mut bytes) = (HashSet::new(), 0, self.totals.configuration);
        for (topic, queue) in new {
            queues += 1;
            bytes += queue_bytes(queue);
            if !self.names.contains_key(topic) && topics.insert(topic) {
                bytes += topic_bytes(topic);
            }
        }
        let Limits { topics: most_topics, queues: most_queues, configuration, .. } = self.limits;
        let full = |what: &str, most: u64, remedy: &str| {
            Err(MqError::NodeFull(format!("it keeps at most {most} {what}: delete some, or raise {remedy}")))
        };
        if self.names.len() + topics.len() > most_topics && !topics.is_empty() {
            full("topics", most_topics as u64, "`max_topics`")
        } else if self.queues.len() + queues > most_queues {
            full("queues", most_queues as u64, "`max_queues`")
        } else if bytes > configuration {
            full("bytes of topics and queues with their names", configuration, "`segment_bytes`")
        } else {
            Ok(())
        }
    }

    fn make_topic(&mut self, name: &str, now: Millis, batch: &mut Batch) -> TopicNumber {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.last_topic + 1;
        let config = TopicConfig {
            mode: Mode::Exact,
            auto_ack: false,
            ttr: DEFAULT_TTR,
            max_retries: DEFAULT_RETRIES,
            max_length: u64::MAX,
            dedup_window: DEFAULT_DEDUP,
            created: now,
            max_dead: DEFAULT_DEAD,
            dead_age: Millis::MAX,
            ttl: Millis::MAX,
        };
        batch.add(&Record::Topic { number, name: name.to_owned(), config: config.clone() });
        self.apply_topic(number, name.to_owned(), config);
        number
    }

    fn make_queue(&mut self, topic: &str, bind_key: &str, now: Millis, batch: &mut Batch) -> QueueNumber {
        let topic = self.make_topic(topic, now, batch);
        let number = self.last_queue + 1;
        batch.add(&Record::Queue { number, topic, bind_key: bind_key.to_owned(), paused: false });
        self.apply_queue(number, topic, bind_key.to_owned(), false);
        number
    }

    /// Changes a topic, and makes it if need be.
    pub(crate) fn configure(
        &mut self,
        topic: &str,
        settings: &Settings,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        check_name("topic", topic)?;
        if settings.ttr_ms == Some(0) {
            return Err(MqError::Invalid("msgTTR is 0: a delivery takes longer than that".to_owned()));
        }
        if settings.ttl_ms == Some(0) {
            return Err(MqError::Invalid("the time to live is 0: no message could be delivered".to_owned()));
        }
        if settings.dedup_window_ms.is_some_and(|window| window > LONGEST_DEDUP) {
            return Err(MqError::Invalid(format!("the dedup window is at most {LONGEST_DEDUP} ms")));
        }
        if !self.names.contains_key(topic) {
            self.check_room_for_topic(topic)?;
        }
        let number = self.make_topic(topic, now, batch);
        // Everything until now happened under the old settings.
        self.advance_topic(number, now, batch);
        let Some(Topic { name, config, .. }) = self.topics.get_mut(&number) else { return Ok(()) };
        config.mode = settings.mode.unwrap_or(config.mode);
        config.auto_ack = settings.auto_ack.unwrap_or(config.auto_ack);
        config.ttr = settings.ttr_ms.unwrap_or(config.ttr);
        config.max_retries = settings.max_retries.unwrap_or(config.max_retries);
        config.max_length = settings.max_length.unwrap_or(config.max_length);
        config.dedup_window = settings.dedup_window_ms.unwrap_or(config.dedup_window);
        config.max_dead = settings.max_dead.unwrap_or(config.max_dead);
        config.dead_age = settings.dead_age_ms.unwrap_or(config.dead_age);
        config.ttl = settings.ttl_ms.unwrap_or(config.ttl);
        batch.add(&Record::Topic { number, name: name.clone(), config: config.clone() });
        Ok(())
    }

    fn check_room_for_topic(&self, topic: &str) -> Result<(), MqError> {
        // The bounds of queues do not matter to it.
        let limits = Limits { queues: usize::MAX, ..self.limits };
        let bytes = self.totals.configuration + topic_bytes(topic);
        if self.names.len() >= limits.topics || bytes > limits.configuration {
            return self.check_room_for_queues(std::iter::once((topic, "")));
        }
        Ok(())
    }

    /// Stops or resumes the handing out.
    pub(crate) fn pause(&mut self, topic: &str, queue: &str, paused: bool, batch: &mut Batch) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.paused = paused;
            let (topic, bind_key) = (queue.topic, queue.bind_key.clone());
            batch.add(&Record::Queue { number, topic, bind_key, paused });
        }
        Ok(())
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
        let handed = self.hand_out(number, most, bytes, now, batch, next);
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.popped += handed.len() as u64;
        }
        Some(handed)
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
            let lease = Lease { number: self.last_lease, expires: now.saturating_add(ttr) };
            queue.set_lease(id, lease, live.retries);
            let (retries, expires) = (live.retries, lease.expires);
            batch.add(&Record::Lease { queue: number, id, number: lease.number, retries, expires });
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

/// An upper bound of a topic's record, in a batch and in the footer.
fn topic_bytes(name: &str) -> u64 {
    2 * (name.len() as u64 + 64)
}

/// The same for a queue.
fn queue_bytes(bind_key: &str) -> u64 {
    2 * (bind_key.len() as u64 + 16)
}

#[cfg(test)]
mod tests;
