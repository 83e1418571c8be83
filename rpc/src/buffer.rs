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
        let before = self.len();
        let watched = other.watched.drain(..);
        self.watched.extend(watched.map(|watched| Watched { end: before + watched.end, ..watched }));
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
}

/// An empty buffer that was used before on this thread, if there is one. Encoding into it may run user code, which may
/// encode in turn: so it is taken, not borrowed.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Piece {
        Copied(Vec<u8>),
        Handed(Vec<u8>),
    }

    fn piece() -> impl Strategy<Value = Piece> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20);
        prop_oneof![bytes().prop_map(Piece::Copied), bytes().prop_map(Piece::Handed)]
    }

    fn build(pieces: &[Piece]) -> (FrameBuf, Vec<u8>) {
        let (mut buffer, mut model) = (FrameBuf::default(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Copied(bytes) => {
                    buffer.data().extend_from_slice(bytes);
                    model.extend_from_slice(bytes);
                }
                Piece::Handed(bytes) => {
                    buffer.hand_off(bytes.clone().into());
                    model.extend_from_slice(bytes);
                }
            }
        }
        (buffer, model)
    }

    #[test]
    fn many_copied_bytes_become_a_segment() {
        let (mut buffer, mut expected) = (FrameBuf::default(), Vec::new());
        for n in 0..20u8 {
            let piece = vec![n; 50_000];
            buffer.data().extend_from_slice(&piece);
            expected.extend_from_slice(&piece);
            if n == 15 {
                buffer.hand_off(vec![99; 10].into());
                expected.extend_from_slice(&[99; 10]);
            }
            buffer.seal();
            assert!(buffer.capacity() <= 2 * KEEP + 50_000 || n > 15);
        }
        assert_eq!(buffer.to_bytes(), expected);
    }

    proptest! {
        #[test]
        fn it_is_one_sequence_of_bytes(
            first in prop::collection::vec(piece(), 0..6),
            second in prop::collection::vec(piece(), 0..6),
            skip in 0usize..100,
            room in 1usize..8,
        ) {
            let (mut buffer, mut model) = build(&first);
            let mark = buffer.mark();
            let (mut other, tail) = build(&second);
            buffer.append(&mut other);
            model.extend_from_slice(&tail);
            prop_assert!(other.is_empty());
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.to_bytes(), model.clone());
            let mut slices = vec![IoSlice::new(&[]); room];
            let filled = buffer.slices(skip, &mut slices);
            let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            prop_assert!(model[skip.min(model.len())..].starts_with(&seen));
            prop_assert!(filled == room || seen.len() == model.len().saturating_sub(skip));
            let (mut rest, mut end) = build(&first);
            end.extend_from_slice(&tail);
            rest.append(&mut build(&second).0);
            let skip = skip.min(end.len());
            rest.advance(skip);
            prop_assert_eq!(rest.len(), end.len() - skip);
            prop_assert_eq!(rest.to_bytes(), &end[skip..]);
            if !first.is_empty() {
                prop_assert_eq!(buffer.since(mark), tail.len());
                buffer.truncate(mark);
                prop_assert_eq!(buffer.len(), model.len() - tail.len());
            }
        }
    }

    #[test]
    fn what_does_not_go_out_is_heard_of() {
        use std::sync::{Arc, Mutex};
        let heard = Arc::new(Mutex::new(Vec::new()));
        let watched = |number: u32, length: usize| {
            let heard = heard.clone();
            let mut buffer = FrameBuf::default();
            buffer.data().resize(length, 0);
            buffer.watch(Unanswered::new(move || heard.lock().unwrap().push(number)));
            buffer
        };
        let take = || std::mem::take(&mut *heard.lock().unwrap());
        // Into an empty one, behind copied bytes, and as a segment.
        let mut all = FrameBuf::default();
        for (number, length) in [(1, 100), (2, 10), (3, HAND_OFF), (4, 10)] {
            let mut one = watched(number, length);
            all.append(&mut one);
            give_scratch(one);
        }
        assert!(take().is_empty());
        all.take_sent(99).for_each(Unanswered::answered);
        all.take_sent(105).for_each(Unanswered::answered);
        all.advance(105);
        let mark = all.mark();
        all.append(&mut watched(5, 20));
        all.truncate(mark);
        assert_eq!(take(), [5]);
        all.take_sent(5).for_each(Unanswered::answered);
        drop(all);
        assert_eq!(take(), [3, 4]);
        give_scratch(watched(6, 10));
        assert_eq!(take(), [6]);
    }

    #[test]
    fn a_large_piece_is_not_copied() {
        let mut buffer = FrameBuf::default();
        buffer.data().push(1);
        let mut large = FrameBuf::default();
        large.data().resize(HAND_OFF, 2);
        let place = large.data.as_ptr();
        buffer.append(&mut large);
        assert_eq!(buffer.segments[0].bytes.as_ptr(), place);
    }
}
