//! Cache of batches that were pushed lately, as they were written: most messages are popped soon.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use crate::{batch::Place, record::MessageRecord};

/// The contents of batches, the oldest first: they lie in the log in this order.
#[derive(Debug)]
pub(super) struct Cache {
    batches: VecDeque<Cached>,
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
struct Cached {
    segment: u32,
    /// Where the content begins.
    start: u32,
    content: Arc<Vec<u8>>,
}

/// A message that was found. To be read where it holds nobody up.
#[derive(Debug)]
pub(super) struct Found {
    content: Arc<Vec<u8>>,
    record: Range<usize>,
}

impl Found {
    pub(super) fn message(&self) -> Option<MessageRecord> {
        MessageRecord::trusted(self.content.get(self.record.clone())?)
    }
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, most }
    }

    /// Keeps a batch's content, for the oldest ones if need be; returns the room of one of these.
    pub(super) fn insert(&mut self, segment: u32, start: u32, content: Vec<u8>) -> Option<Vec<u8>> {
        if content.capacity() > self.most / 2 {
            return Some(content);
        }
        self.bytes += content.capacity();
        self.batches.push_back(Cached { segment, start, content: Arc::new(content) });
        let mut room = None;
        while self.bytes > self.most {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.content.capacity();
            room = Arc::into_inner(oldest.content).or(room);
        }
        room
    }

    /// The message at this place.
    pub(super) fn get(&self, place: Place) -> Option<Found> {
        let behind =
            self.batches.partition_point(|batch| (batch.segment, batch.start) <= (place.segment, place.offset));
        let batch = self.batches.get(behind.checked_sub(1)?)?;
        let from = place.offset.checked_sub(batch.start)? as usize;
        let record = from..from + place.length as usize;
        let is_whole = batch.segment == place.segment && record.end <= batch.content.len();
        is_whole.then(|| Found { content: batch.content.clone(), record })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::Batch;

    /// A batch of one message.
    fn batch(id: u64) -> (Batch, Place) {
        let headers = vec![("k".to_owned(), Bytes::from_static(b"v"))];
        let body = Bytes::from(vec![id as u8; 1000]);
        let message = MessageRecord { headers, body, ..MessageRecord::bare(id, 1) };
        let mut batch = Batch::default();
        batch.content.push(0);
        let place = batch.add_message(&message);
        (batch, place)
    }

    #[test]
    fn the_oldest_make_room() {
        let mut cache = Cache::new(20_000);
        let mut places = Vec::new();
        for id in 0..100_u32 {
            let (batch, place) = batch(id.into());
            let (segment, start) = (id / 10, 5000 * (id % 10) + 7);
            cache.insert(segment, start, batch.content);
            places.push(Place { segment, offset: start + place.offset, length: place.length });
        }
        assert!(cache.bytes <= cache.most && cache.batches.len() > 5);
        for (id, place) in places.into_iter().enumerate() {
            let found = cache.get(place).map(|found| found.message().unwrap());
            assert_eq!(found.is_some(), id >= 100 - cache.batches.len(), "{id}");
            assert!(found.is_none_or(|found| found.id.0 == id as u64 && found.body[..] == [id as u8; 1000]));
        }
        for place in [(9, 49_000), (50, 10)] {
            let place = Place { segment: place.0, offset: place.1, length: 10 };
            assert!(cache.get(place).is_none(), "behind all of them");
        }
    }
}
