use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
};

use tracing::{info, warn};

use super::{
    Current, Damage, Files, Layout, Log, Sealed, begin,
    scan::{Scan, Scanned},
    segment_name,
};
use crate::{
    batch::Place,
    message::{Millis, NodeId},
    record::Record,
    segment::{FORMAT, HEADER, SegmentHeader},
    store::{File, Store, is_unreadable},
};

/// The file that says whose directory this is.
pub(super) const SUPERBLOCK: &str = "store";
const SUPERBLOCK_NEW: &str = "store.new";

/// Findings of opening a log.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// No record is from later.
    pub(crate) time: Millis,
    pub(crate) damage: Vec<Damage>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk.
    #[error("the queue's directory cannot be used: {0}")]
    Io(io::Error),
    /// The log cannot go on.
    #[error("the disk is full: the queue needs {needed} bytes to open; make room on it, nothing is lost")]
    DiskFull {
        /// In bytes: of one segment.
        needed: u64,
    },
    /// The directory belongs to another node.
    #[error("the directory belongs to node {found}, this is node {own}: give each node a directory of its own")]
    OtherNode {
        /// The owner.
        found: NodeId,
        /// The node that opens it.
        own: NodeId,
    },
    /// The directory is something else, or the file that says what it is is damaged.
    #[error("this is no queue's directory: {0}")]
    NoQueue(String),
}

impl OpenError {
    fn new(error: io::Error, segment: u64) -> Self {
        if error.kind() == ErrorKind::StorageFull { Self::DiskFull { needed: segment } } else { Self::Io(error) }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One segment's file, before it is read.
pub(super) struct Found<F> {
    pub(super) number: u32,
    pub(super) file: Arc<F>,
    pub(super) size: u64,
    /// `None`: there is none, or it cannot be read.
    pub(super) header: Option<SegmentHeader>,
    pub(super) unreadable: bool,
}

impl<F: File> Found<F> {
    /// The disk is to read while the segment before this one is looked at: all of the newest, of others the end, where most
    /// of them say what is in them.
    fn read_ahead(&self, newest: bool) {
        let length = if newest { self.size } else { self.size / 8 };
        self.file.read_ahead(self.size - length, length);
    }
}

impl<S: Store> Log<S> {
    /// Opens the log of a directory, or begins it, and visits every record that is certain, in order. Messages may come
    /// without bodies.
    pub(crate) fn open(
        mut store: S,
        layout: Layout,
        node: NodeId,
        visit: &mut dyn FnMut(Record, Place),
    ) -> Result<(Self, Recovered), OpenError> {
        let names = store.names()?;
        let full = |error| OpenError::new(error, layout.segment_size);
        let id = identify(&mut store, &names, node).map_err(|error| match error {
            OpenError::Io(error) => full(error),
            error => error,
        })?;
        let (mut found, mut spares) = find(&mut store, &names, id, layout.segment_size)?;
        let mut recovered = Recovered::default();
        // The newest without a header was never used.
        if let Some(newest) = found.pop_if(|newest| newest.header.is_none() && !newest.unreadable) {
            spares.extend(make_spare(&mut store, newest.number, newest.size, layout)?);
        }
        let files = Arc::new(Files(Default::default()));
        let (mut sealed, mut sequence, mut cut) = (BTreeMap::<u32, Sealed>::new(), 0, None);
        // Cut and sequence before the newest segment, if it only repeats the configuration: it is then used again.
        let mut repeats = None;
        let mut expected = found.first().map_or(1, |first| first.number);
        if let Some(first) = found.first() {
            first.read_ahead(found.len() == 1);
        }
        for (at, segment) in found.iter().enumerate() {
            if let Some(next) = found.get(at + 1) {
                next.read_ahead(at + 2 == found.len());
            }
            for missing in expected..segment.number {
                recovered.lose(Damage { segment: missing, offset: 0, lost: None });
            }
            expected = segment.number + 1;
            let Some(scan) = scan_of(&found, at) else {
                recovered.lose(Damage { segment: segment.number, offset: 0, lost: None });
                continue;
            };
            let mut plain = true;
            let Scanned { last_sequence, time, end, damage, torn } =
                scan.run(&*segment.file, segment.size, &mut |record, place| {
                    plain &= matches!(record, Record::Topic { .. } | Record::Queue { .. } | Record::Marks { .. });
                    visit(record, place);
                })?;
            let follows = sealed.last_key_value().is_some_and(|(number, before)| {
                number + 1 == segment.number && !before.damaged && sequence + 1 >= last_sequence
            });
            repeats = (follows && plain && damage.is_empty()).then_some((cut, sequence));
            sequence = last_sequence.max(sequence);
            recovered.time = recovered.time.max(time);
            cut = Some((u64::from(segment.number), end));
            if let Some(messages) = torn {
                let number = segment.number;
                warn!("segment {number}: the last batch is torn, at {end}, and cut off, with {messages} messages");
            }
            let damaged = !damage.is_empty();
            damage.into_iter().for_each(|damage| recovered.lose(damage));
            files.insert(segment.number, segment.file.clone());
            sealed.insert(segment.number, Sealed { origin: scan.origin, size: segment.size, end, damaged });
        }
        let mut number = found.last().map_or(0, |last| last.number) + 1;
        if let Some(before) = repeats {
            // Used again: else a node that starts again and again uses up its space.
            number -= 1;
            let size = sealed.remove(&number).map_or(0, |sealed| sealed.size);
            spares.extend(make_spare(&mut store, number, size, layout)?);
            files.remove(number);
            (cut, sequence) = before;
        }
        let current = begin(&mut store, &layout, &mut spares, id, node, number, cut).map_err(full)?;
        files.insert(number, current.file.clone());
        info!("the log is open: {} segments, {} spare", sealed.len() + 1, spares.len());
        let next_spare = next_spare(&spares);
        let log = Self {
            store,
            layout,
            id,
            node,
            files,
            sealed,
            current: Current { time: recovered.time, ..current },
            buffer: Vec::new(),
            length: 0,
            spares,
            next_spare,
            sequence,
            synced: sequence,
            written: 0,
            prepared: 0,
        };
        Ok((log, recovered))
    }
}

impl Recovered {
    fn lose(&mut self, damage: Damage) {
        warn!("{damage}");
        self.damage.push(damage);
    }
}

/// Reads the superblock, or writes that of a new directory.
fn identify<S: Store>(store: &mut S, names: &[String], node: NodeId) -> Result<u128, OpenError> {
    if !names.iter().any(|name| name == SUPERBLOCK) {
        if names.iter().any(|name| name.ends_with(".segment")) {
            return Err(OpenError::NoQueue(format!("it has segments, but the file `{SUPERBLOCK}` is missing")));
        }
        let id = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
        let file = store.create(SUPERBLOCK_NEW, HEADER as u64)?;
        let block = SegmentHeader { origin: crate::segment::Origin { number: 0, salt: 0 }, store: id, node, cut: None };
        file.write_at(&block.to_bytes(), 0)?;
        file.sync()?;
        store.rename(SUPERBLOCK_NEW, SUPERBLOCK)?;
        store.sync_directory()?;
        return Ok(id);
    }
    let block = superblock(store, names)?;
    if block.node != node {
        return Err(OpenError::OtherNode { found: block.node, own: node });
    }
    Ok(block.store)
}

/// The superblock of a directory that has one.
pub(super) fn superblock<S: Store>(store: &mut S, names: &[String]) -> Result<SegmentHeader, OpenError> {
    let file = store.open(SUPERBLOCK)?;
    let length = file.length()?;
    let block = match read_header(&file, length) {
        Err(error) if is_unreadable(&error) => None,
        block => block?,
    };
    if block.is_none()
        && let Some(version) = read_version(&file, length)
    {
        let text = format!("its format has version {version}, and this program reads version {FORMAT}");
        return Err(OpenError::NoQueue(text));
    }
    block
        .or_else(|| told_by_segments(store, names))
        .ok_or_else(|| OpenError::NoQueue(format!("the file `{SUPERBLOCK}` is damaged, or from another version")))
}

/// The version of a queue's file whose format is another one's.
fn read_version(file: &impl File, size: u64) -> Option<u8> {
    let mut bytes = vec![0; HEADER];
    if size < HEADER as u64 {
        return None;
    }
    file.read_at(&mut bytes, 0).ok()?;
    SegmentHeader::version(&bytes).filter(|version| *version != FORMAT)
}

/// The header of a file of this size, if it has one.
fn read_header(file: &impl File, size: u64) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = vec![0; HEADER];
    if size < HEADER as u64 {
        return Ok(None);
    }
    file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::from_bytes(&bytes))
}

/// Store and node according to the segments, if all that can be read agree: for a superblock that is damaged.
fn told_by_segments<S: Store>(store: &mut S, names: &[String]) -> Option<SegmentHeader> {
    let mut told = None::<SegmentHeader>;
    for name in names.iter().filter(|name| name.ends_with(".segment")) {
        let file = store.open(name).ok()?;
        let Ok(Some(header)) = read_header(&file, file.length().ok()?) else { continue };
        if told.is_some_and(|told| (told.store, told.node) != (header.store, header.node)) {
            return None;
        }
        told = Some(header);
    }
    if told.is_some() {
        warn!("the file `{SUPERBLOCK}` is damaged: the segments say whose directory this is");
    }
    told
}

type FilesOf<S> = (Vec<Found<<S as Store>::File>>, Vec<String>);

/// The scan of one of these segments; `None` if it has no header.
pub(super) fn scan_of<F>(found: &[Found<F>], at: usize) -> Option<Scan> {
    let segment = &found[at];
    let next = found.get(at + 1).and_then(|next| next.header);
    let end = next.and_then(|next| next.cut).filter(|(number, _)| *number == u64::from(segment.number));
    Some(Scan {
        origin: segment.header?.origin,
        number: segment.number,
        end: end.map_or(segment.size, |(_, offset)| offset),
        lasting: end.is_some() || at + 1 < found.len(),
    })
}

/// Turns a segment's file into a spare, if it has the size that segments have now; returns the spare's name.
fn make_spare<S: Store>(store: &mut S, number: u32, size: u64, layout: Layout) -> io::Result<Option<String>> {
    let name = segment_name(number);
    if size != layout.segment_size || store.is_backed_up(&name)? {
        store.remove(&name)?;
        return Ok(None);
    }
    let spare = format!("spare-9{number:07}");
    store.rename(&name, &spare)?;
    Ok(Some(spare))
}

/// The segments, by number, and the names of the spares. Spares of another size, as from another configuration, are removed:
/// their space is not the space that a segment needs.
fn find<S: Store>(store: &mut S, names: &[String], id: u128, size: u64) -> Result<FilesOf<S>, OpenError> {
    let mut spares = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("spare-")) {
        if store.open(name)?.length()? == size {
            spares.push(name.clone());
        } else {
            store.remove(name)?;
        }
    }
    spares.sort();
    Ok((segments(store, names, id)?, spares))
}

/// The segments of a store, by number.
pub(super) fn segments<S: Store>(store: &mut S, names: &[String], id: u128) -> io::Result<Vec<Found<S::File>>> {
    let mut found = Vec::new();
    for name in names {
        let Some(number) = name.strip_suffix(".segment").and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let file = store.open(name)?;
        let size = file.length()?;
        let (header, unreadable) = match read_header(&file, size) {
            Err(error) if is_unreadable(&error) => (None, true),
            header => (header?, false),
        };
        let header = header.filter(|header| header.origin.number == u64::from(number) && header.store == id);
        found.push(Found { number, file: Arc::new(file), size, header, unreadable });
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

fn next_spare(spares: &[String]) -> u64 {
    let numbers = spares.iter().filter_map(|name| name.strip_prefix("spare-")?.parse::<u64>().ok());
    numbers.max().map_or(1, |last| last + 1)
}
