//! Dedup keys of pushes. Pure: time comes in as an argument.

use std::collections::{BTreeSet, HashMap};

use crate::{
    message::{MessageId, Millis},
    record::TopicNumber,
};

/// Keys of pushes, until they expire.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    topics: HashMap<TopicNumber, HashMap<String, Entry>>,
    /// By their ends. A key that is gone, or has another end by now, counts for nothing.
    by_end: BTreeSet<(Millis, TopicNumber, String)>,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: MessageId,
    expires: Millis,
    /// The segment of the log that says so; none while it is on its way there.
    segment: Option<u32>,
}

impl Dedup {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The message that was pushed with this key.
    pub(crate) fn get(&self, topic: TopicNumber, key: &str, now: Millis) -> Option<MessageId> {
        let entry = self.topics.get(&topic)?.get(key)?;
        (entry.expires > now).then_some(entry.id)
    }

    /// Notes a push; returns the segment of an expired one that it replaces.
    pub(crate) fn insert(&mut self, topic: TopicNumber, key: String, id: MessageId, expires: Millis) -> Option<u32> {
        let entry = Entry { id, expires, segment: None };
        let before = self.topics.entry(topic).or_default().insert(key.clone(), entry);
        self.by_end.insert((expires, topic, key.clone()));
        let Some(before) = before else {
            self.length += 1;
            return None;
        };
        if before.expires != expires {
            self.by_end.remove(&(before.expires, topic, key));
        }
        before.segment
    }

    /// The log says so in this segment. False: the key is not known any more, or is another message's by now.
    pub(crate) fn placed(&mut self, topic: TopicNumber, key: &str, id: MessageId, segment: u32) -> bool {
        match self.topics.get_mut(&topic).and_then(|keys| keys.get_mut(key)) {
            Some(entry) if entry.id == id => {
                entry.segment = Some(segment);
                true
            }
            _ => false,
        }
    }

    /// Forgets what has expired; returns the segments that said so.
    pub(crate) fn expire(&mut self, now: Millis) -> Vec<u32> {
        let mut segments = Vec::new();
        while self.by_end.first().is_some_and(|(end, ..)| *end <= now) {
            let Some((end, topic, key)) = self.by_end.pop_first() else { break };
            let Some(keys) = self.topics.get_mut(&topic) else { continue };
            if keys.get(&key).is_some_and(|entry| entry.expires == end) {
                segments.extend(keys.remove(&key).and_then(|entry| entry.segment));
                self.length -= 1;
            }
        }
        segments
    }

    /// Forgets a topic's keys; returns the segments that said so.
    pub(crate) fn remove_topic(&mut self, topic: TopicNumber) -> Vec<u32> {
        let gone = self.topics.remove(&topic).unwrap_or_default();
        self.length -= gone.len();
        gone.into_values().filter_map(|entry| entry.segment).collect()
    }

    /// The keys that stand in this segment and still count.
    pub(crate) fn of_segment(&self, segment: u32) -> Vec<(TopicNumber, String, MessageId, Millis)> {
        let of = |(topic, keys): (&TopicNumber, &HashMap<String, Entry>)| {
            let topic = *topic;
            let of = keys.iter().filter(|(_, entry)| entry.segment == Some(segment));
            of.map(|(key, entry)| (topic, key.clone(), entry.id, entry.expires)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }
}
