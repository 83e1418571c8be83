//! Dedup keys of pushes. Pure: time comes in as an argument.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
};

use crate::{
    message::{MessageId, Millis},
    record::TopicNumber,
};

/// Keys of pushes, until they expire.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    topics: HashMap<TopicNumber, HashMap<String, Entry>>,
    /// By their ends. A key that is gone, or has another end by now, counts for nothing.
    by_end: BTreeSet<Ending>,
    length: usize,
}

/// Bytes of a key's record beside the key.
const RECORD: u64 = 32;

/// The end of a key.
pub(crate) type Ending = (Millis, TopicNumber, String);

/// A key and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) topic: TopicNumber,
    pub(crate) key: String,
    pub(crate) id: MessageId,
    pub(crate) expires: Millis,
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

    /// Notes a push; returns the segment of an expired push that it replaces.
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

    /// Forgets keys that have expired, at most so many; returns the segments that said so.
    pub(crate) fn expire(&mut self, now: Millis, most: usize) -> Vec<u32> {
        let mut segments = Vec::new();
        for _ in 0..most {
            if self.by_end.first().is_none_or(|(end, ..)| *end > now) {
                break;
            }
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

    /// The keys that stand in this segment and still count, among the next `most` keys behind `after` in the order of their
    /// ends, and at most about so many bytes of them. Also the last key that was looked at, if there are more.
    pub(crate) fn of_segment(
        &self,
        segment: u32,
        after: Option<&Ending>,
        most: usize,
        bytes: u64,
    ) -> (Vec<Key>, Option<Ending>) {
        let begin = after.map_or(Unbounded, Excluded);
        let (mut keys, mut left, mut last) = (Vec::new(), bytes, None::<&Ending>);
        for (looked, ending) in self.by_end.range((begin, Unbounded)).enumerate() {
            if looked == most || left == 0 {
                return (keys, last.cloned());
            }
            last = Some(ending);
            let (expires, topic, key) = ending;
            let entry = self.topics.get(topic).and_then(|keys| keys.get(key));
            if let Some(Entry { id, .. }) = entry.filter(|e| (e.expires, e.segment) == (*expires, Some(segment))) {
                left = left.saturating_sub(key.len() as u64 + RECORD);
                keys.push(Key { topic: *topic, key: key.clone(), id: *id, expires: *expires });
            }
        }
        (keys, None)
    }
}
