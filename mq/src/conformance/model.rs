//! The model of an engine: lists that are searched from end to end, and nothing that can be lost.

mod ends;

use std::collections::BTreeMap;

use regex::Regex;

use crate::{Delivery, MessageId, Mode, MqError, Push, Rate, Receipt, Settings, Which, message::Millis};

#[derive(Debug)]
pub(super) struct Model {
    pub(super) now: Millis,
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug)]
struct Topic {
    mode: Mode,
    auto_ack: bool,
    ttr: Millis,
    max_retries: u16,
    max_length: u64,
    window: Millis,
    ttl: Option<Millis>,
    backoff: Vec<Millis>,
    max_leased: u64,
    rate: Option<Rate>,
    queues: BTreeMap<String, Queue>,
    /// Which message each key stands for, and until when.
    dedup: BTreeMap<String, (MessageId, Millis)>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) paused: bool,
    pub(super) messages: Vec<Message>,
    /// Part of the rate that is used up, in parts of a message, and since when.
    spent: u64,
    since: Millis,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) body: Vec<u8>,
    pub(super) priority: u8,
    pub(super) due: Millis,
    pub(super) retries: u16,
    pub(super) at: At,
    /// By the id, which may be ahead of the time.
    pub(super) pushed: Millis,
    /// The end of its time to live.
    end: Option<Millis>,
    ttr: Option<u32>,
    pub(super) group: Option<String>,
}

/// Settings that the end of a delivery goes by.
#[derive(Clone, Debug)]
struct Rules {
    max_retries: u16,
    ttr: Millis,
    backoff: Vec<Millis>,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum At {
    Waiting,
    Leased { receipt: Receipt, expires: Millis, is_begun: bool },
    Dead,
    DeadLeased { receipt: Receipt, expires: Millis },
}

/// Expected outcome of a push.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Planned {
    /// A new message, in these queues.
    New(Vec<String>),
    /// An earlier message.
    Same(MessageId),
    /// The same as another push of the batch.
    SameAs(usize),
}

impl Queue {
    fn length(&self) -> u64 {
        self.messages.iter().filter(|message| !message.is_dead()).count() as u64
    }

    /// Returns true if another message of its group comes first: one that is leased, or waits and is older.
    pub(super) fn is_held(&self, message: &Message) -> bool {
        let before =
            |other: &Message| matches!(other.at, At::Leased { .. }) || other.at == At::Waiting && other.id < message.id;
        let same = |other: &&Message| other.group.is_some() && other.group == message.group && other.id != message.id;
        message.at == At::Waiting && self.messages.iter().filter(same).any(before)
    }

    fn spent(&self, rate: Rate, now: Millis) -> u64 {
        let again = (now - self.since) * u64::from(rate.messages);
        self.spent.saturating_sub(again).min(u64::from(rate.messages) * u64::from(rate.per_ms))
    }

    fn spend(&mut self, rate: Option<Rate>, messages: i64, now: Millis) {
        let Some(rate) = rate else { return };
        self.spent = self.spent(rate, now).saturating_add_signed(messages * i64::from(rate.per_ms));
        self.since = now;
    }

    /// In the order of delivery.
    pub(super) fn ready(&self, now: Millis) -> Vec<Message> {
        let ready = |message: &&Message| message.at == At::Waiting && message.due <= now && !self.is_held(message);
        let mut ready: Vec<_> = self.messages.iter().filter(ready).cloned().collect();
        ready.sort_by_key(|message| (u8::MAX - message.priority, message.due, message.id));
        ready
    }
}

impl Message {
    fn failed(&mut self, at: Millis, delay: Millis, rules: &Rules, now: Millis) {
        self.retries += 1;
        self.at = if self.retries > rules.max_retries { At::Dead } else { At::Waiting };
        let mut steps = rules.backoff.iter().take(self.retries.into());
        // The time of death, if it is dead.
        self.due = if self.is_dead() { at } else { at + delay.max(steps.next_back().copied().unwrap_or(0)) };
        self.outlive(now);
    }

    fn outlive(&mut self, now: Millis) {
        if let Some(end) = self.end.filter(|end| self.at == At::Waiting && *end <= now) {
            (self.at, self.due) = (At::Dead, end);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.at, At::Dead | At::DeadLeased { .. })
    }

    fn receipt(&self) -> Option<&Receipt> {
        match &self.at {
            At::Leased { receipt, .. } | At::DeadLeased { receipt, .. } => Some(receipt),
            At::Waiting | At::Dead => None,
        }
    }
}

impl Model {
    pub(super) fn new(now: Millis) -> Self {
        Self { now, topics: BTreeMap::new() }
    }

    fn topic(&mut self, name: &str) -> &mut Topic {
        self.topics.entry(name.to_owned()).or_insert_with(|| Topic {
            mode: Mode::Exact,
            auto_ack: false,
            ttr: 30_000,
            max_retries: 5,
            max_length: u64::MAX,
            window: 600_000,
            ttl: None,
            backoff: Vec::new(),
            max_leased: u64::MAX,
            rate: None,
            queues: BTreeMap::new(),
            dedup: BTreeMap::new(),
        })
    }

    pub(super) fn queue(&mut self, topic: &str, queue: &str) -> Result<&mut Queue, MqError> {
        let topic = self.topics.get_mut(topic).ok_or_else(|| MqError::NoTopic(topic.to_owned()))?;
        topic.queues.get_mut(queue).ok_or_else(|| MqError::NoQueue(queue.to_owned()))
    }

    /// All that there is.
    pub(super) fn queues(&self) -> impl Iterator<Item = (&str, &str, &Queue)> {
        self.topics
            .iter()
            .flat_map(|(topic, all)| all.queues.iter().map(move |(name, queue)| (&topic[..], &name[..], queue)))
    }

    fn messages(&mut self) -> impl Iterator<Item = (&mut Message, Rules)> {
        self.topics.values_mut().flat_map(|topic| {
            let rules = Rules { max_retries: topic.max_retries, ttr: topic.ttr, backoff: topic.backoff.clone() };
            let messages = topic.queues.values_mut().flat_map(|queue| &mut queue.messages);
            messages.map(move |message| (message, rules.clone()))
        })
    }

    pub(super) fn advance(&mut self, milliseconds: Millis) {
        self.now += milliseconds;
        let now = self.now;
        for (message, rules) in self.messages() {
            if let At::Leased { expires, is_begun, .. } = message.at
                && expires <= now
            {
                let max_retries = if is_begun { 0 } else { rules.max_retries };
                message.failed(expires, 0, &Rules { max_retries, ..rules }, now);
            }
            if let At::DeadLeased { expires, .. } = message.at
                && expires <= now
            {
                message.at = At::Dead;
            }
            message.outlive(now);
        }
    }

    pub(super) fn declare(&mut self, topic: &str, queue: &str) -> Result<(), MqError> {
        if self.queue(topic, queue).is_ok() {
            return Err(MqError::QueueExists(queue.to_owned()));
        }
        self.topic(topic).queues.insert(queue.to_owned(), Queue::default());
        Ok(())
    }

    pub(super) fn configure(&mut self, topic: &str, settings: &Settings) {
        let topic = self.topic(topic);
        topic.mode = settings.mode.unwrap_or(topic.mode);
        topic.auto_ack = settings.auto_ack.unwrap_or(topic.auto_ack);
        topic.ttr = settings.ttr_ms.unwrap_or(topic.ttr);
        topic.max_retries = settings.max_retries.unwrap_or(topic.max_retries);
        topic.max_length = settings.max_length.unwrap_or(topic.max_length);
        topic.window = settings.dedup_window_ms.unwrap_or(topic.window);
        topic.ttl = settings.ttl_ms.or(topic.ttl).filter(|ttl| *ttl < u64::MAX);
        topic.backoff = settings.backoff_ms.clone().unwrap_or_else(|| std::mem::take(&mut topic.backoff));
        topic.max_leased = settings.max_leased.unwrap_or(topic.max_leased);
        topic.rate = settings.rate.or(topic.rate).filter(|rate| *rate != Rate::UNLIMITED);
    }

    fn route(&self, push: &Push) -> Result<Vec<String>, MqError> {
        let Some(key) = &push.route_key else { return Ok(vec!["default".to_owned()]) };
        let topic = self.topics.get(&push.topic).ok_or_else(|| MqError::NoTopic(push.topic.clone()))?;
        let names = topic.queues.keys().cloned();
        let matching: Vec<_> = match topic.mode {
            Mode::Exact => names.filter(|name| name == key).collect(),
            Mode::Fuzzy => {
                let regex = Regex::new(key).map_err(|error| MqError::Invalid(error.to_string()))?;
                names.filter(|name| regex.is_match(name)).collect()
            }
        };
        if matching.is_empty() { Err(MqError::NoQueue(key.clone())) } else { Ok(matching) }
    }

    /// Expected outcomes of these pushes: all of them, or the reason why none is taken.
    pub(super) fn plan(&self, pushes: &[Push]) -> Result<Vec<Planned>, MqError> {
        let mut planned = Vec::new();
        let mut more: BTreeMap<(&str, String), u64> = BTreeMap::new();
        for (at, push) in pushes.iter().enumerate() {
            let topic = self.topics.get(&push.topic);
            if let Some(key) = &push.dedup {
                let known = topic.and_then(|topic| topic.dedup.get(key)).filter(|(_, expires)| *expires > self.now);
                if let Some((id, _)) = known {
                    planned.push(Planned::Same(*id));
                    continue;
                }
                let counts = topic.is_none_or(|topic| topic.window > 0);
                let same = |other: &Push| (&other.topic, &other.dedup) == (&push.topic, &push.dedup);
                if let Some(first) = pushes[..at].iter().position(same).filter(|_| counts) {
                    planned.push(Planned::SameAs(first));
                    continue;
                }
            }
            let queues = self.route(push)?;
            for queue in &queues {
                *more.entry((&push.topic, queue.clone())).or_default() += 1;
            }
            planned.push(Planned::New(queues));
        }
        for ((topic, queue), more) in more {
            let Some(topic) = self.topics.get(topic) else { continue };
            let length = topic.queues.get(&queue).map_or(0, Queue::length);
            if length + more > topic.max_length {
                return Err(MqError::Full { queue, length, most: topic.max_length });
            }
        }
        Ok(planned)
    }

    /// Notes that the pushes were taken, under these ids.
    pub(super) fn pushed(&mut self, pushes: &[Push], planned: &[Planned], ids: &[MessageId]) {
        let now = self.now;
        for (at, push) in pushes.iter().enumerate() {
            let queues = match &planned[at] {
                Planned::Same(id) => {
                    assert_eq!(ids[at], *id, "a duplicate is the first one");
                    continue;
                }
                Planned::SameAs(first) => {
                    assert_eq!(ids[at], ids[*first], "a duplicate is the first one");
                    continue;
                }
                Planned::New(queues) => queues,
            };
            let topic = self.topic(&push.topic);
            if let Some(key) = &push.dedup {
                topic.dedup.insert(key.clone(), (ids[at], now + topic.window));
            }
            let end = push.ttl_ms().or(topic.ttl).map(|ttl| now + ttl);
            for queue in queues {
                topic.queues.entry(queue.clone()).or_default().messages.push(Message {
                    id: ids[at],
                    body: push.body.to_vec(),
                    priority: push.priority,
                    due: now + push.delay_ms,
                    retries: 0,
                    at: At::Waiting,
                    pushed: ids[at].time(),
                    end,
                    ttr: push.ttr_ms,
                    group: push.group().unwrap().map(str::to_owned),
                });
            }
        }
    }

    /// Notes that these were handed out: the next messages of the queue.
    pub(super) fn popped(&mut self, topic: &str, queue: &str, most: usize, deliveries: &[Delivery]) {
        let now = self.now;
        let Topic { ttr, auto_ack, max_leased, rate, .. } = *self.topic(topic);
        let queue = self.queue(topic, queue).unwrap();
        let mut expected = queue.ready(now);
        let leased = queue.messages.iter().filter(|message| matches!(message.at, At::Leased { .. })).count() as u64;
        let allowed = |rate: Rate| (rate.messages * rate.per_ms - queue.spent(rate, now) as u32) / rate.per_ms;
        let most =
            (most as u64).min(max_leased.saturating_sub(leased)).min(rate.map_or(u64::MAX, |r| allowed(r).into()));
        expected.truncate(if queue.paused { 0 } else { most as usize });
        queue.spend(rate, deliveries.len() as i64, now);
        let told = |id: MessageId, retries: u16, body: &[u8]| (id, retries, String::from_utf8_lossy(body).into_owned());
        let expected: Vec<_> = expected.iter().map(|m| told(m.id, m.retries, &m.body)).collect();
        let found: Vec<_> = deliveries.iter().map(|d| told(d.id, d.retries, &d.body)).collect();
        assert_eq!(found, expected, "what is handed out");
        for delivery in deliveries {
            let at = queue.messages.iter().position(|message| message.id == delivery.id).unwrap();
            match delivery.receipt {
                None => {
                    assert!(auto_ack, "a delivery without a receipt");
                    queue.messages.remove(at);
                }
                Some(receipt) => {
                    assert!(!auto_ack, "a receipt for what is done with");
                    let message = &mut queue.messages[at];
                    let expires = now + message.ttr.map_or(ttr, Millis::from);
                    message.at = At::Leased { receipt, expires, is_begun: false };
                }
            }
        }
    }

    pub(super) fn reschedule(&mut self, topic: &str, queue: &str, id: MessageId, due: Millis) -> Result<(), MqError> {
        let now = self.now;
        let queue = self.queue(topic, queue)?;
        let message = queue.messages.iter_mut().find(|message| message.id == id).ok_or(MqError::NoMessage(id.0))?;
        if message.at != At::Waiting {
            return Err(MqError::Invalid("leased or dead".to_owned()));
        }
        message.due = due.max(now);
        Ok(())
    }

    pub(super) fn reprioritize(
        &mut self,
        topic: &str,
        queue: &str,
        id: MessageId,
        priority: u8,
    ) -> Result<(), MqError> {
        let queue = self.queue(topic, queue)?;
        let message = queue.messages.iter_mut().find(|message| message.id == id).ok_or(MqError::NoMessage(id.0))?;
        message.priority = priority;
        Ok(())
    }

    pub(super) fn ack_by_id(&mut self, topic: &str, queue: &str, id: MessageId) -> Result<(), MqError> {
        let queue = self.queue(topic, queue)?;
        let leased = |message: &Message| message.id == id && message.receipt().is_some();
        let at = queue.messages.iter().position(leased).ok_or(MqError::NoMessage(id.0))?;
        queue.messages.remove(at);
        Ok(())
    }

    pub(super) fn cancel(&mut self, topic: &str, queue: &str, id: MessageId) -> Result<(), MqError> {
        let queue = self.queue(topic, queue)?;
        let at = queue.messages.iter().position(|message| message.id == id).ok_or(MqError::NoMessage(id.0))?;
        queue.messages.remove(at);
        Ok(())
    }

    pub(super) fn purge(&mut self, topic: &str, queue: &str) -> Result<u64, MqError> {
        let queue = self.queue(topic, queue)?;
        let dropped = queue.length();
        queue.messages.retain(Message::is_dead);
        Ok(dropped)
    }

    pub(super) fn purge_dead(&mut self, topic: &str, queue: &str) -> Result<u64, MqError> {
        let queue = self.queue(topic, queue)?;
        let before = queue.messages.len();
        queue.messages.retain(|message| message.at != At::Dead);
        Ok((before - queue.messages.len()) as u64)
    }

    pub(super) fn pause(&mut self, topic: &str, queue: &str, paused: bool) -> Result<(), MqError> {
        self.queue(topic, queue).map(|queue| queue.paused = paused)
    }

    pub(super) fn delete_queue(&mut self, topic: &str, queue: &str) -> Result<(), MqError> {
        self.queue(topic, queue)?;
        self.topic(topic).queues.remove(queue);
        Ok(())
    }

    pub(super) fn delete_topic(&mut self, topic: &str) -> Result<(), MqError> {
        self.topics.remove(topic).map(drop).ok_or_else(|| MqError::NoTopic(topic.to_owned()))
    }

    /// Notes that these dead letters were leased: the oldest of the queue.
    pub(super) fn popped_dead(&mut self, topic: &str, queue: &str, most: usize, deliveries: &[Delivery]) {
        let now = self.now;
        let usual = self.topic(topic).ttr;
        let queue = self.queue(topic, queue).unwrap();
        let mut dead: Vec<_> = queue.messages.iter().filter(|m| m.at == At::Dead).collect();
        dead.sort_by_key(|message| (message.due, message.id));
        dead.truncate(most);
        let expected: Vec<_> = dead.iter().map(|m| (m.id, m.retries, m.body.clone())).collect();
        let found: Vec<_> = deliveries.iter().map(|d| (d.id, d.retries, d.body.to_vec())).collect();
        assert_eq!(found, expected, "the dead letters that are handed out");
        for delivery in deliveries {
            assert!(delivery.reason().is_some(), "why it is dead");
            let receipt = delivery.receipt.unwrap();
            let message = queue.messages.iter_mut().find(|message| message.id == delivery.id).unwrap();
            let expires = now + message.ttr.map_or(usual, Millis::from);
            message.at = At::DeadLeased { receipt, expires };
        }
    }

    /// Moves or copies messages; copies have these ids.
    pub(super) fn transfer(
        &mut self,
        (from, to): ((&str, &str), (&str, &str)),
        which: &Which,
        is_copy: bool,
        copies: &[MessageId],
    ) -> Result<u64, MqError> {
        let now = self.now;
        self.queue(from.0, from.1)?;
        self.queue(to.0, to.1)?;
        if from == to {
            return Err(MqError::Invalid("source and target".to_owned()));
        }
        let most = self.topic(to.0).max_length;
        let chosen = |message: &&Message| match which {
            Which::Waiting => message.at == At::Waiting,
            Which::Dead => message.at == At::Dead,
            Which::Ids(ids) => ids.contains(&message.id) && matches!(message.at, At::Waiting | At::Dead),
        };
        let mut chosen: Vec<_> = self.queue(from.0, from.1)?.messages.iter().filter(chosen).cloned().collect();
        chosen.sort_by_key(|message| message.id);
        let mut moved = 0;
        for mut message in chosen {
            let before = message.id;
            let target = self.queue(to.0, to.1)?;
            if !is_copy && target.messages.iter().any(|other| other.id == before) {
                continue;
            }
            if target.length() >= most {
                let full = MqError::Full { queue: to.1.to_owned(), length: target.length(), most };
                return if moved > 0 { Ok(moved) } else { Err(full) };
            }
            if message.at == At::Dead {
                (message.at, message.due, message.retries, message.end) = (At::Waiting, now, 0, None);
            }
            if is_copy {
                message.id = copies[moved as usize];
                message.pushed = message.id.time();
            }
            target.messages.push(message);
            if !is_copy {
                self.queue(from.0, from.1)?.messages.retain(|other| other.id != before);
            }
            moved += 1;
        }
        Ok(moved)
    }

    pub(super) fn redrive(&mut self, topic: &str, queue: &str, ids: Option<&[MessageId]>) -> Result<u64, MqError> {
        let now = self.now;
        let mut redriven = 0;
        for message in &mut self.queue(topic, queue)?.messages {
            if message.at == At::Dead && ids.is_none_or(|ids| ids.contains(&message.id)) {
                (message.at, message.due, message.retries, message.end) = (At::Waiting, now, 0, None);
                redriven += 1;
            }
        }
        Ok(redriven)
    }
}
