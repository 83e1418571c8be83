//! The file of changes: appended to and synced, and written anew from time to time.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::record::{self, Change, Fault};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process has it open")]
    InUse,
    /// It was changed by something else than a node: what comes after the damage would be lost.
    #[error(
        "{file} is damaged after byte {offset}, and more follows: restore it, or move it away to start on an empty store"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: usize,
    },
    /// A later version wrote it.
    #[error(
        "{file} says after byte {offset} what this version does not know: start the version that wrote it, or a later one"
    )]
    Unknown {
        /// The file.
        file: PathBuf,
        /// Where that begins.
        offset: usize,
    },
    /// What the system says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The open file, in a directory that is locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    file: File,
    length: usize,
    /// What it had when it was last written anew.
    least: usize,
    _lock: File,
}

impl Log {
    const NAME: &str = "changes";
    const NEXT: &str = "changes.next";
    const LOCK: &str = "lock";

    /// Opens the directory, which is made if it is not there, and returns the changes in it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Vec<Change>), OpenError> {
        fs::create_dir_all(directory)?;
        let lock = File::create(directory.join(Self::LOCK))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => OpenError::InUse,
            fs::TryLockError::Error(error) => error.into(),
        })?;
        let path = directory.join(Self::NAME);
        let file = File::options().read(true).append(true).create(true).open(&path)?;
        let bytes = fs::read(&path)?;
        let lines = record::read(&bytes);
        let offset = lines.whole;
        match lines.fault {
            Some(Fault::Damage) => return Err(OpenError::Damaged { file: path, offset }),
            Some(Fault::Unknown) => return Err(OpenError::Unknown { file: path, offset }),
            None => {}
        }
        let log = Self { directory: directory.to_owned(), file, length: bytes.len(), least: 0, _lock: lock };
        Ok((log, lines.changes))
    }

    /// Appends these, and returns when they are on the disk. After an error nothing is known of any of them.
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        let bytes = lines(changes)?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len();
        Ok(())
    }

    /// Whether it has grown so much that it should be written anew.
    pub(crate) fn is_long(&self) -> bool {
        self.length > (4 * self.least).max(1 << 20)
    }

    /// Puts a file of these in the place of the one that is there: a crash leaves the one or the other.
    pub(crate) fn rewrite(&mut self, changes: &[Change]) -> io::Result<()> {
        let next = self.directory.join(Self::NEXT);
        let bytes = lines(changes)?;
        let mut file = File::options().write(true).create(true).truncate(true).open(&next)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&next, self.directory.join(Self::NAME))?;
        File::open(&self.directory)?.sync_all()?;
        self.file = file;
        (self.length, self.least) = (bytes.len(), bytes.len());
        Ok(())
    }
}

fn lines(changes: &[Change]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for change in changes {
        bytes.extend_from_slice(&record::line(change)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(id: u16) -> Change {
        Change::Leave { revision: id.into(), id }
    }

    #[test]
    fn what_was_appended_and_rewritten_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, found) = Log::open(directory.path()).unwrap();
        assert_eq!(found, []);
        log.append(&[leave(1), leave(2)]).unwrap();
        log.append(&[leave(3)]).unwrap();
        assert!(matches!(Log::open(directory.path()), Err(OpenError::InUse)));
        drop(log);
        let (mut log, found) = Log::open(directory.path()).unwrap();
        assert_eq!(found, [leave(1), leave(2), leave(3)]);
        log.rewrite(&found[2..]).unwrap();
        log.append(&[leave(4)]).unwrap();
        drop(log);
        assert_eq!(Log::open(directory.path()).unwrap().1, [leave(3), leave(4)]);
    }

    #[test]
    fn damage_is_an_error_and_a_cut_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(directory.path()).unwrap();
        log.append(&[leave(1), leave(2), leave(3)]).unwrap();
        drop(log);
        let path = directory.path().join(Log::NAME);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(Log::open(directory.path()).unwrap().1, [leave(1), leave(2)]);

        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&path, damaged).unwrap();
        let error = Log::open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}
