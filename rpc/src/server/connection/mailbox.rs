use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::{buffer::FrameBuf, transport::Writer};

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
}

impl Mailbox {
    /// Adds whole frames, and leaves `frames` empty.
    pub(crate) fn post(&self, frames: &mut FrameBuf) {
        let mut inner = self.lock();
        let first = inner.out.is_empty();
        inner.out.append(frames);
        let waker = if first { inner.waker.clone() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Tells the connection to drain.
    pub(crate) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        let waker = inner.waker.clone();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// A call has ended: a connection that drains may be done.
    pub(super) fn permit_returned(&self) {
        let inner = self.lock();
        let waker = if inner.draining { inner.waker.clone() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves all frames to `writer`, leaves a waker for the next, and says whether to drain.
    pub(super) fn collect(&self, writer: &mut Writer, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if !inner.out.is_empty() {
            writer.buffer().append(&mut inner.out);
        }
        match &mut inner.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        inner.draining
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
