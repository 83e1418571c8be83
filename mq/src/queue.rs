//! One queue: ready, delayed and leased messages, and dead letters. Pure: time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    batch::Place,
    message::{MessageId, Millis},
    record::{CopyState, TopicNumber},
    sorted::{self, Sorted},
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
    letters: Letters,
    /// Ends of the messages that have a time to live.
    ends: HashMap<MessageId, Millis>,
    /// Ends of messages that are not leased, in order.
    ending: BTreeSet<(Millis, MessageId)>,
    /// Pushed, and not durable yet.
    pub(crate) pending: u64,
    /// The last id that a purge covered, of messages that were not durable yet.
    pub(crate) purged: MessageId,
    pub(crate) pushed: u64,
    pub(crate) popped: u64,
    pub(crate) acked: u64,
    /// Failed deliveries; and those of them that were a message's last.
    pub(crate) failed: u64,
    pub(crate) died: u64,
    /// Dead letters that were removed because of their number or age.
    pub(crate) dropped: u64,
    /// Messages whose time to live ended.
    pub(crate) outlived: u64,
}

/// Dead letters of a queue.
#[derive(Debug, Default)]
struct Letters {
    by_id: BTreeMap<MessageId, Letter>,
    /// Dead letters without a lease, by the time of death.
    free: BTreeSet<(Millis, MessageId)>,
    /// Leases by their ends.
    leases: BTreeSet<(Millis, MessageId)>,
    /// Bytes of all reasons.
    reasons: u64,
}

#[derive(Debug)]
struct Letter {
    live: Live,
    reason: String,
    lease: Option<Lease>,
}

/// A message in a queue. There may be millions: it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) place: Place,
    /// The due time; of a dead letter, the time of death.
    pub(crate) due: Millis,
    /// In milliseconds; 0: the topic's.
    pub(crate) ttr: u32,
    /// Failed deliveries.
    pub(crate) retries: u16,
    pub(crate) priority: u8,
    phase: Phase,
}

/// Priority, falling, and then due time, rising, in one number: half of what two take among millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    /// Enough for two million years.
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
}

/// One delivery that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) number: u64,
    pub(crate) expires: Millis,
}

/// A message's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    Delayed,
    Leased(Lease),
    Dead(String),
}

/// Messages of each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
}

/// Messages that were taken out of a queue all at once. Their places are released in steps.
#[derive(Debug)]
pub(crate) struct Discarded {
    messages: sorted::Entries<MessageId, Live>,
    letters: std::collections::btree_map::IntoValues<MessageId, Letter>,
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
}

impl Iterator for Discarded {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let message = self.messages.next().map(|(_, live)| live.place);
        message.or_else(|| self.letters.next().map(|letter| letter.live.place))
    }
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
            letters: Letters::default(),
            ends: HashMap::new(),
            ending: BTreeSet::new(),
            pending: 0,
            purged: MessageId(0),
            pushed: 0,
            popped: 0,
            acked: 0,
            failed: 0,
            died: 0,
            dropped: 0,
            outlived: 0,
        }
    }

    /// Ready, delayed and leased messages, and those that are not durable yet.
    pub(crate) fn length(&self) -> u64 {
        self.messages.len() as u64 + self.pending
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.len() as u64,
            delayed: self.delayed.len() as u64,
            leased: self.leased.len() as u64,
            dead: self.dead(),
        }
    }

    pub(crate) fn dead(&self) -> u64 {
        self.letters.by_id.len() as u64
    }

    /// Bytes of reasons, and the number of leases: what copies of the messages have and the messages may not have.
    pub(crate) fn additions(&self) -> (u64, u64) {
        (self.letters.reasons, (self.leased.len() + self.letters.leases.len()) as u64)
    }

    pub(crate) fn get(&self, id: MessageId) -> Option<&Live> {
        self.messages.get(&id).or_else(|| self.letters.by_id.get(&id).map(|letter| &letter.live))
    }

    pub(crate) fn lease(&self, id: MessageId) -> Option<Lease> {
        self.leased.get(&id).copied().or_else(|| self.letters.by_id.get(&id)?.lease)
    }

    pub(crate) fn dead_reason(&self, id: MessageId) -> Option<&str> {
        self.letters.by_id.get(&id).map(|letter| letter.reason.as_str())
    }

    pub(crate) fn standing(&self, id: MessageId) -> Option<Standing> {
        if let Some(reason) = self.dead_reason(id) {
            return Some(Standing::Dead(reason.to_owned()));
        }
        Some(match self.messages.get(&id)?.phase {
            Phase::Ready => Standing::Ready,
            Phase::Delayed => Standing::Delayed,
            Phase::Leased => Standing::Leased(self.leased.get(&id).copied()?),
        })
    }

    /// All ids above `after`, rising.
    pub(crate) fn ids_after(&self, after: MessageId) -> impl Iterator<Item = MessageId> {
        let mut messages = self.messages.above(after).map(|(id, _)| *id).peekable();
        let mut dead = self.dead_after(after).peekable();
        std::iter::from_fn(move || match (messages.peek(), dead.peek()) {
            (Some(message), Some(letter)) if letter < message => dead.next(),
            (None, _) => dead.next(),
            _ => messages.next(),
        })
    }

    /// The dead letters above `after`, rising.
    pub(crate) fn dead_after(&self, after: MessageId) -> impl Iterator<Item = MessageId> {
        let above = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.letters.by_id.range(above).map(|(id, _)| *id)
    }

    /// The dead letters without a lease, with the time of death, the oldest death first.
    pub(crate) fn free_letters(&self) -> impl Iterator<Item = (Millis, MessageId)> {
        self.letters.free.iter().copied()
    }

    /// Returns true if it is a dead letter without a lease.
    pub(crate) fn is_free_letter(&self, id: MessageId) -> bool {
        self.letters.by_id.get(&id).is_some_and(|letter| letter.lease.is_none())
    }

    /// Adds a message, or replaces its copy; returns the place of the one replaced.
    pub(crate) fn insert(&mut self, id: MessageId, live: Live, state: CopyState, now: Millis) -> Option<Place> {
        let before = self.remove(id);
        self.put(id, live, state, now);
        before
    }

    /// Gives a message of this queue an end. `None` takes it away.
    pub(crate) fn set_end(&mut self, id: MessageId, end: Option<Millis>) {
        if let Some(before) = self.ends.remove(&id) {
            self.ending.remove(&(before, id));
        }
        let Some(end) = end else { return };
        let Some(live) = self.messages.get(&id) else { return };
        self.ends.insert(id, end);
        if live.phase != Phase::Leased {
            self.ending.insert((end, id));
        }
    }

    /// The end of a message's time to live.
    pub(crate) fn end(&self, id: MessageId) -> Option<Millis> {
        self.ends.get(&id).copied()
    }

    /// A message that is not leased and whose time to live has ended, and when.
    pub(crate) fn first_outlived(&self, now: Millis) -> Option<(MessageId, Millis)> {
        self.ending.first().filter(|(end, _)| *end <= now).map(|(end, id)| (*id, *end))
    }

    /// The oldest message that is no dead letter.
    pub(crate) fn oldest(&self) -> Option<MessageId> {
        self.messages.first().copied()
    }

    /// Changes a message's priority.
    pub(crate) fn set_priority(&mut self, id: MessageId, priority: u8) {
        let Some(live) = self.messages.get_mut(&id) else {
            if let Some(letter) = self.letters.by_id.get_mut(&id) {
                letter.live.priority = priority;
            }
            return;
        };
        let before = std::mem::replace(&mut live.priority, priority);
        let (phase, due) = (live.phase, live.due);
        if phase == Phase::Ready {
            self.ready.remove(&(Rank::new(before, due), id));
            self.ready.insert((Rank::new(priority, due), id), ());
        }
    }

    /// Adds a message that was never here, or is not here now.
    pub(crate) fn push(&mut self, id: MessageId, mut live: Live, due: Millis, now: Millis) {
        if let Some(end) = self.ends.get(&id) {
            self.ending.insert((*end, id));
        }
        live.due = due;
        if due <= now {
            live.phase = Phase::Ready;
            self.ready.insert((Rank::new(live.priority, due), id), ());
        } else {
            live.phase = Phase::Delayed;
            self.delayed.insert((due, id));
        }
        self.messages.insert(id, live);
    }

    /// Notes the place of a copy of the message; its state stays.
    pub(crate) fn moved(&mut self, id: MessageId, place: Place) {
        let live = self.messages.get_mut(&id);
        if let Some(live) = live.or_else(|| self.letters.by_id.get_mut(&id).map(|letter| &mut letter.live)) {
            live.place = place;
        }
    }

    /// Takes a message out, wherever it stands; returns its place.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Place> {
        let taken = self.take(id);
        self.ends.remove(&id);
        taken.map(|live| live.place)
    }

    /// Puts a message where `state` says. Ends its lease.
    pub(crate) fn set(&mut self, id: MessageId, state: CopyState, now: Millis) {
        if let Some(live) = self.take(id) {
            self.put(id, live, state, now);
        }
    }

    fn put(&mut self, id: MessageId, mut live: Live, state: CopyState, now: Millis) {
        live.retries = state.retries;
        let Some(reason) = state.dead else { return self.push(id, live, state.due, now) };
        // A dead letter that is made ready again lives on.
        self.ends.remove(&id);
        live.due = state.due;
        self.letters.reasons += reason.len() as u64;
        self.letters.free.insert((live.due, id));
        self.letters.by_id.insert(id, Letter { live, reason, lease: None });
    }

    fn take(&mut self, id: MessageId) -> Option<Live> {
        self.detach(id);
        self.messages.remove(&id).or_else(|| {
            let letter = self.letters.by_id.remove(&id)?;
            self.letters.reasons -= letter.reason.len() as u64;
            self.letters.free.remove(&(letter.live.due, id));
            Some(letter.live)
        })
    }

    /// Hands a message or a dead letter out, or renews its lease.
    pub(crate) fn set_lease(&mut self, id: MessageId, lease: Lease, retries: u16) {
        self.detach(id);
        if let Some(live) = self.messages.get_mut(&id) {
            live.phase = Phase::Leased;
            live.retries = retries;
            self.leases.insert((lease.expires, id));
            self.leased.insert(id, lease);
        } else if let Some(letter) = self.letters.by_id.get_mut(&id) {
            letter.lease = Some(lease);
            self.letters.free.remove(&(letter.live.due, id));
            self.letters.leases.insert((lease.expires, id));
        }
    }

    /// The next message to deliver.
    pub(crate) fn first_ready(&self) -> Option<MessageId> {
        if self.paused {
            return None;
        }
        self.ready.first().map(|(_, id)| *id)
    }

    /// The next messages to deliver, paused or not.
    pub(crate) fn next_ready(&self) -> impl Iterator<Item = MessageId> {
        self.ready.iter().map(|((_, id), ())| *id)
    }

    /// Moves what has become due, and frees dead letters whose leases have ended: at most `most`. Returns how many.
    pub(crate) fn advance(&mut self, now: Millis, most: usize) -> usize {
        let mut moved = 0;
        while moved < most
            && let Some((due, id)) = self.delayed.first().copied().filter(|(due, _)| *due <= now)
        {
            self.delayed.remove(&(due, id));
            moved += 1;
            if let Some(live) = self.messages.get_mut(&id) {
                live.phase = Phase::Ready;
                self.ready.insert((Rank::new(live.priority, due), id), ());
            }
        }
        while moved < most
            && let Some((_, id)) = self.letters.leases.first().copied().filter(|(expires, _)| *expires <= now)
        {
            moved += 1;
            self.detach(id);
        }
        moved
    }

    /// A message whose lease has ended, and when it did.
    pub(crate) fn first_expired(&self, now: Millis) -> Option<(MessageId, Millis)> {
        self.leases.first().filter(|(expires, _)| *expires <= now).map(|(expires, id)| (*id, *expires))
    }

    /// The next time at which a message becomes ready by itself.
    pub(crate) fn next_change(&self) -> Option<Millis> {
        let due = self.delayed.first().map(|(due, _)| *due);
        let expires = self.leases.first().map(|(expires, _)| *expires);
        due.into_iter().chain(expires).min()
    }

    /// Takes everything out but the dead letters.
    pub(crate) fn purge(&mut self) -> Discarded {
        let messages = std::mem::replace(&mut self.messages, Sorted::new());
        let times =
            [&mut self.delayed, &mut self.leases, &mut self.ending].map(|times| Index::Times(std::mem::take(times)));
        let mut indexes = Vec::from(times);
        indexes.push(Index::Ready(std::mem::replace(&mut self.ready, Sorted::new())));
        indexes.push(Index::Leased(std::mem::take(&mut self.leased)));
        indexes.push(Index::Ends(std::mem::take(&mut self.ends)));
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

    /// Takes a message out of the index of its standing; of a dead letter, ends the lease.
    fn detach(&mut self, id: MessageId) {
        let Some(live) = self.messages.get(&id) else {
            if let Some(letter) = self.letters.by_id.get_mut(&id)
                && let Some(lease) = letter.lease.take()
            {
                self.letters.leases.remove(&(lease.expires, id));
                self.letters.free.insert((letter.live.due, id));
            }
            return;
        };
        if let Some(end) = self.ends.get(&id) {
            self.ending.remove(&(*end, id));
        }
        match live.phase {
            Phase::Ready => drop(self.ready.remove(&(Rank::new(live.priority, live.due), id))),
            Phase::Delayed => drop(self.delayed.remove(&(live.due, id))),
            Phase::Leased => {
                if let Some(lease) = self.leased.remove(&id) {
                    self.leases.remove(&(lease.expires, id));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
