use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::message::MessageId;

/// Bodies and headers of messages that were pushed lately: most often they are popped soon.
#[derive(Debug)]
pub(super) struct Cache {
    messages: HashMap<MessageId, Cached>,
    /// The oldest first; some may be gone.
    order: VecDeque<MessageId>,
    bytes: usize,
    most: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Cached {
    pub(super) body: Bytes,
    pub(super) headers: Vec<(String, Bytes)>,
}

/// What a message costs beside its bytes.
const OVERHEAD: usize = 160;

impl Cached {
    fn size(&self) -> usize {
        OVERHEAD + self.body.len() + self.headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    }
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { messages: HashMap::new(), order: VecDeque::new(), bytes: 0, most }
    }

    /// Keeps a message, for the oldest ones if need be. What it holds on to is copied: it may be a part of something large.
    pub(super) fn insert(&mut self, id: MessageId, body: &Bytes, headers: &[(String, Bytes)]) {
        let headers = headers.iter().map(|(key, value)| (key.clone(), Bytes::copy_from_slice(value))).collect();
        let cached = Cached { body: Bytes::copy_from_slice(body), headers };
        let size = cached.size();
        if size > self.most / 4 {
            return;
        }
        self.bytes += size;
        self.messages.insert(id, cached);
        self.order.push_back(id);
        while self.bytes > self.most || self.order.len() > 2 * self.messages.len() + 1000 {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
    }

    pub(super) fn get(&self, id: MessageId) -> Option<Cached> {
        self.messages.get(&id).cloned()
    }

    pub(super) fn remove(&mut self, id: MessageId) {
        if let Some(cached) = self.messages.remove(&id) {
            self.bytes -= cached.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut cache = Cache::new(10 * (OVERHEAD + 100));
        let body = Bytes::from(vec![7; 100]);
        for id in 0..100 {
            cache.insert(MessageId(id), &body, &[]);
        }
        assert!(cache.bytes <= cache.most);
        assert!(cache.get(MessageId(89)).is_none() && cache.get(MessageId(90)).is_some());
        for id in 0..10_000 {
            cache.insert(MessageId(id), &body, &[]);
            cache.remove(MessageId(id));
        }
        assert!(cache.order.len() < 2000, "what is gone is forgotten");
    }
}
