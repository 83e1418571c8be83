//! The calls that wait, driven by the connection's task: no task, no timer and no lock for each of them.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Mailbox,
    calls::{Call, overdue},
};
use crate::{buffer::FrameBuf, server::load::Load};

/// Deadlines are looked at this often at least; places that nobody has used since are given back then.
const LONGEST: Duration = Duration::from_secs(10);

/// The calls of one connection that wait. Each has a place, and each place a waker that outlives its calls: who wakes a call
/// of before makes the next one be polled in vain.
pub(super) struct Waiting {
    mailbox: Arc<Mailbox>,
    /// Counts them, over all connections.
    load: Arc<Load>,
    places: Vec<Place>,
    /// For each place the id of its call; 0 when it is free.
    ids: Vec<u64>,
    free: Vec<u32>,
    /// Places whose calls go on.
    ready: VecDeque<u32>,
    /// Set to the earliest deadline, or to one before it.
    timer: Option<Pin<Box<Sleep>>>,
}

struct Place {
    alarm: Arc<Alarm>,
    waker: Waker,
    call: Option<(Call, Instant)>,
}

/// Wakes the call of one place.
struct Alarm {
    place: u32,
    mailbox: Arc<Mailbox>,
    /// It is among those that go on.
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.mailbox.wake(self.place);
        }
    }
}

impl Waiting {
    pub(super) fn new(mailbox: Arc<Mailbox>, load: Arc<Load>) -> Self {
        Self {
            mailbox,
            load,
            places: Vec::new(),
            ids: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            timer: None,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// What wakes the call that [`put`](Self::put) is called with next, if that is known already.
    pub(super) fn next_waker(&self) -> Option<&Waker> {
        let place = *self.free.last()?;
        Some(&self.places[place as usize].waker)
    }

    /// Takes a call that was polled, with the next waker if there was one.
    pub(super) fn put(&mut self, call: Call, deadline: Instant) {
        let id = call.form.id;
        self.load.enter();
        match &mut self.timer {
            Some(timer) if timer.deadline() <= deadline => {}
            Some(timer) => timer.as_mut().reset(deadline),
            none => *none = Some(Box::pin(sleep_until(deadline.min(Instant::now() + LONGEST)))),
        }
        if let Some(place) = self.free.pop() {
            self.ids[place as usize] = id;
            self.places[place as usize].call = Some((call, deadline));
            return;
        }
        let place = self.places.len() as u32;
        let alarm = Arc::new(Alarm { place, mailbox: self.mailbox.clone(), rung: AtomicBool::new(true) });
        self.places.push(Place { waker: alarm.clone().into(), alarm, call: Some((call, deadline)) });
        self.ids.push(id);
        // Nobody knows its waker yet.
        self.ready.push_back(place);
    }

    /// Where the places that go on are added.
    pub(super) fn ready(&mut self) -> &mut VecDeque<u32> {
        &mut self.ready
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next place whose call goes on.
    pub(super) fn next_ready(&mut self) -> Option<u32> {
        let next = self.ready.pop_front().or_else(|| {
            self.mailbox.take_ready(&mut self.ready);
            self.ready.pop_front()
        })?;
        if let Some(place) = self.places.get(next as usize) {
            place.alarm.rung.store(false, Ordering::Release);
        }
        Some(next)
    }

    /// The call of a place, if there is one, and its waker.
    pub(super) fn get(&mut self, place: u32) -> Option<(&mut Call, &Waker)> {
        let Place { waker, call, .. } = self.places.get_mut(place as usize)?;
        let (call, _) = call.as_mut()?;
        Some((call, waker))
    }

    /// Gives up a place; returns its call with its deadline.
    pub(super) fn take(&mut self, place: u32) -> Option<(Call, Instant)> {
        let call = self.places.get_mut(place as usize)?.call.take()?;
        self.ids[place as usize] = 0;
        self.free.push(place);
        self.load.leave();
        Some(call)
    }

    /// Drops a call, if it waits.
    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(place) = self.ids.iter().position(|there| *there == id) {
            drop_quietly(self.take(place as u32));
        }
    }

    pub(super) fn cancel_all(&mut self) {
        for place in 0..self.places.len() as u32 {
            drop_quietly(self.take(place));
        }
    }

    /// Ends the calls whose time is over.
    pub(super) fn poll_deadlines(&mut self, cx: &mut TaskContext<'_>, out: &mut FrameBuf) {
        while self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            let now = Instant::now();
            let mut next = now + LONGEST;
            for place in 0..self.places.len() as u32 {
                let Some((call, deadline)) = &self.places[place as usize].call else { continue };
                if *deadline > now {
                    next = next.min(*deadline);
                    continue;
                }
                call.form.status(&overdue(), out);
                drop_quietly(self.take(place));
            }
            if self.count() == 0 {
                self.rest();
            } else if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(next);
            }
        }
    }

    /// Gives everything back.
    fn rest(&mut self) {
        self.timer = None;
        (self.places, self.ids, self.free) = (Vec::new(), Vec::new(), Vec::new());
        self.ready = VecDeque::new();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

/// What the user's code does when it is dropped ends no connection.
fn drop_quietly(call: Option<(Call, Instant)>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
}
