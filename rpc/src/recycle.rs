//! Buffers that are used again.
//!
//! A fresh buffer of 64 KiB costs the kernel a page fault for every 4 KiB: without this, echoes of 64 KiB reach a third of
//! their rate (`bench rpc`, echo-64k). Read buffers are kept per thread while connections are idle, so that an idle connection
//! holds none. To be deleted where the allocator keeps pages of this size mapped.

use std::{cell::RefCell, collections::VecDeque};

use bytes::{Bytes, BytesMut};

/// Size of a read buffer.
pub(crate) const CHUNK: usize = 64 << 10;

/// Bound for the received frames that one thread keeps, in bytes.
const MOST_FRAMES: usize = 8 << 20;

/// Number of read buffers that one thread keeps.
const MOST_BUFFERS: usize = 4;

/// Large frames that were received on this thread, oldest first. The latest frame without another holder is used again first:
/// its bytes are still in the cache.
#[derive(Debug, Default)]
struct Frames {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

thread_local! {
    static FRAMES: RefCell<Frames> = RefCell::default();
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this length that held a frame before.
pub(crate) fn take_frame(length: usize) -> Option<BytesMut> {
    FRAMES.with_borrow_mut(|kept| {
        let fits = |frame: &Bytes| (length..2 * length).contains(&frame.len()) && frame.is_unique();
        let at = kept.frames.iter().rposition(fits)?;
        let frame = kept.frames.remove(at)?;
        kept.bytes -= frame.len();
        let mut buffer = frame.try_into_mut().ok()?;
        buffer.truncate(length);
        Some(buffer)
    })
}

/// Keeps a share of a frame, for [`take_frame`] once its other owners have dropped theirs.
pub(crate) fn give_frame(frame: Bytes) {
    if frame.len() > MOST_FRAMES / 8 {
        return;
    }
    FRAMES.with_borrow_mut(|kept| {
        kept.bytes += frame.len();
        kept.frames.push_back(frame);
        while kept.bytes > MOST_FRAMES {
            let Some(oldest) = kept.frames.pop_front() else { return };
            kept.bytes -= oldest.len();
        }
    });
}

/// An empty read buffer.
pub(crate) fn take_buffer() -> BytesMut {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(CHUNK))
}

/// Keeps a read buffer for [`take_buffer`].
pub(crate) fn give_buffer(mut buffer: BytesMut) {
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < MOST_BUFFERS && buffer.try_reclaim(CHUNK) && buffer.capacity() <= 4 * CHUNK {
            buffers.push(buffer);
        }
    });
}
