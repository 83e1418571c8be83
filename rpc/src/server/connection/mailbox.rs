use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll, Waker},
};

use super::OUTPUT_LIMIT;
use crate::{buffer::FrameBuf, net::Writer};

/// Where answers wait that were made outside the connection's task, and where the server tells it to drain.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    out: FrameBuf,
    draining: bool,
    waker: Option<Waker>,
    /// How much waited in the writer when it was looked at last.
    backlog: usize,
    /// Calls of the pool that go on when there is room for their answers.
    waiting: Vec<Waker>,
    /// Places of calls of the connection's task that go on.
    ready: Vec<u32>,
}

/// What a collection found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collected {
    /// The server drains.
    pub(super) draining: bool,
    /// Answers were left here, or methods rest: to be collected again when the client has taken what is there.
    pub(super) left: bool,
}

impl Inner {
    fn has_room(&self) -> bool {
        self.out.len() + self.backlog <= OUTPUT_LIMIT
    }
}

impl Mailbox {
    /// Adds whole frames, and leaves `frames` empty.
    pub(crate) fn post(&self, frames: &mut FrameBuf) {
        self.post_and(frames, || ());
    }

    /// The same; `meanwhile` happens before anybody can see the frames. It must be short.
    pub(super) fn post_and(&self, frames: &mut FrameBuf, meanwhile: impl FnOnce()) {
        let mut inner = self.lock();
        let first = inner.out.is_empty();
        inner.out.append(frames);
        meanwhile();
        unlock_and_wake(inner, first);
    }

    /// Ready when an answer may be made. While the client takes none, methods rest: so they do not fill the memory.
    pub(super) fn poll_room(&self, cx: &TaskContext<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.has_room() {
            return Poll::Ready(());
        }
        inner.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// The call in a place of [`Waiting`](super::waiting::Waiting) goes on.
    pub(super) fn wake(&self, place: u32) {
        let mut inner = self.lock();
        let first = inner.ready.is_empty();
        inner.ready.push(place);
        unlock_and_wake(inner, first);
    }

    /// Moves the places of calls that go on to `ready`.
    pub(super) fn take_ready(&self, ready: &mut VecDeque<u32>) {
        ready.extend(self.lock().ready.drain(..));
    }

    /// Tells the connection to drain.
    pub(crate) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        unlock_and_wake(inner, true);
    }

    #[cfg(test)]
    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// A call has ended: a connection that drains may be done.
    pub(super) fn permit_returned(&self) {
        let inner = self.lock();
        let draining = inner.draining;
        unlock_and_wake(inner, draining);
    }

    /// Moves all frames to `writer`, unless enough waits there, and the places of calls that go on to `ready`; leaves a waker
    /// for the next.
    pub(super) fn collect(&self, writer: &mut Writer, ready: &mut VecDeque<u32>, waker: &Waker) -> Collected {
        let mut inner = self.lock();
        ready.extend(inner.ready.drain(..));
        if !inner.out.is_empty() && writer.waiting() <= OUTPUT_LIMIT {
            writer.buffer().append(&mut inner.out);
        }
        inner.backlog = writer.waiting();
        let room = if inner.has_room() { std::mem::take(&mut inner.waiting) } else { Vec::new() };
        match &mut inner.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let collected =
            Collected { draining: inner.draining, left: !inner.out.is_empty() || !inner.waiting.is_empty() };
        drop(inner);
        room.into_iter().for_each(Waker::wake);
        collected
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go, and wakes the connection's task if it is to be woken.
fn unlock_and_wake(inner: MutexGuard<'_, Inner>, wake: bool) {
    let waker = if wake { inner.waker.clone() } else { None };
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
