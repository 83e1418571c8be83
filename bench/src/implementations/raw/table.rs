//! Calls in flight: a slab whose slot holds a waker, then the answer.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{frame::Request, inbound::Body, outbound::Outbound};
use crate::peer::Failure;

const SLOT_BITS: u32 = 20;

/// What callers and the connection's task share, behind one lock.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    sequence: u64,
    closed: Option<String>,
    /// Frames that no write has taken yet.
    pub(super) out: Outbound<Bytes>,
    /// The connection's task, to be woken for the first frame that it does not know of.
    pub(super) writer: Option<Waker>,
    /// The task is about to look at `out` anyway.
    pub(super) writer_due: bool,
}

#[derive(Debug, Default)]
struct Slot {
    /// 0 while the slot is free.
    id: u64,
    done: bool,
    waker: Option<Waker>,
    body: Vec<u8>,
}

impl Table {
    /// Gives the call a slot and appends its frame; returns the call's id.
    pub(super) fn begin(&mut self, request: Request, cx: &Context<'_>) -> Result<u64, Failure> {
        if let Some(reason) = &self.closed {
            return Err(reason.as_str().into());
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.sequence += 1;
        let id = self.sequence << SLOT_BITS | index as u64;
        let slot = &mut self.slots[index];
        slot.id = id;
        slot.waker = Some(cx.waker().clone());
        request.append(id, &mut self.out);
        if !self.writer_due {
            self.writer_due = true;
            self.writer.as_ref().inspect(|writer| writer.wake_by_ref());
        }
        Ok(id)
    }

    /// The answer, if it is there; the slot is free from then on.
    pub(super) fn poll_answer<T>(&mut self, id: u64, cx: &Context<'_>, read: Read<T>) -> Poll<Result<T, Failure>> {
        let index = index(id);
        let slot = &mut self.slots[index];
        if slot.done {
            let answer = read(&slot.body);
            self.release(index);
            return Poll::Ready(answer);
        }
        if let Some(reason) = &self.closed {
            return Poll::Ready(Err(reason.as_str().into()));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Files an answer. Returns who waits for it, and the buffer that it leaves over.
    pub(super) fn complete(&mut self, id: u64, body: Body<'_>) -> (Option<Waker>, Vec<u8>) {
        let index = index(id);
        let slot = self.slots.get_mut(index).filter(|slot| slot.id == id && !slot.done);
        let (Some(slot), body) = (slot, body) else { return (None, Vec::new()) };
        slot.done = true;
        let left_over = match body {
            Body::Small(bytes) => {
                slot.body.clear();
                slot.body.extend_from_slice(bytes);
                Vec::new()
            }
            Body::Large(bytes) => std::mem::replace(&mut slot.body, bytes),
        };
        (slot.waker.take(), left_over)
    }

    /// The caller is gone: a late answer finds nobody.
    pub(super) fn abandon(&mut self, id: u64) {
        self.release(index(id));
    }

    /// Fails every call, now and later. Returns who waits.
    pub(super) fn close(&mut self, reason: String) -> Vec<Waker> {
        self.closed = Some(reason);
        self.slots.iter_mut().filter_map(|slot| slot.waker.take()).collect()
    }

    fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.id = 0;
        slot.done = false;
        slot.waker = None;
        self.free.push(index);
    }
}

/// Reads an answer's body.
pub(super) type Read<T> = fn(&[u8]) -> Result<T, Failure>;

fn index(id: u64) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}
