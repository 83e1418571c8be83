use std::{
    io::{self, ErrorKind},
    ops::Range,
};

use super::{BLOCK, Damage};
use crate::{
    batch::{Place, read_content, read_footer},
    message::{MessageId, Millis},
    record::{Record, Unreadable},
    segment::{BadBatch, Batch, HEADER, Origin, Trailer, find_batch, read_batch, salvage_content},
    store::{File, is_unreadable},
    varint::Reader,
};

/// Reads one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    pub(super) origin: Origin,
    pub(super) number: u32,
    /// Nothing behind this counts.
    pub(super) end: u64,
    /// Everything before `end` was synced: what cannot be read is damage and no torn end.
    pub(super) lasting: bool,
}

/// Findings of reading a segment.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) last_sequence: u64,
    pub(super) time: Millis,
    /// Where its batches end.
    pub(super) end: u64,
    pub(super) damage: Vec<Damage>,
    /// Messages of a torn batch at the end, which is cut off.
    pub(super) torn: Option<usize>,
}

impl Scan {
    /// Visits every record of a file of `size` bytes, in order. Messages come without bodies where a footer says all else.
    pub(super) fn run(&self, file: &impl File, size: u64, visit: &mut dyn FnMut(Record, Place)) -> io::Result<Scanned> {
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.read_at(&mut bytes, offset).map(|()| bytes)
        };
        let found = match Trailer::find(self.origin, size, read) {
            // The batches say the same.
            Err(error) if is_unreadable(&error) => None,
            found => found?,
        };
        if let Some((trailer, footer)) = found
            && trailer.footer <= self.end
        {
            read_footer(self.number, &footer, visit).map_err(unreadable)?;
            let Trailer { footer: end, last_sequence, time, .. } = trailer;
            return Ok(Scanned { last_sequence, time, end, ..Scanned::default() });
        }
        let (bytes, holes) = read_around(file, self.end as usize)?;
        self.batches(&bytes, &holes, visit)
    }

    /// The batches of a segment, which has zeros where `holes` could not be read.
    pub(super) fn batches(
        &self,
        segment: &[u8],
        holes: &[Range<usize>],
        visit: &mut dyn FnMut(Record, Place),
    ) -> io::Result<Scanned> {
        let mut scanned = Scanned { end: HEADER as u64, ..Scanned::default() };
        let mut at = HEADER;
        loop {
            match read_batch(self.origin, segment, at) {
                Ok(batch) => {
                    let content = &segment[batch.content.clone()];
                    let read = read_content(self.number, batch.content.start as u32, content, visit);
                    read.map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("at byte {at}: {error}")))?;
                    scanned.last_sequence = batch.head.sequence;
                    scanned.time = scanned.time.max(batch.head.time);
                    at = batch.end;
                    scanned.end = at as u64;
                }
                Err(bad) => {
                    let Some(next) = self.behind(segment, at, &bad, scanned.last_sequence, holes) else {
                        if let BadBatch::Content(torn) = &bad {
                            scanned.torn = Some(torn.head.ids.len());
                        }
                        return Ok(scanned);
                    };
                    scanned.damage.push(self.salvage(segment, at, next, bad, visit));
                    at = next;
                    scanned.end = at as u64;
                }
            }
        }
    }

    /// Where reading goes on behind a batch that is not whole. `None`: that is the torn end.
    fn behind(
        &self,
        segment: &[u8],
        at: usize,
        bad: &BadBatch,
        last_sequence: u64,
        holes: &[Range<usize>],
    ) -> Option<usize> {
        let next = find_batch(self.origin, segment, at + 1);
        // A torn batch can be read: an unreadable one was lost later.
        let unreadable = |end| holes.iter().any(|hole| hole.end > at && hole.start < end);
        if let Some(next) = next {
            let synced = match read_batch(self.origin, segment, next) {
                Ok(batch) | Err(BadBatch::Content(batch)) => batch.head.synced,
                Err(BadBatch::Head) => 0,
            };
            return (self.lasting || synced > last_sequence || unreadable(next)).then_some(next);
        }
        // Nothing whole comes any more.
        let end = match bad {
            BadBatch::Content(batch) => batch.end,
            BadBatch::Head => segment.len(),
        };
        ((self.lasting || unreadable(segment.len())) && at < segment.len()).then_some(end)
    }

    /// Saves what can be saved of a damaged batch; names what cannot.
    fn salvage(
        &self,
        segment: &[u8],
        at: usize,
        next: usize,
        bad: BadBatch,
        visit: &mut dyn FnMut(Record, Place),
    ) -> Damage {
        let lost = match bad {
            BadBatch::Content(Batch { head, content, .. }) => {
                let saved = self.salvage_messages(&segment[content.clone()], content.start as u32, visit);
                Some(head.ids.iter().copied().filter(|id| !saved.contains(id)).map(MessageId).collect())
            }
            BadBatch::Head => {
                let content = salvage_content(self.origin, segment, at, next);
                let whole = content.is_some_and(|content| {
                    read_content(self.number, content.start as u32, &segment[content], visit).is_ok()
                });
                if whole { Some(Vec::new()) } else { None }
            }
        };
        Damage { segment: self.number, offset: at as u64, lost }
    }

    /// The messages of a damaged content whose own checksum is right.
    fn salvage_messages(&self, content: &[u8], start: u32, visit: &mut dyn FnMut(Record, Place)) -> Vec<u64> {
        let (mut reader, mut saved) = (Reader(content), Vec::new());
        while let Some(record) = Reader(reader.0).bytes() {
            let before = reader.0;
            let length = record.as_ptr() as usize - before.as_ptr() as usize + record.len();
            let offset = start + (content.len() - before.len()) as u32;
            if let Ok(Some(record @ Record::Message(_))) = Record::read(&mut Reader(before))
                && let Record::Message(message) = &record
            {
                saved.push(message.id.0);
                visit(record, Place { segment: self.number, offset, length: length as u32 });
            }
            reader = Reader(&before[length..]);
        }
        saved
    }
}

/// The first `length` bytes of a file, with zeros for the blocks that cannot be read; also those.
pub(super) fn read_around(file: &impl File, length: usize) -> io::Result<(Vec<u8>, Vec<Range<usize>>)> {
    let (mut bytes, mut holes) = (vec![0; length], Vec::<Range<usize>>::new());
    match file.read_at(&mut bytes, 0) {
        Err(error) if is_unreadable(&error) => {}
        read => return read.map(|()| (bytes, holes)),
    }
    for (at, block) in bytes.chunks_mut(BLOCK as usize).enumerate() {
        let start = at * BLOCK as usize;
        match file.read_at(block, start as u64) {
            Err(error) if is_unreadable(&error) => {
                block.fill(0);
                match holes.last_mut() {
                    Some(last) if last.end == start => last.end += block.len(),
                    _ => holes.push(start..start + block.len()),
                }
            }
            read => read?,
        }
    }
    Ok((bytes, holes))
}

fn unreadable(error: Unreadable) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
