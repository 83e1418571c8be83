//! Which pushes were made already. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::{
    message::{MessageId, Millis},
    record::TopicNumber,
};

type Key = (TopicNumber, String);

/// Keys of pushes, until they expire.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    by_key: HashMap<Key, Entry>,
    by_end: BTreeSet<(Millis, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: MessageId,
    expires: Millis,
    /// Which segment of the log says so; none while it is on its way there.
    segment: Option<u32>,
}

impl Dedup {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The message that was pushed with this key.
    pub(crate) fn get(&self, topic: TopicNumber, key: &str, now: Millis) -> Option<MessageId> {
        let entry = self.by_key.get(&(topic, key.to_owned()))?;
        (entry.expires > now).then_some(entry.id)
    }

    /// Notes a push; returns the segment of an expired one that it replaces.
    pub(crate) fn insert(&mut self, topic: TopicNumber, key: String, id: MessageId, expires: Millis) -> Option<u32> {
        let key = (topic, key);
        let before = self.by_key.insert(key.clone(), Entry { id, expires, segment: None });
        if let Some(before) = &before {
            self.by_end.remove(&(before.expires, key.clone()));
        }
        self.by_end.insert((expires, key));
        before?.segment
    }

    /// The log says so in this segment. False: the key is not known any more, or is another message's by now.
    pub(crate) fn placed(&mut self, topic: TopicNumber, key: &str, id: MessageId, segment: u32) -> bool {
        match self.by_key.get_mut(&(topic, key.to_owned())) {
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
        while self.by_end.first().is_some_and(|(end, _)| *end <= now) {
            let Some((_, key)) = self.by_end.pop_first() else { break };
            segments.extend(self.by_key.remove(&key).and_then(|entry| entry.segment));
        }
        segments
    }

    /// Forgets a topic's; returns the segments that said so.
    pub(crate) fn remove_topic(&mut self, topic: TopicNumber) -> Vec<u32> {
        let gone: Vec<_> = self.by_key.extract_if(|(of, _), _| *of == topic).collect();
        self.by_end.retain(|(_, (of, _))| *of != topic);
        gone.into_iter().filter_map(|(_, entry)| entry.segment).collect()
    }

    /// What this segment says that still counts.
    pub(crate) fn of_segment(&self, segment: u32) -> Vec<(TopicNumber, String, MessageId, Millis)> {
        let of = self.by_key.iter().filter(|(_, entry)| entry.segment == Some(segment));
        of.map(|((topic, key), entry)| (*topic, key.clone(), entry.id, entry.expires)).collect()
    }
}
