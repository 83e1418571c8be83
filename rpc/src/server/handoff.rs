//! The hand-off between a connection's task and the threads that work for it.
//!
//! Two things cross threads: slots whose calls were woken, and calls that come back from a pool. The task sleeps only after it
//! has left its waker here and found both lists empty, under one lock: so no wake-up is lost. A model checker runs this
//! file with its own primitives (`tests/loom`).

use std::{collections::VecDeque, fmt, sync::PoisonError, task::Waker};

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Where other threads leave what a connection's task has to see. `R`: what comes back from a pool.
pub(crate) struct Mailbox<R> {
    inner: Mutex<Inner<R>>,
}

struct Inner<R> {
    /// Slots whose calls were woken.
    woken: Vec<u32>,
    returned: Vec<R>,
    /// Bytes of the answers in `returned`.
    posted: usize,
    /// Bytes that waited for the socket when the task looked last.
    backlog: usize,
    draining: bool,
    task: Option<Waker>,
}

impl<R> Default for Mailbox<R> {
    fn default() -> Self {
        let (woken, returned) = (Vec::new(), Vec::new());
        Self { inner: Mutex::new(Inner { woken, returned, posted: 0, backlog: 0, draining: false, task: None }) }
    }
}

impl<R> Mailbox<R> {
    /// Gives a call back to the task, with an answer of `bytes` bytes.
    pub(crate) fn give_back(&self, call: R, bytes: usize) {
        let mut inner = self.lock();
        let first = inner.returned.is_empty();
        inner.returned.push(call);
        inner.posted += bytes;
        unlock_and_wake(inner, first);
    }

    /// Returns true while fewer than `limit` bytes of answers wait, here and for the socket. An answer counts from the moment
    /// it is made, wherever that is: answers that many threads make at the same moment do not gather unseen.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        let inner = self.lock();
        inner.posted + inner.backlog <= limit
    }

    /// Notes how many bytes wait for the socket.
    pub(crate) fn set_backlog(&self, bytes: usize) {
        self.lock().backlog = bytes;
    }

    /// Notes that the call in `slot` was woken.
    pub(crate) fn wake(&self, slot: u32) {
        let mut inner = self.lock();
        let first = inner.woken.is_empty();
        inner.woken.push(slot);
        unlock_and_wake(inner, first);
    }

    /// Moves the woken slots to `ready`.
    pub(crate) fn take_woken(&self, ready: &mut VecDeque<u32>) {
        ready.extend(self.lock().woken.drain(..));
    }

    /// Tells the connection to drain.
    pub(crate) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        unlock_and_wake(inner, true);
    }

    /// Returns true once the connection was told to drain.
    #[cfg(test)]
    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Moves everything to the task, and leaves its waker for what comes later. Returns true if the connection is to drain.
    pub(crate) fn collect(&self, ready: &mut VecDeque<u32>, returned: &mut Vec<R>, task: &Waker) -> bool {
        let mut inner = self.lock();
        ready.extend(inner.woken.drain(..));
        returned.append(&mut inner.returned);
        inner.posted = 0;
        match &mut inner.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
        inner.draining
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> fmt::Debug for Mailbox<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// Unlocks, then wakes the connection's task if `wake`.
fn unlock_and_wake<R>(inner: MutexGuard<'_, Inner<R>>, wake: bool) {
    let task = if wake { inner.task.clone() } else { None };
    drop(inner);
    if let Some(task) = task {
        task.wake();
    }
}

/// Tells whether the call of one slot was woken since it was polled last: a second wake-up needs no second entry.
#[derive(Debug)]
pub(crate) struct Bell(AtomicBool);

impl Bell {
    pub(crate) fn new(rung: bool) -> Self {
        Self(AtomicBool::new(rung))
    }

    /// Returns true if the slot is to be entered in the mailbox.
    #[inline]
    pub(crate) fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Called right before the call is polled. A plain store could be ordered behind the loads of that poll, which would then
    /// miss what the waking thread wrote before it rang.
    #[inline]
    pub(crate) fn reset(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}
