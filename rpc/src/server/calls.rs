//! The calls of one connection: admitted by their heads, polled in place, parked in slots while they wait, and sent to a pool
//! when they compute or block.

mod admit;
mod batch;
mod job;
mod slots;
mod timing;

use std::{
    sync::Arc,
    task::{Context as TaskContext, Waker},
};

use tokio::time::Instant;

use super::{Shared, call::Parked, limit::Ticker, pace::Threads};
use crate::{
    Peer, Status,
    buffer::FrameBuf,
    proto::{ClientHello, Frame},
};
use batch::Batch;
use slots::Slots;

pub(super) use admit::{Admitted, Admitter};
pub(crate) use job::{OUTPUT_LIMIT, Outbox, PoolJob, Returned};
pub(super) use timing::Timing;

pub(super) struct Calls {
    admitter: Admitter,
    slots: Slots,
    timing: Timing,
    batch: Batch,
    /// Time at which the turn began: one reading of the clock serves all that arrived together.
    now: Instant,
}

impl Calls {
    pub(super) fn new(peer: Peer, outbox: Arc<Outbox>) -> Self {
        let (slots, timing) = (Slots::new(outbox), Timing::default());
        Self { admitter: Admitter::new(peer), slots, timing, batch: Batch::default(), now: Instant::now() }
    }

    pub(super) fn set_hello(&mut self, hello: ClientHello, shared: &Shared) {
        self.admitter.set_hello(hello, shared);
    }

    /// The peer, as far as it is known.
    pub(super) fn peer(&self) -> &Peer {
        self.admitter.peer()
    }

    /// The peer is authenticated.
    pub(super) fn set_principal(&mut self, name: String) {
        self.admitter.set_principal(name);
    }

    /// Reads the clock: new bytes have arrived, or calls were woken.
    #[inline]
    pub(super) fn tick(&mut self, ticker: &Ticker) {
        self.now = ticker.tick();
    }

    /// Time of the last [`tick`](Self::tick).
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Number of calls without an answer.
    pub(super) fn count(&self) -> usize {
        self.slots.count()
    }

    /// Slots whose calls are to be polled.
    pub(super) fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// Number of calls that are to be polled.
    pub(super) fn ready(&self) -> usize {
        self.slots.ready.len()
    }

    /// Returns true if the answers so far should leave before another request is taken.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.timing.is_long()
    }

    /// Ends a batch. A connection that rests holds as little as it can.
    pub(super) fn end_batch(&mut self) {
        self.timing.end_batch(self.now);
        self.batch.end(self.now);
        self.admitter.rest();
    }

    /// Takes a request: its answer stands in `out` now, or comes later.
    #[inline]
    pub(super) fn take(&mut self, shared: &Shared, frame: Frame, out: &mut FrameBuf) {
        let (form, body) = (self.admitter.form(shared, &frame), frame.body.len());
        let held = (self.slots.count(), self.slots.bytes());
        let refused = match self.admitter.admit(shared, form, frame, self.now, held, &mut self.timing) {
            Ok(admitted) => return self.drive(shared, admitted, body, out),
            Err(status) => status,
        };
        form.status(&refused, out);
    }

    /// Refuses a request that came after GOAWAY.
    pub(super) fn refuse(&mut self, shared: &Shared, frame: &Frame, status: &Status, out: &mut FrameBuf) {
        self.admitter.form(shared, frame).status(status, out);
    }

    /// Polls a new call in place, unless its method belongs elsewhere or a token is awaited.
    #[inline]
    fn drive(&mut self, shared: &Shared, admitted: Admitted, bytes: usize, out: &mut FrameBuf) {
        let Admitted { mut call, deadline } = admitted;
        let Some(route) = self.admitter.route() else { return };
        let mut cx = TaskContext::from_waker(self.slots.next_waker().unwrap_or(Waker::noop()));
        let answered = if call.runs() {
            self.timing.poll_in_place(&route.pace, || call.poll(route, &mut cx, out).is_ready())
        } else {
            call.poll(route, &mut cx, out).is_ready()
        };
        if answered {
            self.batch.answered(route, call.code());
            self.admitter.keep_spare(call.into_spare());
            return;
        }
        call.hold(shared.capacity.take(bytes));
        let away = call.runs() && !call.is_begun();
        let route = route.clone();
        let slot = self.slots.park(Parked { call, route, deadline, began: self.now });
        if away {
            self.send_away(shared, slot);
        }
    }

    /// Lets a woken call go on; false when there is none. When it is answered, its response stands in `out`.
    pub(super) fn resume(&mut self, shared: &Shared, out: &mut FrameBuf) -> bool {
        let Some(slot) = self.slots.next_ready() else { return false };
        let Some((Parked { call, route, .. }, waker)) = self.slots.get(slot) else { return true };
        let mut cx = TaskContext::from_waker(waker);
        let pace = if call.is_begun() { &route.later_pace } else { &route.pace };
        let start = out.mark();
        let answered = if call.runs() {
            self.timing.poll_in_place(pace, || call.poll(route, &mut cx, out).is_ready())
        } else {
            call.poll(route, &mut cx, out).is_ready()
        };
        if answered {
            if let Some(mut parked) = self.slots.take(slot) {
                parked.measure(self.now);
                parked.call.release();
                self.admitter.keep_spare(parked.call.into_spare());
            }
        } else if out.since(start) == 0 && pace.threads() != Threads::InPlace && call.runs() {
            self.send_away(shared, slot);
        }
        true
    }

    fn send_away(&mut self, shared: &Shared, slot: u32) {
        let Some((Parked { call, route, .. }, _)) = self.slots.get(slot) else { return };
        let pace = if call.is_begun() { &route.later_pace } else { &route.pace };
        let pool = match pace.threads() {
            Threads::Blocking => &shared.blocking,
            Threads::Compute | Threads::InPlace => &shared.compute,
        };
        self.slots.send_away(slot, |job| pool.submit(job));
    }

    /// Ends a call that its caller does not want any more.
    pub(super) fn cancel(&mut self, id: u64) {
        self.slots.cancel(id);
    }

    /// Ends all calls.
    pub(super) fn cancel_all(&mut self) {
        self.slots.cancel_all();
    }
}
