//! Pushing: which queues a message goes to, whether there is room in all of them, and when it can be handed out.
use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::State;
use crate::{
    MqError, Push,
    batch::{Batch, Place},
    message::{LARGEST_BATCH, LARGEST_BATCH_BYTES, LARGEST_BODY, LONGEST_DELAY, MessageId, Millis, check_name},
    queue::Live,
    record::{CopyState, MessageRecord, QueueNumber, Record, TopicNumber},
    route::DEFAULT_QUEUE,
};

/// A push that becomes visible when its record is where it should be.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: MessageId,
    /// In its batch.
    pub(crate) place: Place,
    pub(crate) body: Bytes,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) queues: Vec<QueueNumber>,
    due: Millis,
    priority: u8,
    ttr: u32,
    dedup: Option<(TopicNumber, String)>,
}

/// What a batch of pushes would add.
#[derive(Debug, Default)]
struct More<'a> {
    queues: HashMap<QueueNumber, u64>,
    /// To the queues `default` of these topics, which are not there yet.
    made: HashMap<&'a str, u64>,
    keys: HashSet<(&'a str, &'a str)>,
}

/// What came of asking for a push.
#[derive(Debug)]
pub(crate) enum Pushed {
    New(Pending),
    /// It is the same as an earlier one.
    Duplicate(MessageId),
}

impl State {
    /// Whether all of these can be pushed together.
    pub(crate) fn check_batch(pushes: &[Push]) -> Result<(), MqError> {
        if pushes.len() > LARGEST_BATCH {
            let text = format!("a batch of {} messages: at most {LARGEST_BATCH} are taken at once", pushes.len());
            return Err(MqError::Invalid(text));
        }
        let size = |push: &Push| {
            push.body.len() + push.headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        };
        let total: usize = pushes.iter().map(size).sum();
        if total > LARGEST_BATCH_BYTES {
            let text = format!("a batch of {total} bytes: at most {LARGEST_BATCH_BYTES} are taken at once");
            return Err(MqError::Invalid(text));
        }
        pushes.iter().try_for_each(check_push)
    }

    /// Whether all of these would be taken together, so that a batch is taken whole or not at all.
    pub(crate) fn check_all(&mut self, pushes: &[Push], now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        let mut more = More::default();
        for push in pushes {
            if let Some(key) = &push.dedup {
                // A duplicate takes no room, and is taken though there is none.
                let topic = self.names.get(&push.topic).copied();
                let known = topic.is_some_and(|topic| self.dedup.get(topic, key, now).is_some());
                let first = more.keys.insert((&push.topic, key));
                let window = topic.and_then(|topic| self.topics.get(&topic)).map(|topic| topic.config.dedup_window);
                if known || !first && window != Some(0) {
                    continue;
                }
            }
            let numbers = self.route(push)?;
            if numbers.is_empty() {
                *more.made.entry(&push.topic).or_default() += 1;
            }
            for number in numbers {
                *more.queues.entry(number).or_default() += 1;
            }
        }
        self.check_space(&more, now, batch)
    }

    /// Takes a message that was checked. Nothing is changed when it is refused.
    pub(crate) fn push(&mut self, push: Push, now: Millis, batch: &mut Batch) -> Result<Pushed, MqError> {
        let known = self.names.get(&push.topic).copied();
        if let (Some(topic), Some(key)) = (known, &push.dedup)
            && let Some(id) = self.dedup.get(topic, key, now)
        {
            return Ok(Pushed::Duplicate(id));
        }
        let queues = self.route(&push)?;
        let (queues, topic) = match queues[..] {
            [] => {
                let made = self.make_queue(&push.topic, DEFAULT_QUEUE, now, batch);
                (vec![made], self.queues[&made].topic)
            }
            [first, ..] => (queues, self.queues[&first].topic),
        };
        let id = self.ids.next(now);
        let due = now + push.delay_ms;
        let state = CopyState { due, retries: 0, dead: None };
        let record = MessageRecord {
            id,
            topic,
            copies: queues.iter().map(|queue| (*queue, state.clone())).collect(),
            priority: push.priority,
            ttr: push.ttr_ms.unwrap_or(0),
            headers: push.headers.into_iter().map(|(key, value)| (key, value.into())).collect(),
            body: push.body.into(),
        };
        let record = Record::Message(record);
        let place = batch.add(&record);
        let Record::Message(MessageRecord { body, headers, priority, ttr, .. }) = record else {
            return Err(MqError::Closed);
        };
        if let Some(key) = &push.dedup {
            let expires = now + self.topics[&topic].config.dedup_window;
            batch.add(&Record::Dedup { topic, key: key.clone(), id, expires });
            if let Some(replaced) = self.dedup.insert(topic, key.clone(), id, expires) {
                self.release(replaced);
            }
        }
        for number in &queues {
            if let Some(queue) = self.queues.get_mut(number) {
                queue.pending += 1;
            }
        }
        self.pending += queues.len() as u64;
        let dedup = push.dedup.map(|key| (topic, key));
        Ok(Pushed::New(Pending { id, place, body, headers, queues, due, priority, ttr, dedup }))
    }

    /// The queues that a push goes to; none: to the queue `default`, which is not there yet.
    fn route(&mut self, push: &Push) -> Result<Vec<QueueNumber>, MqError> {
        let topic = self.names.get(&push.topic).and_then(|number| self.topics.get(number));
        let Some(route_key) = &push.route_key else {
            return Ok(topic.and_then(|topic| topic.queues.get(DEFAULT_QUEUE)).copied().into_iter().collect());
        };
        let topic = topic.ok_or_else(|| MqError::NoTopic(push.topic.clone()))?;
        let keys = topic.queues.keys().map(String::as_str);
        let matching = self.expressions.matching(topic.config.mode, route_key, keys)?;
        if matching.is_empty() {
            return Err(MqError::NoQueue(route_key.clone()));
        }
        Ok(matching.into_iter().map(|key| topic.queues[key]).collect())
    }

    fn check_space(&mut self, more: &More<'_>, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        for (number, more) in &more.queues {
            let queue = &self.queues[number];
            let most = self.topics[&queue.topic].config.max_length;
            if queue.length().saturating_add(*more) <= most {
                continue;
            }
            // Some of it may be dead by now.
            self.advance(*number, now, batch);
            let queue = &self.queues[number];
            if queue.length().saturating_add(*more) > most {
                return Err(MqError::Full { queue: queue.bind_key.clone(), length: queue.length(), most });
            }
        }
        for (topic, more) in &more.made {
            let topic = self.names.get(*topic).and_then(|number| self.topics.get(number));
            if let Some(most) = topic.map(|topic| topic.config.max_length)
                && *more > most
            {
                return Err(MqError::Full { queue: DEFAULT_QUEUE.to_owned(), length: 0, most });
            }
        }
        let copies: u64 = more.queues.values().chain(more.made.values()).sum();
        if self.live + self.pending + copies > self.limits.live {
            let text = format!("it keeps at most {} messages in memory", self.limits.live);
            return Err(MqError::NodeFull(text));
        }
        if !more.keys.is_empty() {
            self.forget_dedup(now);
            let known = |(topic, key): &&(&str, &str)| {
                self.names.get(*topic).is_some_and(|topic| self.dedup.get(*topic, key, now).is_some())
            };
            let keys = more.keys.len() - more.keys.iter().filter(known).count();
            if self.dedup.len() + keys > self.limits.dedup {
                return Err(MqError::NodeFull(format!("it keeps at most {} dedup keys", self.limits.dedup)));
            }
        }
        Ok(())
    }

    pub(super) fn forget_dedup(&mut self, now: Millis) {
        for segment in self.dedup.expire(now) {
            self.release(segment);
        }
    }

    /// The record of a push is in the log, its batch's content at `start` of `segment`: now it can be handed out.
    pub(crate) fn commit(&mut self, pending: &Pending, segment: u32, start: u32, now: Millis) -> Place {
        let place = Place { segment, offset: start + pending.place.offset, length: pending.place.length };
        for number in &pending.queues {
            // It may have been deleted meanwhile.
            let Some(queue) = self.queues.get_mut(number) else { continue };
            queue.pending = queue.pending.saturating_sub(1);
            self.pending = self.pending.saturating_sub(1);
            queue.pushed += 1;
            if pending.id <= queue.purged {
                continue;
            }
            let live = Live::new(place, pending.priority, pending.ttr);
            queue.insert(pending.id, live, CopyState { due: pending.due, retries: 0, dead: None }, now);
            self.retain(place);
        }
        if let Some((topic, key)) = &pending.dedup
            && self.dedup.placed(*topic, key, pending.id, segment)
        {
            *self.needed.entry(segment).or_default() += 1;
        }
        place
    }
}

fn check_push(push: &Push) -> Result<(), MqError> {
    check_name("topic", &push.topic)?;
    if let Some(key) = &push.route_key {
        // A regular expression may hold anything; an exact one that is no name matches no queue.
        if key.is_empty() || key.len() > 4096 {
            return Err(MqError::Invalid("route_key is empty, or longer than 4,096 bytes".to_owned()));
        }
    }
    if push.body.is_empty() {
        return Err(MqError::Invalid("data is empty".to_owned()));
    }
    if push.body.len() > LARGEST_BODY {
        let text = format!("the body has {} bytes, at most {LARGEST_BODY} are taken", push.body.len());
        return Err(MqError::Invalid(text));
    }
    if push.delay_ms > LONGEST_DELAY {
        let text = format!("a delay of {} ms: at most {LONGEST_DELAY} ms (3 days) are taken", push.delay_ms);
        return Err(MqError::Invalid(text));
    }
    if push.dedup.as_ref().is_some_and(|key| key.is_empty() || key.len() > 255) {
        return Err(MqError::Invalid("the dedup key is empty, or longer than 255 bytes".to_owned()));
    }
    Ok(())
}
