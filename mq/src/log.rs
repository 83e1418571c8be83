//! The log: segments of one directory, written in batches, synced in groups, freed oldest first.

mod damage;
mod recovery;
mod scan;
mod survey;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    sync::{Arc, PoisonError, RwLock},
};

use tracing::{info, warn};

use crate::{
    batch::{Batch, Place},
    message::{MessageId, Millis, NodeId},
    record::{MessageRecord, Record},
    segment::{BATCH, BatchHead, HEADER, Origin, SegmentHeader, TRAILER, Trailer, write_batch},
    store::{File, Store},
    varint::Reader,
};

pub use damage::Damage;
pub use recovery::OpenError;
use recovery::SUPERBLOCK;
use scan::Scan;
pub(crate) use survey::{Depth, LogSurvey, survey};
pub use survey::{Finding, SegmentSurvey};

/// Block size of file systems.
const BLOCK: u64 = 4096;
/// Blocks are prepared for batches up to this length: for longer ones it would cost more than what it saves.
const SMALL: usize = 64 << 10;
/// Memory is asked for before batches from this length on: callers of a shorter batch are back before it is found.
const LARGE: usize = 1 << 20;
/// Bytes that are prepared together; between once and twice as many are ahead.
const PREPARED: u64 = 256 << 10;
static ZEROS: [u8; 2 * SMALL] = [0; 2 * SMALL];

/// How a log is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) segment_size: u64,
}

/// Files of a log, for readers of messages while the log is written.
#[derive(Debug)]
pub(crate) struct Files<F>(RwLock<HashMap<u32, Arc<F>>>);

/// A log that is open for writing.
#[derive(Debug)]
pub(crate) struct Log<S: Store> {
    store: S,
    layout: Layout,
    id: u128,
    node: NodeId,
    files: Arc<Files<S::File>>,
    /// All but the current one.
    sealed: BTreeMap<u32, Sealed>,
    current: Current<S::File>,
    /// Buffer in which a batch is put together.
    buffer: Vec<u8>,
    /// Length of the last batches, smoothed.
    length: usize,
    /// Names of files that are reserved and not used.
    spares: Vec<String>,
    next_spare: u64,
    /// Sequence of the last batch.
    sequence: u64,
    /// All batches up to this one are certain.
    synced: u64,
    written: u64,
    prepared: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sealed {
    origin: Origin,
    size: u64,
    /// Where its batches end.
    end: u64,
    /// The segment has damage: its file is put aside instead of being used again.
    damaged: bool,
}

#[derive(Debug)]
struct Current<F> {
    origin: Origin,
    file: Arc<F>,
    offset: u64,
    /// From here on nothing was ever written, not in an earlier life either.
    hole: u64,
    /// From here on to the hole zeros were written that are not on their way to the disk.
    kept_back: u64,
    footer: Vec<u8>,
    time: Millis,
}

impl<F: File> Files<F> {
    fn get(&self, segment: u32) -> io::Result<Arc<F>> {
        let files = self.0.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&segment).cloned().ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("segment {segment}")))
    }

    fn insert(&self, segment: u32, file: Arc<F>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(segment, file);
    }

    fn remove(&self, segment: u32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&segment);
    }

    /// Reads one message. An error of the kind [`ErrorKind::InvalidData`]: its bytes are damaged, or the segment was freed
    /// and another message is there.
    pub(crate) fn read(&self, id: MessageId, place: Place) -> io::Result<MessageRecord> {
        let mut bytes = vec![0; place.length as usize];
        self.get(place.segment)?.read_at(&mut bytes, u64::from(place.offset))?;
        match Record::read(&mut Reader(&bytes)) {
            Ok(Some(Record::Message(message))) if message.id == id => Ok(message),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "its checksum does not match its bytes")),
        }
    }
}

impl<S: Store> Log<S> {
    pub(crate) fn files(&self) -> &Arc<Files<S::File>> {
        &self.files
    }

    /// Id of the store, given once for ever.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    /// How many bytes of batches and footers were written since it was opened.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes were prepared since it was opened.
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared
    }

    /// How many bytes can be written without asking the disk for more space.
    pub(crate) fn reserved(&self) -> u64 {
        let current = self.layout.segment_size.saturating_sub(self.current.offset);
        current + self.spares.len() as u64 * self.layout.segment_size
    }

    /// The segment that is freed next, if any segment is finished.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.sealed.first_key_value().map(|(number, _)| *number)
    }

    /// Returns true if a segment has damage, and should be cleaned before its turn comes by itself.
    pub(crate) fn has_damage(&self) -> bool {
        self.sealed.values().any(|segment| segment.damaged)
    }

    /// How many bytes all segments have that hold records.
    pub(crate) fn size(&self) -> u64 {
        (self.sealed.len() as u64 + 1) * self.layout.segment_size
    }

    /// The segment that is written.
    pub(crate) fn current(&self) -> u32 {
        self.current.origin.number as u32
    }

    /// About how many bytes of messages fit into the current segment, with what the footer says of them.
    pub(crate) fn room(&self) -> u64 {
        let used = self.current.offset + (self.current.footer.len() + TRAILER) as u64;
        self.layout.segment_size.saturating_sub(used) / 8 * 7
    }

    /// Returns true if the batch fits into the current segment.
    pub(crate) fn has_room(&self, batch: &Batch) -> bool {
        let footer = self.current.footer.len() + batch.footer_bound();
        self.current.offset as usize + length_bound(batch) + footer + TRAILER <= self.layout.segment_size as usize
    }

    /// Writes a batch, which is not certain before [`sync`](Self::sync). Returns the segment, and where the content begins.
    pub(crate) fn append(&mut self, batch: &Batch, time: Millis) -> io::Result<(u32, u32)> {
        self.append_and(batch, time, |file, bytes, offset| file.write_at(bytes, offset))
    }

    /// The same for a batch that is to be certain, as all before it.
    pub(crate) fn append_synced(&mut self, batch: &Batch, time: Millis) -> io::Result<(u32, u32)> {
        if self.synced < self.sequence {
            let place = self.append(batch, time)?;
            self.sync()?;
            return Ok(place);
        }
        let place = self.append_and(batch, time, |file, bytes, offset| file.write_synced_at(bytes, offset))?;
        self.synced = self.sequence;
        Ok(place)
    }

    fn append_and(
        &mut self,
        batch: &Batch,
        time: Millis,
        write: impl FnOnce(&S::File, &[u8], u64) -> io::Result<()>,
    ) -> io::Result<(u32, u32)> {
        if !self.has_room(batch) {
            let text = format!("a batch of {} bytes does not fit into a segment", batch.content.len());
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        self.sequence += 1;
        let mut ids = batch.ids.clone();
        ids.sort_unstable();
        let head = BatchHead { sequence: self.sequence, synced: self.synced, time, ids };
        let (bytes, current) = (&mut self.buffer, &mut self.current);
        bytes.clear();
        write_batch(current.origin, current.offset, &head, &batch.content, bytes);
        write(&current.file, bytes, current.offset)?;
        self.length = (7 * self.length + bytes.len()) / 8;
        self.written += bytes.len() as u64;
        let end = current.offset + bytes.len() as u64;
        let used = end.next_multiple_of(BLOCK);
        current.hole = current.hole.max(used);
        current.kept_back = current.kept_back.max(used);
        let content = end as usize - 4 - batch.content.len();
        batch.write_footer(content as u32, &mut current.footer);
        current.offset = end;
        current.time = time;
        Ok((current.origin.number as u32, content as u32))
    }

    /// Prepares blocks where nothing was ever written, some of them each time: a file system notes which blocks are in use, and
    /// a sync that has to wait for such a note takes up to twice as long as any other. To be called while nobody
    /// waits for a sync.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        let current = &mut self.current;
        let left = self.layout.segment_size.saturating_sub(current.hole);
        if self.length > SMALL {
            if self.length >= LARGE {
                current.file.read_ahead(current.hole, left.min(self.length as u64));
            }
            return Ok(());
        }
        if left > 0 && current.hole < current.offset + 2 * PREPARED {
            // Twice the bytes used: so it gets ahead.
            let more = left.min((2 * self.length as u64).next_multiple_of(BLOCK));
            current.file.write_at(&ZEROS[..more as usize], current.hole)?;
            current.hole += more;
            self.prepared += more;
        }
        let kept_back = current.hole - current.kept_back;
        if kept_back >= PREPARED {
            current.file.write_out(current.kept_back, kept_back);
            current.kept_back = current.hole;
        }
        Ok(())
    }

    /// Makes all batches certain.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.sequence {
            self.current.file.sync()?;
            self.synced = self.sequence;
        }
        Ok(())
    }

    /// Ends the current segment with its footer, and begins the next.
    pub(crate) fn roll(&mut self) -> io::Result<()> {
        self.seal()?;
        let current = &self.current;
        let number = current.origin.number as u32;
        let size = self.layout.segment_size;
        self.sealed.insert(number, Sealed { origin: current.origin, size, end: current.offset, damaged: false });
        self.begin(number + 1, None)
    }

    /// Ends the current segment with its footer: it can be read quickly when the log is opened again.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        // The content must be durable before the footer says so.
        self.sync()?;
        let current = &self.current;
        let size = self.layout.segment_size;
        let trailer = Trailer {
            footer: current.offset,
            length: current.footer.len() as u64,
            last_sequence: self.sequence,
            time: current.time,
            synced: self.synced,
        };
        current.file.write_at(&current.footer, current.offset)?;
        current.file.write_at(&trailer.to_bytes(current.origin, &current.footer), size - TRAILER as u64)?;
        current.file.sync()?;
        self.written += (current.footer.len() + TRAILER) as u64;
        Ok(())
    }

    /// Begins a segment: in a file that is reserved already, if there is one.
    fn begin(&mut self, number: u32, cut: Option<(u64, u64)>) -> io::Result<()> {
        self.current = begin(&mut self.store, &self.layout, &mut self.spares, self.id, self.node, number, cut)?;
        self.files.insert(number, self.current.file.clone());
        Ok(())
    }

    /// Reserves so many segments ahead, so that nobody waits for them and a full disk is noticed early. False: the disk is
    /// full.
    pub(crate) fn reserve(&mut self, spares: usize) -> io::Result<bool> {
        while self.spares.len() < spares {
            let name = format!("spare-{:08}", self.next_spare);
            match self.store.create(&name, self.layout.segment_size) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(false),
                Err(error) => return Err(error),
            }
            self.store.sync_directory()?;
            self.next_spare += 1;
            self.spares.push(name);
        }
        Ok(true)
    }

    /// Frees the oldest segment: nothing in it is needed any more. Its file is kept for later unless there are `enough`.
    pub(crate) fn free_oldest(&mut self, enough: usize) -> io::Result<()> {
        let Some((number, segment)) = self.sealed.pop_first() else { return Ok(()) };
        let name = segment_name(number);
        self.files.remove(number);
        if segment.damaged {
            let aside = format!("damaged-{name}");
            warn!("segment {number} is kept as {aside}: it is damaged");
            self.store.rename(&name, &aside)?;
        } else if self.spares.len() >= enough
            || segment.size != self.layout.segment_size
            || self.store.is_backed_up(&name)?
        {
            self.store.remove(&name)?;
        } else {
            let spare = format!("spare-{:08}", self.next_spare);
            self.next_spare += 1;
            self.store.rename(&name, &spare)?;
            self.spares.push(spare);
        }
        self.store.sync_directory()
    }

    /// Returns true if there is a backup of this name.
    pub(crate) fn has_backup(&self, backup: &str) -> io::Result<bool> {
        self.store.has_backup(backup)
    }

    /// Gives the superblock and all segments but the current one, which are not written any more, a second name in a backup.
    /// Returns the number of segments.
    pub(crate) fn back_up(&mut self, backup: &str) -> io::Result<u64> {
        let segments = self.sealed.keys().map(|number| segment_name(*number));
        let names: Vec<_> = std::iter::once(SUPERBLOCK.to_owned()).chain(segments).collect();
        self.store.back_up(backup, &names)?;
        Ok(self.sealed.len() as u64)
    }

    /// The messages of the oldest segment, without bodies, and where they are. They may be done with long since.
    pub(crate) fn messages_of_oldest(&self) -> io::Result<Vec<(MessageRecord, Place)>> {
        let mut messages = Vec::new();
        if let Some((number, segment)) = self.sealed.first_key_value() {
            let scan = Scan { origin: segment.origin, number: *number, end: segment.end, lasting: true };
            let file = self.files.get(*number)?;
            let scanned = scan.run(&*file, segment.size, &mut |record, place| {
                if let Record::Message(message) = record {
                    messages.push((message, place));
                }
            })?;
            scanned.damage.iter().for_each(|damage| warn!("{damage}"));
        }
        Ok(messages)
    }
}

fn length_bound(batch: &Batch) -> usize {
    BATCH + 10 * (batch.ids.len() + 1) + batch.content.len()
}

fn segment_name(number: u32) -> String {
    format!("{number:08}.segment")
}

fn begin<S: Store>(
    store: &mut S,
    layout: &Layout,
    spares: &mut Vec<String>,
    id: u128,
    node: NodeId,
    number: u32,
    cut: Option<(u64, u64)>,
) -> io::Result<Current<S::File>> {
    let name = segment_name(number);
    let file = match spares.pop() {
        Some(spare) => {
            let file = store.open(&spare)?;
            // Until the header is there it is a spare, whatever it is called.
            store.rename(&spare, &name)?;
            file
        }
        None => store.create(&name, layout.segment_size)?,
    };
    let origin = Origin { number: u64::from(number), salt: fastrand::u64(..) };
    file.write_at(&SegmentHeader { origin, store: id, node, cut }.to_bytes(), 0)?;
    file.sync()?;
    store.sync_directory()?;
    let hole = file.first_hole()?;
    info!("segment {number} begins");
    Ok(Current {
        origin,
        file: Arc::new(file),
        offset: HEADER as u64,
        hole,
        kept_back: hole,
        footer: Vec::new(),
        time: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::Faulty;

    /// Writes one message with such a body; returns how many bytes are prepared for those that follow.
    fn append_and_prepare(log: &mut Log<Faulty>, body: usize) -> u64 {
        let body = vec![7; body].into();
        let message = MessageRecord { body, ..MessageRecord::bare(1, 1) };
        let mut batch = Batch::default();
        batch.add_message(&message);
        log.append(&batch, 0).unwrap();
        let before = log.prepared();
        log.prepare().unwrap();
        log.prepared() - before
    }

    #[test]
    fn where_nothing_was_ever_written_blocks_are_prepared_once_and_ahead() {
        let layout = Layout { segment_size: 4 << 20 };
        let (mut log, _) = Log::open(Faulty::default(), layout, NodeId::new(1).unwrap(), &mut |_, _| {}).unwrap();
        let ahead = |log: &Log<Faulty>| log.current.hole - log.current.offset;
        for _ in 0..200 {
            append_and_prepare(&mut log, 5000);
        }
        assert!((PREPARED..3 * PREPARED).contains(&ahead(&log)), "{}", ahead(&log));
        assert!(log.current.hole - log.current.kept_back < PREPARED, "the rest is on its way to the disk");
        let last = (0..8).map(|_| append_and_prepare(&mut log, 200_000)).last();
        assert_eq!(last, Some(0), "large batches find blocks themselves");
        while log.current.offset + 100_000 < layout.segment_size {
            append_and_prepare(&mut log, 5000);
        }
        let end = log.current.hole;
        assert_eq!(end, layout.segment_size);

        log.roll().unwrap();
        assert!(append_and_prepare(&mut log, 5000) > 10_000, "nothing was written to this file either");
        log.free_oldest(1).unwrap();
        log.roll().unwrap();
        assert_eq!(append_and_prepare(&mut log, 5000), 0, "this one is used again");
    }
}
