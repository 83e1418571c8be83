//! Disk in memory that forgets unsynced bytes, and fails when it is told to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, ErrorKind},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{File, Store};

/// Bytes that a disk writes at once, or not at all, or in part.
const SECTOR: usize = 512;

/// The disk, for a test that watches and breaks it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<u64, Bytes>,
    names: BTreeMap<String, u64>,
    /// The names at the last sync of the directory.
    synced_names: BTreeMap<String, u64>,
    /// The names after each step since.
    name_steps: Vec<BTreeMap<String, u64>>,
    next: u64,
    /// How many more operations succeed.
    left: Option<u64>,
    /// Only this kind of operation fails.
    fails: Option<Operation>,
    /// Bytes of files that cannot be read until they are written again.
    bad: HashMap<u64, Vec<Range<usize>>>,
    /// How many more bytes can be reserved.
    space: Option<u64>,
}

/// Operations that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Sync,
}

#[derive(Debug, Default)]
struct Bytes {
    synced: Vec<u8>,
    written: Vec<u8>,
    /// Sectors that differ, perhaps.
    unsynced: BTreeSet<usize>,
}

impl Faulty {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// After so many more operations every one fails, as if the power had gone.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.lock().left = Some(operations);
    }

    /// From now on every operation of this kind fails.
    pub(crate) fn fail(&self, operation: Operation) {
        self.lock().fails = Some(operation);
    }

    /// From now on these bytes of a file cannot be read.
    pub(crate) fn ruin(&self, name: &str, bytes: Range<usize>) {
        let mut inner = self.lock();
        let file = inner.names[name];
        inner.bad.entry(file).or_default().push(bytes);
    }

    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.lock().space = bytes;
    }

    /// The power comes back. Unsynced bytes are gone.
    pub(crate) fn lose(&self) {
        let mut inner = self.lock();
        (inner.left, inner.fails) = (None, None);
        for file in inner.files.values_mut() {
            file.unsynced.clear();
            file.written.clone_from(&file.synced);
        }
        inner.name_steps.clear();
        inner.names = inner.synced_names.clone();
    }

    /// The power comes back. Any part of the unsynced bytes is there: sectors new, old, or torn; names up to some step.
    pub(crate) fn crash(&self, random: &mut fastrand::Rng) {
        let mut inner = self.lock();
        (inner.left, inner.fails) = (None, None);
        for file in inner.files.values_mut() {
            for sector in std::mem::take(&mut file.unsynced) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(file.written.len());
                let kept = match random.u8(..4) {
                    0 => 0,
                    1 => random.usize(..=range.len()),
                    _ => range.len(),
                };
                let kept = range.start..range.start + kept;
                file.synced[kept.clone()].copy_from_slice(&file.written[kept]);
            }
            file.written.clone_from(&file.synced);
        }
        let steps = std::mem::take(&mut inner.name_steps);
        let reached = random.usize(..=steps.len());
        inner.names = reached.checked_sub(1).map_or_else(|| inner.synced_names.clone(), |last| steps[last].clone());
        inner.synced_names = inner.names.clone();
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&self, name: &str, byte: usize, bit: u8) {
        let mut inner = self.lock();
        let file = inner.names[name];
        let bytes = inner.files.get_mut(&file).unwrap();
        bytes.synced[byte] ^= 1 << bit;
        bytes.written[byte] ^= 1 << bit;
    }

    /// A file as it is.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let inner = self.lock();
        inner.files[&inner.names[name]].written.clone()
    }

    pub(crate) fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut inner = self.lock();
        let file = inner.names[name];
        inner.files.insert(file, Bytes { synced: bytes.clone(), written: bytes, unsynced: BTreeSet::new() });
    }

    /// A disk with the same content.
    pub(crate) fn copy(&self) -> Self {
        let inner = self.lock();
        let copy = Self::default();
        let mut new = copy.lock();
        new.names = inner.names.clone();
        new.synced_names = inner.names.clone();
        new.next = inner.next;
        new.files = inner
            .files
            .iter()
            .map(|(number, file)| {
                let bytes = file.written.clone();
                (*number, Bytes { synced: bytes.clone(), written: bytes, unsynced: BTreeSet::new() })
            })
            .collect();
        drop(new);
        copy
    }
}

impl Inner {
    fn begin(&mut self, operation: Option<Operation>) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Err(io::Error::other("the power is gone"));
            }
            *left -= 1;
        }
        if operation.is_some() && self.fails == operation {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }

    fn name_step(&mut self) {
        self.name_steps.push(self.names.clone());
    }
}

impl Store for Faulty {
    type File = FaultyFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn create(&mut self, name: &str, length: u64) -> io::Result<FaultyFile> {
        let mut inner = self.lock();
        inner.begin(Some(Operation::Create))?;
        if let Some(space) = &mut inner.space {
            if *space < length {
                return Err(ErrorKind::StorageFull.into());
            }
            *space -= length;
        }
        inner.next += 1;
        let number = inner.next;
        let zeros = vec![0; length as usize];
        inner.files.insert(number, Bytes { synced: zeros.clone(), written: zeros, unsynced: BTreeSet::new() });
        inner.names.insert(name.to_owned(), number);
        inner.name_step();
        Ok(FaultyFile { disk: self.clone(), number })
    }

    fn open(&mut self, name: &str) -> io::Result<FaultyFile> {
        let number = self.lock().names.get(name).copied();
        let number = number.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        Ok(FaultyFile { disk: self.clone(), number })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(None)?;
        let number = inner.names.remove(from).ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        inner.names.insert(to.to_owned(), number);
        inner.name_step();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(None)?;
        let number = inner.names.remove(name).ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        let length = inner.files[&number].written.len() as u64;
        let is_last = !inner.names.values().any(|other| *other == number);
        if is_last && let Some(space) = &mut inner.space {
            *space += length;
        }
        inner.name_step();
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Some(Operation::Sync))?;
        inner.synced_names = inner.names.clone();
        inner.name_steps.clear();
        Ok(())
    }

    fn has_backup(&self, backup: &str) -> io::Result<bool> {
        let path = format!("backups/{backup}/");
        Ok(self.lock().names.keys().any(|name| name.starts_with(&path)))
    }

    fn back_up(&mut self, backup: &str, names: &[String]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Some(Operation::Sync))?;
        for name in names {
            let number = inner.names[name];
            inner.names.insert(format!("backups/{backup}/{name}"), number);
        }
        inner.synced_names = inner.names.clone();
        inner.name_steps.clear();
        Ok(())
    }

    fn is_backed_up(&mut self, name: &str) -> io::Result<bool> {
        let inner = self.lock();
        let number = inner.names[name];
        Ok(inner.names.values().filter(|other| **other == number).count() > 1)
    }
}

#[derive(Debug)]
pub(crate) struct FaultyFile {
    disk: Faulty,
    number: u64,
}

impl FaultyFile {
    fn sync_sectors(&self, sectors: Range<usize>) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.begin(Some(Operation::Sync))?;
        let file = inner.files.get_mut(&self.number).unwrap();
        for sector in file.unsynced.extract_if(sectors, |_| true) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(file.written.len());
            file.synced[range.clone()].copy_from_slice(&file.written[range]);
        }
        Ok(())
    }
}

impl File for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[&self.number].written.len() as u64)
    }

    fn first_hole(&self) -> io::Result<u64> {
        let inner = self.disk.lock();
        let bytes = &inner.files[&self.number].written;
        Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.lock();
        let bytes = &inner.files[&self.number].written;
        let (start, end) = (offset as usize, offset as usize + buffer.len());
        if inner.bad.get(&self.number).is_some_and(|bad| bad.iter().any(|bad| bad.start < end && bad.end > start)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let found = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let begun = inner.begin(Some(Operation::Write));
        let file = inner.files.get_mut(&self.number).unwrap();
        let start = offset as usize;
        // A write that fails may have been done all the same.
        file.written[start..start + bytes.len()].copy_from_slice(bytes);
        file.unsynced.extend(start / SECTOR..(start + bytes.len()).div_ceil(SECTOR));
        begun
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_sectors(0..usize::MAX)
    }

    fn write_synced_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)?;
        let start = offset as usize;
        self.sync_sectors(start / SECTOR..(start + bytes.len()).div_ceil(SECTOR))
    }
}
