//! The calls of one connection that outlived their first poll, driven by the connection's task: no task, no timer and no lock
//! for each of them. A task, its timer and its entry in a table cost about half of what a server spends on such a call.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::job::{Outbox, PoolJob, Returned};
use crate::{
    Code,
    buffer::FrameBuf,
    server::{
        call::{Parked, overdue},
        handoff::Bell,
        pool::Ticket,
    },
    service::reply::ResponseForm,
};

/// Deadlines are looked at this often at least; a table that nobody used since gives its memory back then.
const LONGEST: Duration = Duration::from_secs(10);

/// Slots for calls, each with a waker that outlives its calls: a stale wake causes one spurious poll of the next call.
pub(in crate::server) struct Slots {
    outbox: Arc<Outbox>,
    slots: Vec<Slot>,
    /// The id of each slot's call; 0 when the slot is free, or its call is not wanted any more.
    ids: Vec<u64>,
    free: Vec<u32>,
    /// Slots whose calls are to be polled.
    pub(in crate::server) ready: VecDeque<u32>,
    /// No deadline is earlier.
    earliest: Option<Instant>,
    /// Number of calls on pools.
    away: usize,
    /// Bytes of the requests of all calls.
    bytes: usize,
}

struct Slot {
    alarm: Arc<Alarm>,
    waker: Waker,
    state: State,
}

enum State {
    Free,
    Here(Parked),
    /// On a pool. `woken`: it is to be polled again when it comes back.
    Away {
        ticket: Ticket<PoolJob>,
        form: ResponseForm,
        deadline: Instant,
        bytes: usize,
        woken: bool,
    },
}

/// Wakes the call of one slot.
pub(in crate::server) struct Alarm {
    slot: u32,
    outbox: Arc<Outbox>,
    bell: Bell,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.bell.ring() {
            self.outbox.wake(self.slot);
        }
    }
}

impl Slots {
    pub(in crate::server) fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            slots: Vec::new(),
            ids: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            earliest: None,
            away: 0,
            bytes: 0,
        }
    }

    /// Number of calls.
    #[inline]
    pub(in crate::server) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Number of calls on pools.
    pub(in crate::server) fn away(&self) -> usize {
        self.away
    }

    /// Bytes of the requests of all calls.
    #[inline]
    pub(in crate::server) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waker of the call that [`park`](Self::park) is called with next, if that is known already.
    #[inline]
    pub(in crate::server) fn next_waker(&self) -> Option<&Waker> {
        let slot = *self.free.last()?;
        Some(&self.slots[slot as usize].waker)
    }

    /// Takes a call that was polled with the next waker, if there was one. Returns its slot.
    pub(in crate::server) fn park(&mut self, parked: Parked) -> u32 {
        let (id, deadline) = (parked.call.form().id, parked.deadline);
        self.bytes += parked.call.bytes();
        self.earliest = Some(match self.earliest {
            Some(earliest) => earliest.min(deadline),
            None => deadline.min(Instant::now() + LONGEST),
        });
        if let Some(slot) = self.free.pop() {
            self.ids[slot as usize] = id;
            self.slots[slot as usize].state = State::Here(parked);
            return slot;
        }
        let slot = self.slots.len() as u32;
        // Nobody knows its waker yet: it is polled once more.
        let alarm = Arc::new(Alarm { slot, outbox: self.outbox.clone(), bell: Bell::new(true) });
        self.slots.push(Slot { waker: alarm.clone().into(), alarm, state: State::Here(parked) });
        self.ids.push(id);
        self.ready.push_back(slot);
        slot
    }

    /// The next slot whose call is to be polled here. A call that is away is polled when it comes back.
    pub(in crate::server) fn next_ready(&mut self) -> Option<u32> {
        loop {
            let next = self.ready.pop_front().or_else(|| {
                self.outbox.take_woken(&mut self.ready);
                self.ready.pop_front()
            })?;
            let Some(slot) = self.slots.get_mut(next as usize) else { continue };
            slot.alarm.bell.reset();
            match &mut slot.state {
                State::Here(_) => return Some(next),
                State::Away { woken, .. } => *woken = true,
                State::Free => {}
            }
        }
    }

    /// The call of a slot, if it is here, and its waker.
    pub(in crate::server) fn get(&mut self, slot: u32) -> Option<(&mut Parked, &Waker)> {
        let Slot { waker, state, .. } = self.slots.get_mut(slot as usize)?;
        match state {
            State::Here(parked) => Some((parked, waker)),
            State::Free | State::Away { .. } => None,
        }
    }

    /// Sends the call of a slot to a pool.
    pub(in crate::server) fn send_away(&mut self, slot: u32, submit: impl FnOnce(PoolJob) -> Ticket<PoolJob>) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Here(parked) => {
                let (form, deadline, bytes) = (parked.call.form(), parked.deadline, parked.call.bytes());
                let (waker, outbox) = (entry.waker.clone(), self.outbox.clone());
                let ticket = submit(PoolJob { slot, parked, waker, outbox });
                entry.state = State::Away { ticket, form, deadline, bytes, woken: false };
                self.away += 1;
            }
            other => entry.state = other,
        }
    }

    /// Takes a call back from a pool. Its answer is appended to `out`, unless nobody wants it any more.
    pub(in crate::server) fn come_back(&mut self, returned: Returned, now: Instant, out: &mut FrameBuf) {
        let Returned { slot, mut parked, polled, mut answer } = returned;
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        let State::Away { woken, bytes, .. } = entry.state else { return };
        self.away -= 1;
        let wanted = self.ids[slot as usize] != 0;
        if wanted && answer.is_none() {
            entry.state = State::Here(parked);
            // A call that found no room for its answer is polled when there is some.
            if woken || !polled {
                self.ready.push_back(slot);
            }
            return;
        }
        entry.state = State::Free;
        self.give_up(slot, bytes);
        match wanted {
            true => parked.measure(now),
            false if parked.deadline <= now => parked.measure_as(Code::DeadlineExceeded, now),
            false => parked.measure_as(Code::Cancelled, now),
        }
        parked.call.release();
        drop_quietly(parked);
        if wanted && let Some(answer) = &mut answer {
            out.append(answer);
        }
    }

    /// Takes the call of a slot, if it is here; the slot is free again.
    pub(in crate::server) fn take(&mut self, slot: u32) -> Option<Parked> {
        let entry = self.slots.get_mut(slot as usize)?;
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Here(parked) => {
                let bytes = parked.call.bytes();
                self.give_up(slot, bytes);
                Some(parked)
            }
            other => {
                entry.state = other;
                None
            }
        }
    }

    fn give_up(&mut self, slot: u32, bytes: usize) {
        self.ids[slot as usize] = 0;
        self.free.push(slot);
        self.bytes -= bytes;
    }

    /// Ends the call of a slot without an answer of its own. A call that is being polled on a pool keeps its slot until it comes back.
    fn end(&mut self, slot: u32, code: Code) {
        self.ids[slot as usize] = 0;
        if let State::Away { ticket, bytes, .. } = &self.slots[slot as usize].state {
            let bytes = *bytes;
            if let Some(job) = ticket.recall() {
                self.slots[slot as usize].state = State::Free;
                self.away -= 1;
                self.give_up(slot, bytes);
                job.parked.measure_as(code, Instant::now());
                drop_quietly(job.parked);
            }
        } else if let Some(parked) = self.take(slot) {
            parked.measure_as(code, Instant::now());
            drop_quietly(parked);
        }
    }

    /// Ends a call, if it is here or away.
    pub(in crate::server) fn cancel(&mut self, id: u64) {
        if id != 0
            && let Some(slot) = self.ids.iter().position(|known| *known == id)
        {
            self.end(slot as u32, Code::Cancelled);
        }
    }

    /// Ends all calls.
    pub(in crate::server) fn cancel_all(&mut self) {
        for slot in 0..self.slots.len() {
            if self.ids[slot] != 0 {
                self.end(slot as u32, Code::Cancelled);
            }
        }
    }

    /// Time at which to call [`expire`](Self::expire).
    #[inline]
    pub(in crate::server) fn next_timeout(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the calls whose deadlines have passed at `now`; their answers say so.
    pub(in crate::server) fn expire(&mut self, now: Instant, out: &mut FrameBuf) {
        let mut next = now + LONGEST;
        for slot in 0..self.slots.len() {
            let (deadline, form) = match &self.slots[slot].state {
                State::Here(parked) => (parked.deadline, parked.call.form()),
                State::Away { deadline, form, .. } => (*deadline, *form),
                State::Free => continue,
            };
            if self.ids[slot] == 0 {
                continue;
            }
            if deadline > now {
                next = next.min(deadline);
                continue;
            }
            form.status(&overdue(), out);
            self.end(slot as u32, Code::DeadlineExceeded);
        }
        if self.count() == 0 {
            self.rest();
        } else {
            self.earliest = Some(next);
        }
    }

    /// Gives all memory back.
    fn rest(&mut self) {
        let outbox = self.outbox.clone();
        *self = Self::new(outbox);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

/// User code that panics when it is dropped ends no connection.
fn drop_quietly(parked: Parked) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(parked)));
}
