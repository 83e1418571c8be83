//! Topics and queues: made, configured, paused, within the node's bounds.

use std::collections::HashSet;

use super::{Limits, State, Topic};
use crate::{
    MqError, Rate, Settings,
    batch::Batch,
    message::{LONGEST_DELAY, Millis, check_name},
    record::{QueueNumber, Record, TopicConfig, TopicNumber},
};

const LONGEST_DEDUP: Millis = 24 * 3600 * 1000;
/// Steps of a back-off.
const STEPS: usize = 32;
/// Longest time of a rate.
const DAY: u32 = 24 * 3600 * 1000;
/// Unit of the bound of topics and queues.
const CONFIGURATION: &str = "bytes of topics and queues with their names";

impl State {
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
    pub(super) fn check_room_for_queues<'a>(
        &self,
        new: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), MqError> {
        let (mut topics, mut queues, mut bytes) = (HashSet::new(), 0, self.totals.configuration);
        for (topic, queue) in new {
            queues += 1;
            bytes += queue_bytes(queue);
            if !self.names.contains_key(topic) && topics.insert(topic) {
                bytes += topic_bytes(topic, &self.new_topic(0));
            }
        }
        let Limits { topics: most_topics, queues: most_queues, configuration, .. } = self.limits;
        if self.names.len() + topics.len() > most_topics && !topics.is_empty() {
            Err(full("topics", most_topics as u64, "`max_topics`"))
        } else if self.queues.len() + queues > most_queues {
            Err(full("queues", most_queues as u64, "`max_queues`"))
        } else if bytes > configuration {
            Err(full(CONFIGURATION, configuration, "`segment_bytes`"))
        } else {
            Ok(())
        }
    }

    /// Takes the settings that new topics begin with.
    pub(crate) fn set_new_topics(&mut self, settings: Settings) -> Result<(), MqError> {
        check_settings(&settings)?;
        self.new_topics = settings;
        Ok(())
    }

    /// Configuration of a new topic.
    fn new_topic(&self, now: Millis) -> TopicConfig {
        TopicConfig::new(now).with(&self.new_topics)
    }

    fn make_topic(&mut self, name: &str, now: Millis, batch: &mut Batch) -> TopicNumber {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let (number, config) = (self.last_topic + 1, self.new_topic(now));
        batch.add(&Record::Topic { number, name: name.to_owned(), config: config.clone() });
        self.apply_topic(number, name.to_owned(), config);
        number
    }

    pub(super) fn make_queue(&mut self, topic: &str, bind_key: &str, now: Millis, batch: &mut Batch) -> QueueNumber {
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
        check_settings(settings)?;
        self.check_room_for_topic(topic, settings)?;
        let number = self.make_topic(topic, now, batch);
        // Everything until now happened under the old settings.
        self.advance_topic(number, now, batch);
        let Some(Topic { name, config, .. }) = self.topics.get(&number) else { return Ok(()) };
        let changed = settings.changed_ms().map_or(now, |changed| changed.min(now));
        let config = TopicConfig { changed, ..config.with(settings) };
        batch.add(&Record::Topic { number, name: name.clone(), config: config.clone() });
        self.apply_topic(number, name.clone(), config);
        Ok(())
    }

    /// Checks the bounds for a topic with these settings, which may be new.
    fn check_room_for_topic(&self, topic: &str, settings: &Settings) -> Result<(), MqError> {
        let known = self.names.get(topic).and_then(|number| self.topics.get(number));
        let (before, config) = match known {
            Some(known) => (topic_bytes(topic, &known.config), known.config.with(settings)),
            None => (0, self.new_topic(0).with(settings)),
        };
        let bytes = self.totals.configuration - before + topic_bytes(topic, &config);
        if known.is_none() && self.names.len() >= self.limits.topics {
            return Err(full("topics", self.limits.topics as u64, "`max_topics`"));
        }
        if topic_bytes(topic, &config) > before && bytes > self.limits.configuration {
            return Err(full(CONFIGURATION, self.limits.configuration, "`segment_bytes`"));
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
}

fn full(what: &str, most: u64, remedy: &str) -> MqError {
    MqError::NodeFull(format!("it keeps at most {most} {what}: delete some, or raise {remedy}"))
}

fn check_settings(settings: &Settings) -> Result<(), MqError> {
    let Settings { ttr_ms, ttl_ms, dedup_window_ms, backoff_ms, max_leased, rate, .. } = settings;
    let steps = backoff_ms.as_deref().unwrap_or_default();
    let bad_rate = rate
        .is_some_and(|rate| rate != Rate::UNLIMITED && (rate.messages == 0 || rate.per_ms == 0 || rate.per_ms > DAY));
    let problem = if *ttr_ms == Some(0) {
        "msgTTR is 0: a delivery takes longer than that".to_owned()
    } else if *ttl_ms == Some(0) {
        "the time to live is 0: no message could be delivered".to_owned()
    } else if dedup_window_ms.is_some_and(|window| window > LONGEST_DEDUP) {
        format!("the dedup window is at most {LONGEST_DEDUP} ms")
    } else if steps.len() > STEPS || steps.iter().any(|step| *step > LONGEST_DELAY) {
        format!("the back-off has {} steps: at most {STEPS} of {LONGEST_DELAY} ms (366 days) are taken", steps.len())
    } else if *max_leased == Some(0) {
        "at most 0 messages at a time: nothing could be delivered; to stop a queue, pause it".to_owned()
    } else if bad_rate {
        format!("a rate needs messages, and a time of 1 to {DAY} ms; both are 0 for no limit")
    } else {
        return Ok(());
    };
    Err(MqError::Invalid(problem))
}

/// An upper bound of a topic's record, in a batch and in the footer.
pub(super) fn topic_bytes(name: &str, config: &TopicConfig) -> u64 {
    2 * (name.len() as u64 + 104 + 6 * config.backoff.len() as u64)
}

/// The same for a queue.
pub(super) fn queue_bytes(bind_key: &str) -> u64 {
    2 * (bind_key.len() as u64 + 16)
}
