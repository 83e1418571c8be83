use std::{
    sync::Arc,
    task::{Context as TaskContext, Waker},
};

use crate::{
    buffer::{FrameBuf, take_scratch},
    server::{call::Parked, handoff::Mailbox, pool::Job, stopwatch::Stopwatch},
};

/// Bound for the output that waits on one connection, in bytes: beyond it nothing is read, and methods rest before they make
/// another answer. With 1 MiB a hundred clients that do not read took 159 MiB, with 512 KiB 67 MiB.
pub(crate) const OUTPUT_LIMIT: usize = 512 << 10;

/// Mailbox of a connection's task.
pub(crate) type Outbox = Mailbox<Returned>;

/// One poll of a call on a pool.
pub(crate) struct PoolJob {
    pub(super) slot: u32,
    pub(super) parked: Parked,
    pub(super) waker: Waker,
    pub(super) outbox: Arc<Outbox>,
}

/// A call that comes back from a pool.
pub(crate) struct Returned {
    pub(super) slot: u32,
    pub(super) parked: Parked,
    pub(super) polled: bool,
    /// Its response, if it is ready.
    pub(super) answer: Option<FrameBuf>,
}

impl Job for PoolJob {
    fn run(self) {
        let Self { slot, mut parked, waker, outbox } = self;
        if !outbox.has_room(OUTPUT_LIMIT) {
            outbox.give_back(Returned { slot, parked, polled: false, answer: None }, 0);
            return;
        }
        let Parked { call, route, .. } = &mut parked;
        let pace = if call.is_begun() { &route.later_pace } else { &route.pace };
        let mut out = take_scratch();
        let watch = Stopwatch::of_thread();
        let polled = call.poll(route, &mut TaskContext::from_waker(&waker), &mut out);
        pace.observe(&watch.spent());
        let answer = polled.is_ready().then_some(out);
        let bytes = answer.as_ref().map_or(0, FrameBuf::len);
        outbox.give_back(Returned { slot, parked, polled: true, answer }, bytes);
    }
}
