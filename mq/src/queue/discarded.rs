//! Messages that are taken out of a queue all at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map};

use super::{Lease, Letter, Letters, Live, Queue, groups::Groups, live::Rank};
use crate::{
    batch::Place,
    message::{MessageId, Millis},
    sorted::{self, Sorted},
};

/// Messages that were taken out of a queue all at once. Their places are released in steps.
#[derive(Debug)]
pub(crate) struct Discarded {
    messages: sorted::Entries<MessageId, Live>,
    letters: btree_map::IntoValues<MessageId, Letter>,
    pub(crate) count: u64,
    /// Dropped with the rest, outside of any lock.
    indexes: Vec<Index>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "kept to be dropped")]
enum Index {
    Ready(Sorted<(Rank, MessageId)>),
    Times(BTreeSet<(Millis, MessageId)>),
    Leased(HashMap<MessageId, Lease>),
    Ends(HashMap<MessageId, Millis>),
    Groups(Groups),
}

impl Iterator for Discarded {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let message = self.messages.next().map(|(_, live)| live.place);
        message.or_else(|| self.letters.next().map(|letter| letter.live.place))
    }
}

impl Queue {
    /// Takes everything out but the dead letters.
    pub(crate) fn purge(&mut self) -> Discarded {
        let messages = std::mem::replace(&mut self.messages, Sorted::new());
        let times =
            [&mut self.delayed, &mut self.leases, &mut self.ending].map(|times| Index::Times(std::mem::take(times)));
        let mut indexes = Vec::from(times);
        indexes.push(Index::Ready(std::mem::replace(&mut self.ready, Sorted::new())));
        indexes.push(Index::Leased(std::mem::take(&mut self.leased)));
        indexes.push(Index::Ends(std::mem::take(&mut self.ends)));
        indexes.push(Index::Groups(std::mem::take(&mut self.groups)));
        Discarded {
            count: messages.len() as u64,
            messages: messages.into_entries(),
            letters: BTreeMap::new().into_values(),
            indexes,
        }
    }

    /// Takes everything out, and the dead letters too.
    pub(crate) fn clear(&mut self) -> Discarded {
        let mut discarded = self.purge();
        let Letters { by_id, free, leases, .. } = std::mem::take(&mut self.letters);
        discarded.count += by_id.len() as u64;
        discarded.letters = by_id.into_values();
        discarded.indexes.extend([free, leases].map(Index::Times));
        discarded
    }
}
