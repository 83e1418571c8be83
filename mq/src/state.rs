//! Everything that a node knows: topics, queues, which messages are where. Pure: time comes in as an argument, and what must
//! survive goes out as records.

mod push;
mod recover;
mod retry;

use std::collections::BTreeMap;

use crate::{
    Extensions, MqError, QueueStats, Settings, TopicStats,
    batch::{Batch, Place},
    dedup::Dedup,
    message::{Ids, MessageId, Millis, NodeId, check_name},
    queue::{Lease, Queue},
    record::{QueueNumber, Record, TopicConfig, TopicNumber},
    route::{Expressions, Mode},
};

pub(crate) use push::{Pending, Pushed};
pub(crate) use recover::{Copied, DedupKey};
pub(crate) use retry::Leased;

/// What a node keeps in memory at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Messages, counted once for each queue that holds them.
    pub(crate) live: u64,
    /// Dedup keys.
    pub(crate) dedup: usize,
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
    /// How many messages and dedup keys each segment holds that are still needed.
    needed: BTreeMap<u32, u64>,
    live: u64,
    live_bytes: u64,
    /// On their way to the log.
    pending: u64,
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
            needed: BTreeMap::new(),
            live: 0,
            live_bytes: 0,
            pending: 0,
        }
    }

    /// Messages, counted once for each queue that holds them.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// How many bytes the log would have if it held nothing else.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Whether nothing in the segment is needed any more.
    pub(crate) fn is_free(&self, segment: u32) -> bool {
        !self.needed.contains_key(&segment)
    }

    /// Makes a queue, and its topic if need be.
    pub(crate) fn declare(&mut self, topic: &str, queue: &str, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        check_name("topic", topic)?;
        check_name("bindKey", queue)?;
        if self.queue_number(topic, queue).is_ok() {
            return Err(MqError::QueueExists(queue.to_owned()));
        }
        self.make_queue(topic, queue, now, batch);
        Ok(())
    }

    fn make_topic(&mut self, name: &str, now: Millis, batch: &mut Batch) -> TopicNumber {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        self.last_topic += 1;
        let number = self.last_topic;
        let config = TopicConfig {
            mode: Mode::Exact,
            auto_ack: false,
            ttr: DEFAULT_TTR,
            max_retries: DEFAULT_RETRIES,
            max_length: u64::MAX,
            dedup_window: DEFAULT_DEDUP,
            created: now,
        };
        batch.add(&Record::Topic { number, name: name.to_owned(), config: config.clone() });
        self.names.insert(name.to_owned(), number);
        self.topics.insert(number, Topic { name: name.to_owned(), config, queues: BTreeMap::new() });
        number
    }

    fn make_queue(&mut self, topic: &str, bind_key: &str, now: Millis, batch: &mut Batch) -> QueueNumber {
        let topic = self.make_topic(topic, now, batch);
        self.last_queue += 1;
        let number = self.last_queue;
        batch.add(&Record::Queue { number, topic, bind_key: bind_key.to_owned(), paused: false });
        self.queues.insert(number, Queue::new(topic, bind_key.to_owned()));
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.queues.insert(bind_key.to_owned(), number);
        }
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
        if settings.dedup_window_ms.is_some_and(|window| window > LONGEST_DEDUP) {
            return Err(MqError::Invalid(format!("the dedup window is at most {LONGEST_DEDUP} ms")));
        }
        let number = self.make_topic(topic, now, batch);
        // What has happened until now happened under the old settings.
        self.advance_topic(number, now, batch);
        let Some(Topic { name, config, .. }) = self.topics.get_mut(&number) else { return Ok(()) };
        config.mode = settings.mode.unwrap_or(config.mode);
        config.auto_ack = settings.auto_ack.unwrap_or(config.auto_ack);
        config.ttr = settings.ttr_ms.unwrap_or(config.ttr);
        config.max_retries = settings.max_retries.unwrap_or(config.max_retries);
        config.max_length = settings.max_length.unwrap_or(config.max_length);
        config.dedup_window = settings.dedup_window_ms.unwrap_or(config.dedup_window);
        batch.add(&Record::Topic { number, name: name.clone(), config: config.clone() });
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

    fn retain(&mut self, place: Place) {
        *self.needed.entry(place.segment).or_default() += 1;
        self.live += 1;
        self.live_bytes += u64::from(place.length);
    }

    fn dropped(&mut self, place: Place) {
        self.live -= 1;
        self.live_bytes -= u64::from(place.length);
        self.release(place.segment);
    }

    fn release(&mut self, segment: u32) {
        if let Some(needed) = self.needed.get_mut(&segment) {
            *needed -= 1;
            if *needed == 0 {
                self.needed.remove(&segment);
            }
        }
    }

    /// Hands out the next messages: at most `most`, and no more bytes than `bytes` but for the first. Records of what
    /// happened meanwhile come before.
    pub(crate) fn pop(
        &mut self,
        number: QueueNumber,
        most: usize,
        bytes: usize,
        now: Millis,
        batch: &mut Batch,
    ) -> Vec<Handed> {
        self.advance(number, now, batch);
        let mut handed: Vec<Handed> = Vec::new();
        let mut left = bytes as u64;
        while handed.len() < most {
            let Some(queue) = self.queues.get_mut(&number) else { break };
            let Some((id, live)) = queue.first_ready().and_then(|id| Some((id, *queue.get(id)?))) else { break };
            let length = u64::from(live.place.length);
            if !handed.is_empty() && length > left {
                break;
            }
            left = left.saturating_sub(length);
            let ttr = if live.ttr > 0 { live.ttr.into() } else { self.topics[&queue.topic].config.ttr };
            self.last_lease += 1;
            let lease = Lease { number: self.last_lease, expires: now.saturating_add(ttr) };
            queue.set_lease(id, lease, live.retries);
            queue.popped += 1;
            let (retries, expires) = (live.retries, lease.expires);
            batch.add(&Record::Lease { queue: number, id, number: lease.number, retries, expires });
            handed.push(Handed { queue: number, id, place: live.place, lease: lease.number, retries, ttr });
        }
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

    /// Whether messages are done with when they are handed out.
    pub(crate) fn acks_by_itself(&self, number: QueueNumber) -> bool {
        let topic = self.queues.get(&number).and_then(|queue| self.topics.get(&queue.topic));
        topic.is_some_and(|topic| topic.config.auto_ack)
    }

    /// Drops what is ready, delayed or leased, or on its way.
    pub(crate) fn purge(&mut self, topic: &str, queue: &str, now: Millis, batch: &mut Batch) -> Result<u64, MqError> {
        let number = self.queue_number(topic, queue)?;
        self.advance(number, now, batch);
        batch.add(&Record::Purged { queue: number });
        let last = MessageId(self.ids.last());
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.purged = last;
        }
        Ok(self.apply_purge(number))
    }

    fn apply_purge(&mut self, number: QueueNumber) -> u64 {
        let places = self.queues.get_mut(&number).map(Queue::purge).unwrap_or_default();
        let count = places.len() as u64;
        places.into_iter().for_each(|place| self.dropped(place));
        count
    }

    pub(crate) fn delete_queue(&mut self, topic: &str, queue: &str, batch: &mut Batch) -> Result<(), MqError> {
        let number = self.queue_number(topic, queue)?;
        batch.add(&Record::QueueGone { number });
        self.apply_queue_gone(number);
        Ok(())
    }

    fn apply_queue_gone(&mut self, number: QueueNumber) {
        let Some(queue) = self.queues.remove(&number) else { return };
        if let Some(topic) = self.topics.get_mut(&queue.topic) {
            topic.queues.remove(&queue.bind_key);
        }
        self.pending = self.pending.saturating_sub(queue.pending);
        for (_, live) in queue.all() {
            self.dropped(live.place);
        }
    }

    pub(crate) fn delete_topic(&mut self, topic: &str, batch: &mut Batch) -> Result<(), MqError> {
        check_name("topic", topic)?;
        let number = self.names.get(topic).copied().ok_or_else(|| MqError::NoTopic(topic.to_owned()))?;
        batch.add(&Record::TopicGone { number });
        self.apply_topic_gone(number);
        Ok(())
    }

    fn apply_topic_gone(&mut self, number: TopicNumber) {
        let Some(topic) = self.topics.remove(&number) else { return };
        self.names.remove(&topic.name);
        topic.queues.into_values().for_each(|queue| self.apply_queue_gone(queue));
        for segment in self.dedup.remove_topic(number) {
            self.release(segment);
        }
    }

    /// How a topic and its queues stand.
    pub(crate) fn stats(&self, name: &str) -> Result<TopicStats, MqError> {
        check_name("topic", name)?;
        let topic = self.topic(name)?;
        let queue = |(key, number): (&String, &QueueNumber)| {
            let queue = &self.queues[number];
            let counts = queue.counts();
            QueueStats {
                queue: key.clone(),
                ready: counts.ready,
                delayed: counts.delayed,
                leased: counts.leased,
                dead: counts.dead,
                pushed: queue.pushed,
                popped: queue.popped,
                paused: queue.paused,
            }
        };
        Ok(TopicStats {
            topic: name.to_owned(),
            mode: topic.config.mode,
            auto_ack: topic.config.auto_ack,
            created_ms: topic.config.created,
            queues: topic.queues.iter().map(queue).collect(),
            extensions: Extensions::default(),
        })
    }

    /// Every queue, with its topic's name.
    pub(crate) fn all_queues(&self) -> impl Iterator<Item = (QueueNumber, &str, &Queue)> {
        let named = |(number, queue): (&QueueNumber, _)| (*number, queue);
        self.queues.iter().map(named).filter_map(|(number, queue): (_, &Queue)| {
            Some((number, self.topics.get(&queue.topic)?.name.as_str(), queue))
        })
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
