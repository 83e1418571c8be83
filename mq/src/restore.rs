//! A directory made from a backup.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::{
    OpenError,
    segment::{HEADER, SegmentHeader},
    store::{ReadOnly, Store, new_file, sync_directory},
};

/// Name of the superblock.
const SUPERBLOCK: &str = "store";

/// Reason for which a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The directory to restore to has something in it.
    #[error("{}: the directory is not empty: restore to a new one", .0.display())]
    NotEmpty(PathBuf),
    /// The backup cannot be read.
    #[error("the backup cannot be read: {0}")]
    Backup(OpenError),
    /// The directory cannot be written. What is in it is no queue yet: remove it, and restore again.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
}

/// Copies a backup to a directory, which is made, or is empty; returns the number of segments. The copy is a store of its own:
/// receipts of the store that was backed up are refused by it, and a node on it is refused where a node on that store is
/// listed. Reads and writes the disk: not for a runtime's thread.
///
/// The backup is not checked for damage; [`Survey::verify`](crate::Survey::verify) does that.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(backup: &Path, directory: &Path) -> Result<u64, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io { path, error }
    };
    let source = ReadOnly::open(backup).map_err(|error| RestoreError::Backup(OpenError::Io(error)))?;
    let mut names = source.names().map_err(at(backup))?;
    if !names.iter().any(|name| name == SUPERBLOCK) {
        let text = format!("the file `{SUPERBLOCK}` is missing");
        return Err(RestoreError::Backup(OpenError::NoQueue(text)));
    }
    fs::create_dir_all(directory).map_err(at(directory))?;
    if fs::read_dir(directory).map_err(at(directory))?.next().is_some() {
        return Err(RestoreError::NotEmpty(directory.to_owned()));
    }
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    let id = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
    // The superblock comes last: until it is there, no node takes the directory for a queue.
    for name in names.iter().map(String::as_str).chain([SUPERBLOCK]) {
        let (from, to) = (backup.join(name), directory.join(name));
        copy(&from, &to, id).map_err(at(&to))?;
        if Some(name) == names.last().map(String::as_str) {
            sync_directory(directory).map_err(at(directory))?;
        }
    }
    sync_directory(directory).map_err(at(directory))?;
    Ok(names.len() as u64)
}

/// Copies one file durably, under another store's id. A header that cannot be read is copied as it is.
fn copy(from: &Path, to: &Path, store: u128) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = new_file().create_new(true).open(to)?;
    let mut header = vec![0; HEADER.min(usize::try_from(from.metadata()?.len()).unwrap_or(HEADER))];
    from.read_exact(&mut header)?;
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    if let Some(found) = SegmentHeader::from_bytes(&header) {
        to.rewind()?;
        to.write_all(&SegmentHeader { store, ..found }.to_bytes())?;
    }
    to.sync_all()
}
