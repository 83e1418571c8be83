//! Bytes on their way out: small ones copied together, large ones handed on as they are.

use std::{cell::RefCell, io::IoSlice};

use bytes::{Buf, Bytes};

use crate::unanswered::Unanswered;

/// From this size a segment is handed off instead of copied.
pub(crate) const HAND_OFF: usize = 8 << 10;

/// A recycled buffer above this capacity is given back to the allocator.
const KEEP: usize = 256 << 10;

/// A sequence of bytes: `data`, with segments standing between its bytes.
#[derive(Debug, Default)]
pub(crate) struct FrameBuf {
    data: Vec<u8>,
    /// Sorted by their offset in `data`.
    segments: Vec<Segment>,
    /// The sum of the segments' lengths.
    handed: usize,
    /// Compensations for answers that do not go out, sorted by their end.
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    /// Number of bytes that must go out.
    end: usize,
    unanswered: Unanswered,
}

#[derive(Debug)]
struct Segment {
    /// How many bytes of `data` come before it.
    at: usize,
    bytes: Bytes,
}

/// A place in a [`FrameBuf`] to return to; the default is its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    data: usize,
    segments: usize,
    handed: usize,
}

impl FrameBuf {
    pub(crate) fn len(&self) -> usize {
        self.data.len() + self.handed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.segments.is_empty()
    }

    /// How many bytes fit without a new allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// How many bytes are copied together.
    pub(crate) fn copied(&self) -> usize {
        self.data.len()
    }

    /// The bytes that are copied together, to append to.
    pub(crate) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Appends a segment without copying it.
    pub(crate) fn hand_off(&mut self, bytes: Bytes) {
        self.handed += bytes.len();
        self.segments.push(Segment { at: self.data.len(), bytes });
    }

    /// Ties `unanswered` to the bytes so far: it runs if they are dropped before they go out.
    pub(crate) fn watch(&mut self, unanswered: Unanswered) {
        self.watched.push(Watched { end: self.len(), unanswered });
    }

    /// The compensations of answers that end within the first `count` bytes.
    pub(crate) fn take_sent(&mut self, count: usize) -> impl Iterator<Item = Unanswered> {
        let sent = self.watched.iter().take_while(|watched| watched.end <= count).count();
        self.watched.drain(..sent).map(|watched| watched.unanswered)
    }

    /// The copied bytes since the mark.
    pub(crate) fn copied_since(&self, mark: Mark) -> &[u8] {
        &self.data[mark.data..]
    }

    /// Makes a segment of copied bytes when they are many: to grow on would double their buffer. Not while a mark is held.
    pub(crate) fn seal(&mut self) {
        let all_behind = self.segments.last().is_none_or(|last| last.at == 0);
        if self.data.len() >= KEEP && all_behind {
            let mut bytes = std::mem::take(&mut self.data);
            bytes.shrink_to_fit();
            self.hand_off(bytes.into());
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { data: self.data.len(), segments: self.segments.len(), handed: self.handed }
    }

    /// How many bytes have come since.
    pub(crate) fn since(&self, mark: Mark) -> usize {
        self.len() - mark.data - mark.handed
    }

    /// Forgets what has come since.
    pub(crate) fn truncate(&mut self, mark: Mark) {
        self.data.truncate(mark.data);
        self.segments.truncate(mark.segments);
        self.handed = mark.handed;
        let kept = self.watched.iter().take_while(|watched| watched.end <= mark.data + mark.handed).count();
        self.watched.truncate(kept);
    }

    /// Overwrites copied bytes, `offset` after the mark. No segment may stand before them.
    pub(crate) fn patch(&mut self, mark: Mark, offset: usize, bytes: &[u8]) {
        let start = mark.data + offset;
        self.data[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Moves all of `other` to the end. `other` is left empty.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if !other.watched.is_empty() {
            let before = self.len();
            let watched = other.watched.drain(..);
            self.watched.extend(watched.map(|watched| Watched { end: before + watched.end, ..watched }));
        }
        if other.segments.is_empty() && other.data.len() < HAND_OFF {
            self.data.extend_from_slice(&other.data);
            other.data.clear();
            return;
        }
        if self.is_empty() {
            std::mem::swap(self, other);
            std::mem::swap(&mut self.watched, &mut other.watched);
            return;
        }
        if other.data.len() >= HAND_OFF && other.segments.is_empty() {
            let mut bytes = std::mem::take(&mut other.data);
            // The segment may wait for long: spare capacity is freed.
            if bytes.capacity() - bytes.len() > bytes.len() / 4 {
                bytes.shrink_to_fit();
            }
            self.hand_off(bytes.into());
            return;
        }
        let base = self.data.len();
        self.data.extend_from_slice(&other.data);
        self.segments.extend(other.segments.drain(..).map(|segment| Segment { at: base + segment.at, ..segment }));
        self.handed += other.handed;
        other.clear();
    }

    /// All bytes, in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.gather(Mark::default()).into()
    }

    /// The bytes since the mark, in one piece.
    pub(crate) fn gather(&self, mark: Mark) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.since(mark));
        let mut from = mark.data;
        for segment in &self.segments[mark.segments..] {
            all.extend_from_slice(&self.data[from..segment.at]);
            all.extend_from_slice(&segment.bytes);
            from = segment.at;
        }
        all.extend_from_slice(&self.data[from..]);
        all
    }

    /// Drops the first `count` bytes, of at least as many, after [`take_sent`](Self::take_sent).
    pub(crate) fn advance(&mut self, mut count: usize) {
        self.watched.iter_mut().for_each(|watched| watched.end -= count);
        let (mut data, mut gone) = (0, 0);
        for segment in &mut self.segments {
            let copied = count.min(segment.at - data);
            (data, count) = (data + copied, count - copied);
            let handed = count.min(segment.bytes.len());
            segment.bytes.advance(handed);
            (self.handed, count) = (self.handed - handed, count - handed);
            if count == 0 && !segment.bytes.is_empty() {
                break;
            }
            gone += 1;
        }
        self.segments.drain(..gone);
        data += count;
        self.data.drain(..data);
        self.segments.iter_mut().for_each(|segment| segment.at -= data);
    }

    /// Fills `slices` with what comes after the first `skip` bytes; returns how many were filled.
    pub(crate) fn slices<'a>(&'a self, mut skip: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut push = |piece: &'a [u8]| {
            if skip >= piece.len() {
                skip -= piece.len();
            } else if let Some(slot) = slices.get_mut(filled) {
                *slot = IoSlice::new(&piece[skip..]);
                skip = 0;
                filled += 1;
            } else {
                return false;
            }
            true
        };
        let mut from = 0;
        for segment in &self.segments {
            let fits = push(&self.data[from..segment.at]) && push(&segment.bytes);
            if !fits {
                return filled;
            }
            from = segment.at;
        }
        push(&self.data[from..]);
        filled
    }

    pub(crate) fn clear(&mut self) {
        self.watched.clear();
        self.segments.clear();
        self.handed = 0;
        if self.data.capacity() > KEEP {
            self.data = Vec::new();
        } else {
            self.data.clear();
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<FrameBuf>> = const { RefCell::new(Vec::new()) };
    static REQUEST: RefCell<FrameBuf> = RefCell::default();
}

/// Runs `encode` with an empty buffer: one for each thread, and a fresh one where user code encodes within `encode`. Bytes that
/// are left in it are dropped.
#[inline]
pub(crate) fn with_scratch<R>(encode: impl FnOnce(&mut FrameBuf) -> R) -> R {
    REQUEST.with(|request| match request.try_borrow_mut() {
        Ok(mut buffer) => {
            // User code that panics leaves its bytes.
            if !buffer.is_empty() {
                buffer.clear();
            }
            let result = encode(&mut buffer);
            if buffer.capacity() > KEEP {
                buffer.clear();
            }
            result
        }
        Err(_) => encode(&mut FrameBuf::default()),
    })
}

/// An empty buffer that was used before on this thread, if there is one.
pub(crate) fn take_scratch() -> FrameBuf {
    SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back for [`take_scratch`].
pub(crate) fn give_scratch(mut buffer: FrameBuf) {
    buffer.clear();
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < 4 {
            scratch.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests;
