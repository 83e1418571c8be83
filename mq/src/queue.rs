//! One queue: what is ready, what is not yet, what is out, what is dead. Pure: time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    batch::Place,
    message::{MessageId, Millis},
    record::{CopyState, TopicNumber},
    sorted::Sorted,
};

/// One queue of a topic.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: TopicNumber,
    pub(crate) bind_key: String,
    pub(crate) paused: bool,
    messages: Sorted<MessageId, Live>,
    /// In the order of delivery.
    ready: Sorted<(Rank, MessageId)>,
    delayed: BTreeSet<(Millis, MessageId)>,
    /// By their ends.
    leases: BTreeSet<(Millis, MessageId)>,
    leased: HashMap<MessageId, Lease>,
    /// Why each is dead.
    dead: BTreeMap<MessageId, String>,
    /// Pushed, and not certain yet.
    pub(crate) pending: u64,
    /// What was pushed up to this one, and was not certain yet, was purged.
    pub(crate) purged: MessageId,
    pub(crate) pushed: u64,
    pub(crate) popped: u64,
    pub(crate) acked: u64,
    /// Deliveries that came to nothing; and those of them that were the last.
    pub(crate) failed: u64,
    pub(crate) died: u64,
}

/// A message in a queue. There may be millions: it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) place: Place,
    pub(crate) due: Millis,
    /// In milliseconds; 0: the topic's.
    pub(crate) ttr: u32,
    /// Deliveries that came to nothing.
    pub(crate) retries: u16,
    pub(crate) priority: u8,
    phase: Phase,
}

/// Priority, falling, and then due time, rising, in one number: half of what two take among millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    /// For two million years.
    const TIME: u32 = 56;

    fn new(priority: u8, due: Millis) -> Self {
        Self(u64::from(u8::MAX - priority) << Self::TIME | due.min((1 << Self::TIME) - 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    Delayed,
    Leased,
    Dead,
}

/// One delivery that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) number: u64,
    pub(crate) expires: Millis,
}

/// Where a message stands, for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    Delayed,
    Leased(Lease),
    Dead(String),
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
}

impl Live {
    pub(crate) fn new(place: Place, priority: u8, ttr: u32) -> Self {
        Self { place, due: 0, ttr, retries: 0, priority, phase: Phase::Ready }
    }
}

impl Queue {
    pub(crate) fn new(topic: TopicNumber, bind_key: String) -> Self {
        Self {
            topic,
            bind_key,
            paused: false,
            messages: Sorted::new(),
            ready: Sorted::new(),
            delayed: BTreeSet::new(),
            leases: BTreeSet::new(),
            leased: HashMap::new(),
            dead: BTreeMap::new(),
            pending: 0,
            purged: MessageId(0),
            pushed: 0,
            popped: 0,
            acked: 0,
            failed: 0,
            died: 0,
        }
    }

    /// Ready, delayed and leased ones, and those on their way.
    pub(crate) fn length(&self) -> u64 {
        (self.messages.len() - self.dead.len()) as u64 + self.pending
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.len() as u64,
            delayed: self.delayed.len() as u64,
            leased: self.leased.len() as u64,
            dead: self.dead.len() as u64,
        }
    }

    pub(crate) fn get(&self, id: MessageId) -> Option<&Live> {
        self.messages.get(&id)
    }

    pub(crate) fn lease(&self, id: MessageId) -> Option<Lease> {
        self.leased.get(&id).copied()
    }

    pub(crate) fn dead_reason(&self, id: MessageId) -> Option<String> {
        self.dead.get(&id).cloned()
    }

    pub(crate) fn standing(&self, id: MessageId) -> Option<Standing> {
        Some(match self.messages.get(&id)?.phase {
            Phase::Ready => Standing::Ready,
            Phase::Delayed => Standing::Delayed,
            Phase::Leased => Standing::Leased(self.leased.get(&id).copied()?),
            Phase::Dead => Standing::Dead(self.dead.get(&id).cloned()?),
        })
    }

    /// All ids above `after`, rising.
    pub(crate) fn ids_after(&self, after: MessageId) -> impl Iterator<Item = MessageId> {
        self.messages.above(after).map(|(id, _)| *id)
    }

    /// The dead ones above `after`, rising.
    pub(crate) fn dead_after(&self, after: MessageId) -> impl Iterator<Item = (MessageId, &str)> {
        let above = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.dead.range(above).map(|(id, reason)| (*id, reason.as_str()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (MessageId, &Live)> {
        self.messages.iter().map(|(id, live)| (*id, live))
    }

    /// Adds a message, or replaces its copy; returns the place of the one replaced.
    pub(crate) fn insert(&mut self, id: MessageId, live: Live, state: CopyState, now: Millis) -> Option<Place> {
        let before = self.remove(id);
        self.messages.insert(id, live);
        self.set(id, state, now);
        before
    }

    /// Adds a message that was never here.
    pub(crate) fn push(&mut self, id: MessageId, mut live: Live, due: Millis, now: Millis) {
        live.due = due;
        if due <= now {
            self.ready.insert((Rank::new(live.priority, due), id), ());
        } else {
            live.phase = Phase::Delayed;
            self.delayed.insert((due, id));
        }
        self.messages.insert(id, live);
    }

    /// It has been copied: the state stays.
    pub(crate) fn moved(&mut self, id: MessageId, place: Place) {
        if let Some(live) = self.messages.get_mut(&id) {
            live.place = place;
        }
    }

    /// Takes a message out, wherever it stands; returns its place.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Place> {
        self.detach(id);
        self.messages.remove(&id).map(|live| live.place)
    }

    /// Puts a message where `state` says. Ends its lease.
    pub(crate) fn set(&mut self, id: MessageId, state: CopyState, now: Millis) {
        self.detach(id);
        let Some(live) = self.messages.get_mut(&id) else { return };
        (live.due, live.retries) = (state.due, state.retries);
        live.phase = match state.dead {
            Some(reason) => {
                self.dead.insert(id, reason);
                Phase::Dead
            }
            None if state.due <= now => {
                self.ready.insert((Rank::new(live.priority, live.due), id), ());
                Phase::Ready
            }
            None => {
                self.delayed.insert((live.due, id));
                Phase::Delayed
            }
        };
    }

    /// Hands a message out, or renews its lease.
    pub(crate) fn set_lease(&mut self, id: MessageId, lease: Lease, retries: u16) {
        self.detach(id);
        let Some(live) = self.messages.get_mut(&id) else { return };
        live.phase = Phase::Leased;
        live.retries = retries;
        self.leases.insert((lease.expires, id));
        self.leased.insert(id, lease);
    }

    /// The next message to deliver.
    pub(crate) fn first_ready(&self) -> Option<MessageId> {
        if self.paused {
            return None;
        }
        self.ready.first().map(|(_, id)| *id)
    }

    /// The next messages to deliver, whether paused or not.
    pub(crate) fn next_ready(&self) -> impl Iterator<Item = MessageId> {
        self.ready.iter().map(|((_, id), ())| *id)
    }

    /// Moves what has become due; true if something did.
    pub(crate) fn advance(&mut self, now: Millis) -> bool {
        let mut moved = false;
        while let Some((due, id)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, id));
            if let Some(live) = self.messages.get_mut(&id) {
                live.phase = Phase::Ready;
                self.ready.insert((Rank::new(live.priority, due), id), ());
                moved = true;
            }
        }
        moved
    }

    /// A message whose lease has ended, and when it did.
    pub(crate) fn first_expired(&self, now: Millis) -> Option<(MessageId, Millis)> {
        self.leases.first().filter(|(expires, _)| *expires <= now).map(|(expires, id)| (*id, *expires))
    }

    /// When something changes by itself.
    pub(crate) fn next_change(&self) -> Option<Millis> {
        let due = self.delayed.first().map(|(due, _)| *due);
        let expires = self.leases.first().map(|(expires, _)| *expires);
        due.into_iter().chain(expires).min()
    }

    /// Drops all that is not dead; returns the places.
    pub(crate) fn purge(&mut self) -> Vec<Place> {
        let gone: Vec<_> =
            self.messages.iter().filter(|(_, live)| live.phase != Phase::Dead).map(|(id, _)| *id).collect();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn detach(&mut self, id: MessageId) {
        let Some(live) = self.messages.get(&id) else { return };
        match live.phase {
            Phase::Ready => drop(self.ready.remove(&(Rank::new(live.priority, live.due), id))),
            Phase::Delayed => drop(self.delayed.remove(&(live.due, id))),
            Phase::Dead => drop(self.dead.remove(&id)),
            Phase::Leased => {
                if let Some(lease) = self.leased.remove(&id) {
                    self.leases.remove(&(lease.expires, id));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(due: Millis) -> CopyState {
        CopyState { due, retries: 0, dead: None }
    }

    #[test]
    fn delivery_is_by_priority_then_due_time_then_id() {
        let mut queue = Queue::new(1, "q".to_owned());
        for (id, priority, due) in [(1, 0, 10), (2, 5, 30), (3, 5, 20), (4, 5, 20), (5, 9, 99)] {
            queue.insert(MessageId(id), Live::new(Place::default(), priority, 0), state(due), 50);
        }
        let order: Vec<_> = queue.next_ready().map(|id| id.0).collect();
        assert_eq!(order, [3, 4, 2, 1]);
        assert_eq!(queue.next_change(), Some(99));
        assert!(queue.advance(99));
        assert_eq!(queue.first_ready(), Some(MessageId(5)));
        queue.paused = true;
        assert_eq!(queue.first_ready(), None);
    }

    #[test]
    fn each_message_stands_in_one_place() {
        let mut queue = Queue::new(1, "q".to_owned());
        let id = MessageId(7);
        queue.insert(id, Live::new(Place::default(), 0, 0), state(0), 1);
        queue.set_lease(id, Lease { number: 3, expires: 40 }, 0);
        assert_eq!(
            (queue.first_ready(), queue.first_expired(39), queue.first_expired(40)),
            (None, None, Some((id, 40)))
        );
        queue.set_lease(id, Lease { number: 3, expires: 90 }, 0);
        assert_eq!((queue.first_expired(40), queue.counts().leased), (None, 1));
        queue.set(id, CopyState { due: 0, retries: 6, dead: Some("poison".to_owned()) }, 1);
        assert_eq!(queue.counts(), Counts { dead: 1, ..Counts::default() });
        assert_eq!(queue.length(), 0);
        assert!(queue.purge().is_empty());
        queue.set(id, state(5), 1);
        assert_eq!(queue.counts(), Counts { delayed: 1, ..Counts::default() });
        assert_eq!(queue.purge().len(), 1);
        assert_eq!(queue.counts(), Counts::default());
    }
}
