//! Pushing: which queues a message goes to, whether there is room in all of them, and when it can be handed out.

use std::collections::{HashMap, HashSet};

use regex::Regex;
use smallvec::SmallVec;

use super::{STEP, State};
use crate::{
    MqError, Push,
    batch::{Batch, Place},
    message::{LARGEST_BATCH, LARGEST_BATCH_BYTES, LARGEST_BODY, LONGEST_DELAY, MessageId, Millis, check_name},
    queue::Live,
    record::{CopyState, MessageRecord, QueueNumber, Record, TopicNumber},
    route::{DEFAULT_QUEUE, Mode},
};

/// Most often one.
pub(crate) type Queues = SmallVec<[QueueNumber; 2]>;

/// A push that becomes visible when its record is where it should be.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: MessageId,
    /// In its batch.
    pub(crate) place: Place,
    pub(crate) queues: Queues,
    /// Counts pushes, so that a purge takes what was pushed before it.
    pub(super) number: u64,
    pub(super) due: Millis,
    pub(super) retries: u16,
    pub(super) end: Option<Millis>,
    pub(super) priority: u8,
    pub(super) ttr: u32,
    pub(super) group: Option<String>,
    pub(super) dedup: Option<(TopicNumber, String)>,
    /// Segment that holds the message's previous bytes until these are durable.
    pub(super) retained: Option<u32>,
}

/// Additions of a batch of pushes.
#[derive(Debug, Default)]
struct More<'a> {
    queues: HashMap<QueueNumber, u64>,
    /// To the queues `default` of these topics, which are not there yet.
    made: HashMap<&'a str, u64>,
    keys: HashSet<(&'a str, &'a str)>,
}

/// Outcome of a push.
#[derive(Debug)]
pub(crate) enum Pushed {
    New(Pending),
    /// The push is the same as an earlier one.
    Duplicate(MessageId),
}

impl State {
    /// Checks that all of these can be pushed together.
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

    /// Takes a message; nothing is changed when it is refused.
    pub(crate) fn push_one(&mut self, push: Push, now: Millis, batch: &mut Batch) -> Result<Pushed, MqError> {
        if push.dedup.is_some() {
            self.check_all(std::slice::from_ref(&push), now, batch)?;
            return self.push_checked(push, now, batch);
        }
        check_due(&push, now)?;
        let queues = self.route(&push)?;
        queues.iter().try_for_each(|number| self.check_length(*number, 1, now, batch))?;
        if queues.is_empty() {
            self.check_length_of_default(&push.topic, 1)?;
            self.check_room_for_queues(std::iter::once((push.topic.as_str(), DEFAULT_QUEUE)))?;
        }
        self.check_live(queues.len().max(1) as u64)?;
        Ok(self.push(push, queues, now, batch))
    }

    /// Takes messages, all or none.
    pub(crate) fn push_all(
        &mut self,
        pushes: Vec<Push>,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<Vec<Pushed>, MqError> {
        self.check_all(&pushes, now, batch)?;
        pushes.into_iter().map(|push| self.push_checked(push, now, batch)).collect()
    }

    /// Checks that all of these would be taken together, so that a batch is taken whole or not at all.
    fn check_all(&mut self, pushes: &[Push], now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        let mut more = More::default();
        for push in pushes {
            check_due(push, now)?;
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

    fn push_checked(&mut self, push: Push, now: Millis, batch: &mut Batch) -> Result<Pushed, MqError> {
        if let (Some(key), Some(topic)) = (&push.dedup, self.names.get(&push.topic))
            && let Some(id) = self.dedup.get(*topic, key, now)
        {
            return Ok(Pushed::Duplicate(id));
        }
        let queues = self.route(&push)?;
        Ok(self.push(push, queues, now, batch))
    }

    fn push(&mut self, push: Push, mut queues: Queues, now: Millis, batch: &mut Batch) -> Pushed {
        if queues.is_empty() {
            queues.push(self.default_queue(&push.topic, now, batch));
        }
        let topic = self.queues[&queues[0]].topic;
        let id = self.ids.next(now);
        let due = push.due_ms().unwrap_or(0).max(now + push.delay_ms);
        let ttl = push.ttl_ms().or_else(|| Some(self.topics[&topic].config.ttl)).filter(|ttl| *ttl < Millis::MAX);
        let end = ttl.map(|ttl| now.saturating_add(ttl));
        let record = MessageRecord {
            id,
            topic,
            copies: queues.iter().map(|queue| (*queue, CopyState { due, retries: 0, dead: None })).collect(),
            priority: push.priority,
            ttr: push.ttr_ms.unwrap_or(0),
            end,
            group: push.group().ok().flatten().map(str::to_owned),
            headers: push.headers.into_iter().map(|(key, value)| (key, value.into())).collect(),
            body: push.body.into(),
        };
        let place = batch.add_message(&record);
        if let Some(key) = &push.dedup {
            let expires = now + self.topics[&topic].config.dedup_window;
            batch.add(&Record::Dedup { topic, key: key.clone(), id, expires });
            if let Some(replaced) = self.dedup.insert(topic, key.clone(), id, expires) {
                self.needed.release(replaced);
            }
        }
        for number in &queues {
            if let Some(queue) = self.queues.get_mut(number) {
                queue.pending += 1;
            }
        }
        self.pending += queues.len() as u64;
        self.last_push += 1;
        self.is_bounded |= record.group.is_some();
        let dedup = push.dedup.map(|key| (topic, key));
        let MessageRecord { priority, ttr, group, .. } = record;
        Pushed::New(Pending {
            id,
            place,
            queues,
            number: self.last_push,
            due,
            retries: 0,
            end,
            priority,
            ttr,
            group,
            dedup,
            retained: None,
        })
    }

    /// The queue `default` of a topic; made if need be, and its topic too.
    fn default_queue(&mut self, topic: &str, now: Millis, batch: &mut Batch) -> QueueNumber {
        let known = self.names.get(topic).and_then(|number| self.topics[number].queues.get(DEFAULT_QUEUE));
        known.copied().unwrap_or_else(|| self.make_queue(topic, DEFAULT_QUEUE, now, batch))
    }

    /// The queues that a push goes to; none: to the queue `default`, which is not there yet.
    fn route(&mut self, push: &Push) -> Result<Queues, MqError> {
        let topic = self.names.get(&push.topic).and_then(|number| self.topics.get(number));
        let Some(route_key) = &push.route_key else {
            return Ok(topic.and_then(|topic| topic.queues.get(DEFAULT_QUEUE)).copied().into_iter().collect());
        };
        let topic = topic.ok_or_else(|| MqError::NoTopic(push.topic.clone()))?;
        let matching: Queues = match topic.config.mode {
            Mode::Exact => topic.queues.get(route_key).copied().into_iter().collect(),
            Mode::Fuzzy => {
                let expression = self.expressions.get(route_key)?;
                let matching = topic.queues.iter().filter(|(key, _)| expression.is_match(key));
                matching.map(|(_, number)| *number).collect()
            }
        };
        if matching.is_empty() {
            return Err(MqError::NoQueue(route_key.clone()));
        }
        Ok(matching)
    }

    /// Route keys of these pushes that are regular expressions and not compiled yet: to be compiled without the lock, and
    /// given to [`know`](Self::know).
    pub(crate) fn uncompiled(&self, pushes: &[Push]) -> Vec<String> {
        let missing = |push: &&Push| {
            let is_fuzzy = |number| self.topics.get(number).is_some_and(|topic| topic.config.mode == Mode::Fuzzy);
            let Some(key) = &push.route_key else { return false };
            self.names.get(&push.topic).is_some_and(is_fuzzy) && !self.expressions.has(key)
        };
        pushes.iter().filter(missing).filter_map(|push| push.route_key.clone()).collect()
    }

    /// Returns true if a topic takes route keys as patterns, or will.
    pub(crate) fn has_patterns(&self) -> bool {
        self.new_topics.mode == Some(Mode::Fuzzy) || self.topics.values().any(|topic| topic.config.mode == Mode::Fuzzy)
    }

    /// Keeps compiled route keys.
    pub(crate) fn know(&mut self, expressions: Vec<(String, Result<Regex, MqError>)>) {
        expressions.into_iter().for_each(|(key, compiled)| self.expressions.insert(key, compiled));
    }

    /// Checks that a queue takes some more messages.
    pub(super) fn check_length(
        &mut self,
        number: QueueNumber,
        more: u64,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<(), MqError> {
        let most = self.topics[&self.queues[&number].topic].config.max_length;
        if self.queues[&number].length().saturating_add(more) > most {
            // Some of it may be dead by now.
            self.advance(number, now, batch);
        }
        let queue = &self.queues[&number];
        if queue.length().saturating_add(more) > most {
            return Err(MqError::Full { queue: queue.bind_key.clone(), length: queue.length(), most });
        }
        Ok(())
    }

    /// The same for the queue `default` of a topic, which is not there yet.
    fn check_length_of_default(&self, topic: &str, more: u64) -> Result<(), MqError> {
        let topic = self.names.get(topic).and_then(|number| self.topics.get(number));
        match topic.map(|topic| topic.config.max_length) {
            Some(most) if more > most => Err(MqError::Full { queue: DEFAULT_QUEUE.to_owned(), length: 0, most }),
            _ => Ok(()),
        }
    }

    /// Checks that the node takes some more messages.
    pub(super) fn check_live(&self, copies: u64) -> Result<(), MqError> {
        let live = self.live().saturating_sub(self.totals.dead + self.totals.discarded);
        if live + self.pending + copies > self.limits.live {
            return Err(MqError::NodeFull(format!("it keeps at most {} messages in memory", self.limits.live)));
        }
        Ok(())
    }

    fn check_space(&mut self, more: &More<'_>, now: Millis, batch: &mut Batch) -> Result<(), MqError> {
        for (number, more) in &more.queues {
            self.check_length(*number, *more, now, batch)?;
        }
        for (topic, more) in &more.made {
            self.check_length_of_default(topic, *more)?;
        }
        if !more.made.is_empty() {
            self.check_room_for_queues(more.made.keys().map(|topic| (*topic, DEFAULT_QUEUE)))?;
        }
        self.check_live(more.queues.values().chain(more.made.values()).sum())?;
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
        for segment in self.dedup.expire(now, STEP) {
            self.needed.release(segment);
        }
    }

    /// The record of a push is in the log, its batch's content at `start` of `segment`: now it can be handed out.
    pub(crate) fn commit(&mut self, pending: &Pending, segment: u32, start: u32, now: Millis) -> Place {
        let place = Place { segment, offset: start + pending.place.offset, length: pending.place.length };
        let mut queues = 0;
        for number in &pending.queues {
            // The queue may have been deleted meanwhile.
            let Some(queue) = self.queues.get_mut(number) else { continue };
            queue.pending = queue.pending.saturating_sub(1);
            self.pending = self.pending.saturating_sub(1);
            queue.pushed += 1;
            if pending.number <= queue.purged {
                continue;
            }
            let mut live = Live::new(place, pending.priority, pending.ttr);
            live.retries = pending.retries;
            queue.assign(pending.id, pending.group.as_deref());
            queue.push(pending.id, live, pending.due, now);
            if pending.end.is_some() {
                queue.set_end(pending.id, pending.end);
            }
            queues += 1;
        }
        self.needed.add(place, queues);
        pending.retained.into_iter().for_each(|segment| self.needed.release(segment));
        if let Some((topic, key)) = &pending.dedup
            && self.dedup.placed(*topic, key, pending.id, segment)
        {
            self.needed.retain(segment);
        }
        place
    }
}

fn check_due(push: &Push, now: Millis) -> Result<(), MqError> {
    match push.due_ms() {
        Some(due) if due > now + LONGEST_DELAY => Err(MqError::Invalid(format!(
            "the message is due in {} ms: at most {LONGEST_DELAY} ms (366 days) are taken",
            due - now
        ))),
        _ => Ok(()),
    }
}

fn check_push(push: &Push) -> Result<(), MqError> {
    check_name("topic", &push.topic)?;
    if let Some(key) = &push.route_key {
        // A regular expression may hold anything; an exact key that is no name matches no queue.
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
        let text = format!("a delay of {} ms: at most {LONGEST_DELAY} ms (366 days) are taken", push.delay_ms);
        return Err(MqError::Invalid(text));
    }
    push.group()?;
    if push.ttl_ms() == Some(0) {
        return Err(MqError::Invalid("the time to live is 0: the message could not be delivered".to_owned()));
    }
    if push.dedup.as_ref().is_some_and(|key| key.is_empty() || key.len() > 255) {
        return Err(MqError::Invalid("the dedup key is empty, or longer than 255 bytes".to_owned()));
    }
    Ok(())
}
