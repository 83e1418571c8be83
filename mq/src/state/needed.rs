//! Which segments and bytes of the log are still needed.

use std::collections::{BTreeMap, HashMap};

use crate::batch::Place;

/// References to places of the log.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// Messages and dedup keys that each segment holds.
    segments: BTreeMap<u32, u64>,
    copies: u64,
    bytes: u64,
    dropped_bytes: u64,
    /// Places that more than one queue refers to, with the number of queues.
    shared: HashMap<Place, u32>,
}

impl Needed {
    /// References to messages: one for each queue that holds one.
    pub(super) fn copies(&self) -> u64 {
        self.copies
    }

    /// Bytes of the messages, each place once.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of messages that no queue refers to any more, since the node started.
    pub(super) fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    pub(super) fn is_free(&self, segment: u32) -> bool {
        !self.segments.contains_key(&segment)
    }

    /// Notes that a number of queues refer to the message at this place, which none did before.
    pub(super) fn add(&mut self, place: Place, queues: u32) {
        if queues == 0 {
            return;
        }
        *self.segments.entry(place.segment).or_default() += u64::from(queues);
        self.copies += u64::from(queues);
        self.bytes += u64::from(place.length);
        if queues > 1 {
            self.shared.insert(place, queues);
        }
    }

    /// One queue less refers to the message.
    pub(super) fn drop(&mut self, place: Place) {
        self.copies -= 1;
        self.release(place.segment);
        match self.shared.get_mut(&place) {
            Some(queues) => {
                *queues -= 1;
                if *queues == 1 {
                    self.shared.remove(&place);
                }
            }
            None => {
                self.bytes -= u64::from(place.length);
                self.dropped_bytes += u64::from(place.length);
            }
        }
    }

    /// The segment holds a dedup key.
    pub(super) fn retain(&mut self, segment: u32) {
        *self.segments.entry(segment).or_default() += 1;
    }

    /// The segment holds one message or dedup key less.
    pub(super) fn release(&mut self, segment: u32) {
        if let Some(needed) = self.segments.get_mut(&segment) {
            *needed -= 1;
            if *needed == 0 {
                self.segments.remove(&segment);
            }
        }
    }
}
