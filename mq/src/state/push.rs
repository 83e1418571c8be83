//! Pushing: which queues a message goes to, whether there is room in all of them, and when it can be handed out.

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
    pub(crate) queues: Vec<QueueNumber>,
    due: Millis,
    priority: u8,
    ttr: u32,
    dedup: Option<(TopicNumber, String)>,
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

    /// Takes a message; nothing is changed when it is refused.
    pub(crate) fn push_one(&mut self, push: Push, now: Millis, batch: &mut Batch) -> Result<Pushed, MqError> {
        let queues = self.route(&push)?;
        queues.iter().try_for_each(|number| self.check_length(*number, 1))?;
        self.check_space(queues.len().max(1), usize::from(push.dedup.is_some()), now)?;
        Ok(self.push(push, queues, now, batch))
    }

    /// Takes messages, all or none.
    pub(crate) fn push_all(
        &mut self,
        pushes: Vec<Push>,
        now: Millis,
        batch: &mut Batch,
    ) -> Result<Vec<Pushed>, MqError> {
        let routes = pushes.iter().map(|push| self.route(push)).collect::<Result<Vec<_>, _>>()?;
        let mut numbers: Vec<_> = routes.iter().flatten().copied().collect();
        numbers.sort_unstable();
        let mut each = numbers.chunk_by(|one, other| one == other);
        each.try_for_each(|same| self.check_length(same[0], same.len() as u64))?;
        let keys = pushes.iter().filter(|push| push.dedup.is_some()).count();
        self.check_space(routes.iter().map(|queues| queues.len().max(1)).sum(), keys, now)?;
        Ok(pushes.into_iter().zip(routes).map(|(push, queues)| self.push(push, queues, now, batch)).collect())
    }

    fn push(&mut self, push: Push, mut queues: Vec<QueueNumber>, now: Millis, batch: &mut Batch) -> Pushed {
        if let (Some(key), Some(topic)) = (&push.dedup, self.names.get(&push.topic))
            && let Some(id) = self.dedup.get(*topic, key, now)
        {
            return Pushed::Duplicate(id);
        }
        if queues.is_empty() {
            queues.push(self.default_queue(&push.topic, now, batch));
        }
        let topic = self.queues[&queues[0]].topic;
        let id = self.ids.next(now);
        let due = now + push.delay_ms;
        let record = MessageRecord {
            id,
            topic,
            copies: queues.iter().map(|queue| (*queue, CopyState { due, retries: 0, dead: None })).collect(),
            priority: push.priority,
            ttr: push.ttr_ms.unwrap_or(0),
            headers: push.headers.into_iter().map(|(key, value)| (key, value.into())).collect(),
            body: push.body.into(),
        };
        let place = batch.add_message(&record);
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
        Pushed::New(Pending { id, place, queues, due, priority: record.priority, ttr: record.ttr, dedup })
    }

    /// The queue `default` of a topic; made if need be, and its topic too.
    fn default_queue(&mut self, topic: &str, now: Millis, batch: &mut Batch) -> QueueNumber {
        let known = self.names.get(topic).and_then(|number| self.topics[number].queues.get(DEFAULT_QUEUE));
        known.copied().unwrap_or_else(|| self.make_queue(topic, DEFAULT_QUEUE, now, batch))
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

    /// Whether a queue takes so many more.
    fn check_length(&self, number: QueueNumber, more: u64) -> Result<(), MqError> {
        let queue = &self.queues[&number];
        let most = self.topics[&queue.topic].config.max_length;
        if queue.length().saturating_add(more) > most {
            return Err(MqError::Full { queue: queue.bind_key.clone(), length: queue.length(), most });
        }
        Ok(())
    }

    /// Whether the node takes so many more. A queue that has yet to be made takes one.
    fn check_space(&mut self, copies: usize, keys: usize, now: Millis) -> Result<(), MqError> {
        if self.live + self.pending + copies as u64 > self.limits.live {
            let text = format!("it keeps at most {} messages in memory", self.limits.live);
            return Err(MqError::NodeFull(text));
        }
        if keys > 0 {
            self.forget_dedup(now);
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
            let live = Live::new(place, pending.priority, pending.ttr);
            queue.push(pending.id, live, pending.due, now);
            self.retain(place);
        }
        if let Some((topic, key)) = &pending.dedup
            && self.dedup.placed(*topic, key, segment)
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
