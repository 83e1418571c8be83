//! The calls that wait for an answer on one connection. Pure: no socket, no clock.
//!
//! A call's id is `(sequence << 20) | slot`. An answer finds its slot by the low bits and must match the whole id, so a
//! late answer never reaches the call that uses the slot now.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::frame::SLOT_BITS;

/// How a call was settled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled<A> {
    Answer(A),
    /// Its deadline passed.
    Overdue,
    /// The connection ended. `sent`: the request had left.
    Lost {
        sent: bool,
    },
    /// The server said that it will not execute it.
    NotTaken,
}

#[derive(Debug)]
pub(crate) struct InFlight<A> {
    slots: Vec<Slot<A>>,
    /// The head of the list of free slots.
    free: Option<u32>,
    sequence: u64,
    len: usize,
    /// The slots of calls whose time has not begun.
    new: Vec<u32>,
    /// No deadline is earlier than this.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Slot<A> {
    id: u64,
    due: Due,
    state: State<A>,
}

/// When a call is overdue. One reading of the clock begins the time of all calls that leave together.
#[derive(Clone, Copy, Debug)]
enum Due {
    In(Duration),
    At(Times),
}

/// Times of a call whose request has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
}

#[derive(Debug)]
enum State<A> {
    Free { next: Option<u32> },
    Waiting(Waker),
    Settled(Settled<A>),
}

impl<A> Default for InFlight<A> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: None, sequence: 0, len: 0, new: Vec::new(), earliest: None }
    }
}

impl<A> InFlight<A> {
    /// The most calls that it holds: ids have no room for more.
    pub(crate) const MOST: usize = 1 << SLOT_BITS;

    /// Number of calls that have a slot.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns true if the time of some calls has not begun.
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// The time of all new calls begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        // Most calls have the timeout of the call before.
        let (mut last, mut times) = (None, Times { began: now, deadline: now });
        for index in self.new.drain(..) {
            if let Some(slot) = self.slots.get_mut(index as usize)
                && let Due::In(timeout) = slot.due
            {
                if last.replace(timeout) != Some(timeout) {
                    times.deadline = now + timeout;
                    self.earliest = Some(self.earliest.map_or(times.deadline, |earliest| earliest.min(times.deadline)));
                }
                slot.due = Due::At(times);
            }
        }
    }

    /// No deadline is earlier; `None` when nothing has one.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// No call has a higher id.
    pub(crate) fn last_id(&self) -> u64 {
        // Every slot is below this sequence's next id.
        (self.sequence << SLOT_BITS) | (Self::MOST as u64 - 1)
    }

    /// Gives a call a slot and its id. The caller has seen to it that fewer than [`Self::MOST`] are held. Its time begins
    /// with the next [`begin`](Self::begin).
    #[inline]
    pub(crate) fn insert(&mut self, timeout: Duration, waker: Waker) -> u64 {
        self.sequence += 1;
        self.len += 1;
        let (state, due) = (State::Waiting(waker), Due::In(timeout));
        let index = match self.free {
            Some(index) => index,
            None => self.slots.len() as u32,
        };
        let id = (self.sequence << SLOT_BITS) | u64::from(index);
        self.new.push(index);
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                if let State::Free { next } = slot.state {
                    self.free = next;
                }
                *slot = Slot { id, due, state };
            }
            None => self.slots.push(Slot { id, due, state }),
        }
        id
    }

    /// Settles the call with this id; returns its waker, unless no caller waits for it any more.
    #[inline]
    pub(crate) fn complete(&mut self, id: u64, answer: A) -> Option<Waker> {
        let slot = self.slots.get_mut(index(id)).filter(|slot| slot.id == id)?;
        slot.settle(Settled::Answer(answer))
    }

    /// Times of a call, if its time has begun.
    pub(crate) fn times(&self, id: u64) -> Option<Times> {
        self.slots.get(index(id)).filter(|slot| slot.id == id)?.times()
    }

    /// Returns how the call was settled, and its times, and frees its slot; or leaves a waker.
    #[inline(always)]
    pub(crate) fn poll(&mut self, id: u64, waker: &Waker) -> Poll<(Settled<A>, Option<Times>)> {
        let lost = Poll::Ready((Settled::Lost { sent: true }, None));
        let Some(slot) = self.slots.get_mut(index(id)).filter(|slot| slot.id == id) else { return lost };
        if let State::Waiting(known) = &mut slot.state {
            known.clone_from(waker);
            return Poll::Pending;
        }
        let times = slot.times();
        match self.free(id) {
            Some(State::Settled(settled)) => Poll::Ready((settled, times)),
            _ => lost,
        }
    }

    /// Forgets a call; true when it was still unsettled.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        matches!(self.free(id), Some(State::Waiting(_)))
    }

    /// Settles the calls that are overdue at `now`; returns their wakers, and when the time of the oldest began.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let (mut woken, mut oldest) = (Vec::new(), None::<Instant>);
        self.earliest = None;
        for slot in &mut self.slots {
            match (&slot.state, slot.due) {
                (State::Waiting(_), Due::At(Times { began, deadline })) if deadline <= now => {
                    woken.extend(slot.settle(Settled::Overdue));
                    oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
                }
                (State::Waiting(_), Due::At(Times { deadline, .. })) => {
                    self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
                }
                _ => {}
            }
        }
        (woken, oldest)
    }

    /// Settles every waiting call that `how` has an end for; returns their wakers.
    pub(crate) fn settle_all(&mut self, how: impl Fn(u64) -> Option<Settled<A>>) -> Vec<Waker> {
        let settle = |slot: &mut Slot<A>| match slot.state {
            State::Waiting(_) => slot.settle(how(slot.id)?),
            _ => None,
        };
        self.slots.iter_mut().filter_map(settle).collect()
    }

    #[inline]
    fn free(&mut self, id: u64) -> Option<State<A>> {
        let index = index(id);
        let slot = self.slots.get_mut(index).filter(|slot| slot.id == id)?;
        let state = std::mem::replace(&mut slot.state, State::Free { next: self.free });
        slot.id = 0;
        self.free = Some(index as u32);
        self.len -= 1;
        Some(state)
    }
}

impl<A> Slot<A> {
    #[inline]
    fn times(&self) -> Option<Times> {
        match self.due {
            Due::At(times) => Some(times),
            Due::In(_) => None,
        }
    }

    fn settle(&mut self, settled: Settled<A>) -> Option<Waker> {
        match std::mem::replace(&mut self.state, State::Settled(settled)) {
            State::Waiting(waker) => Some(waker),
            before => {
                self.state = before;
                None
            }
        }
    }
}

fn index(id: u64) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
