//! One queue: ready, delayed and leased messages, and dead letters. Pure: time comes in as an argument.

mod discarded;
mod groups;
mod live;
mod pace;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    batch::Place,
    message::{MessageId, Millis},
    record::{CopyState, TopicNumber},
    sorted::Sorted,
};
pub(crate) use discarded::Discarded;
use groups::Groups;
pub(crate) use live::{Counts, Lease, Live, Standing};
use live::{Phase, Rank};
pub(crate) use pace::Pace;

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
    groups: Groups,
    pub(crate) pace: Pace,
    /// Pushed, and not durable yet.
    pub(crate) pending: u64,
    /// Number of the last push that a purge covered, of those that were not durable yet.
    pub(crate) purged: u64,
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
    group: Option<Arc<str>>,
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
            groups: Groups::default(),
            pace: Pace::default(),
            pending: 0,
            purged: 0,
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
        let [ready, delayed, leased] = [self.ready.len(), self.delayed.len(), self.leased.len()].map(|n| n as u64);
        let held = self.messages.len() as u64 - ready - delayed - leased;
        Counts { ready, delayed, held, leased, dead: self.dead() }
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
            Phase::Held => Standing::Held,
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

    /// Adds a message with its group, or replaces its copy; returns the place of the one replaced.
    pub(crate) fn insert(
        &mut self,
        id: MessageId,
        live: Live,
        state: CopyState,
        group: Option<&str>,
        now: Millis,
    ) -> Option<Place> {
        let before = self.remove(id);
        self.assign(id, group);
        self.put(id, live, state, now);
        before
    }

    /// Notes the group of a message that is about to be added.
    pub(crate) fn assign(&mut self, id: MessageId, group: Option<&str>) {
        if let Some(key) = group {
            self.groups.assign(id, key.into());
        }
    }

    /// The key of a message's group.
    pub(crate) fn group(&self, id: MessageId) -> Option<&str> {
        let dead = || self.letters.by_id.get(&id)?.group.as_ref();
        self.groups.key(id).or_else(dead).map(|key| &**key)
    }

    /// Returns true if messages are held until others of their group have ended.
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Messages that are leased, dead letters aside.
    pub(crate) fn leased(&self) -> u64 {
        self.leased.len() as u64
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
        live.phase = if due <= now { Phase::Ready } else { Phase::Delayed };
        if !self.groups.is_empty() {
            let (is_active, before) = self.groups.enter(id, |active| self.leased.contains_key(&active));
            before.into_iter().for_each(|before| self.set_phase(before, Phase::Held));
            if !is_active {
                live.phase = Phase::Held;
            }
        }
        match live.phase {
            Phase::Ready => drop(self.ready.insert((Rank::new(live.priority, due), id), ())),
            Phase::Delayed => drop(self.delayed.insert((due, id))),
            Phase::Leased | Phase::Held => {}
        }
        self.messages.insert(id, live);
    }

    /// Holds a message, or lets it go on: as one that is delayed, so that it is ready at the next step if it is due.
    fn set_phase(&mut self, id: MessageId, phase: Phase) {
        let Some(live) = self.messages.get_mut(&id).filter(|live| live.phase != Phase::Leased) else { return };
        let before = std::mem::replace(&mut live.phase, phase);
        let (rank, due) = (Rank::new(live.priority, live.due), live.due);
        match before {
            Phase::Ready => drop(self.ready.remove(&(rank, id))),
            Phase::Delayed => drop(self.delayed.remove(&(due, id))),
            Phase::Leased | Phase::Held => {}
        }
        if phase == Phase::Delayed {
            self.delayed.insert((due, id));
        }
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
        self.groups.forget(id);
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
        let group = self.groups.forget(id);
        self.letters.by_id.insert(id, Letter { live, reason, lease: None, group });
    }

    fn take(&mut self, id: MessageId) -> Option<Live> {
        self.detach(id);
        if let Some(live) = self.messages.remove(&id) {
            if !self.groups.is_empty()
                && let Some(next) = self.groups.leave(id)
            {
                self.set_phase(next, Phase::Delayed);
            }
            return Some(live);
        }
        let letter = self.letters.by_id.remove(&id)?;
        self.letters.reasons -= letter.reason.len() as u64;
        self.letters.free.remove(&(letter.live.due, id));
        self.assign(id, letter.group.as_deref());
        Some(letter.live)
    }

    /// Hands a message or a dead letter out, or renews its lease.
    pub(crate) fn set_lease(&mut self, id: MessageId, lease: Lease, retries: u16) {
        self.detach(id);
        if let Some(live) = self.messages.get_mut(&id) {
            live.phase = Phase::Leased;
            live.retries = retries;
            self.leases.insert((lease.expires, id));
            self.leased.insert(id, lease);
            if !self.groups.is_empty()
                && let Some(before) = self.groups.activate(id).filter(|before| !self.leased.contains_key(before))
            {
                self.set_phase(before, Phase::Held);
            }
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
            Phase::Held => {}
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
