//! The file of changes: appended to and synced, and written anew from time to time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use crate::record::{self, Change, Fault};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process has it open")]
    InUse,
    /// The file was changed by another program: the lines after the damage would be lost.
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
    /// Error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The disk takes nothing at the moment, for this reason. Confirmed changes are durable, and shown.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the disk of the node cannot be written, and nothing is changed until it can: {0}")]
pub(crate) struct Unwritten(Arc<str>);

/// The open file, in a directory that is locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    file: File,
    length: usize,
    /// Its length when it was last rewritten.
    least: usize,
    /// True after a failed sync or rename: the content on the disk is not known, so the file is rewritten before anything is appended.
    is_doubtful: bool,
    /// When it failed to be written anew.
    rewrite_failed: Option<Instant>,
    /// True if the last write failed.
    is_failing: bool,
    _lock: Lock,
}

/// A locked file.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(path: &Path) -> Result<Self, OpenError> {
        let file = for_owner().write(true).truncate(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it would not do: a child that this process is just starting may have a copy of it.
        let _ = self.0.unlock();
    }
}

impl Log {
    const NAME: &str = "changes";
    const NEXT: &str = "changes.next";
    const LOCK: &str = "lock";
    /// To write all of it in vain takes a while: not more often than this.
    const REWRITE_AGAIN: Duration = Duration::from_secs(1);

    /// Opens the directory, which is made if it is not there, and returns the changes in it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Vec<Change>), OpenError> {
        fs::create_dir_all(directory)?;
        let lock = Lock::take(&directory.join(Self::LOCK))?;
        let path = directory.join(Self::NAME);
        let file = for_owner().read(true).append(true).open(&path)?;
        let bytes = fs::read(&path)?;
        let lines = record::read(&bytes);
        let offset = lines.whole;
        match lines.fault {
            Some(Fault::Damage) => return Err(OpenError::Damaged { file: path, offset }),
            Some(Fault::Unknown) => return Err(OpenError::Unknown { file: path, offset }),
            None => {}
        }
        let log = Self {
            directory: directory.to_owned(),
            file,
            length: lines.whole,
            least: 0,
            is_doubtful: false,
            rewrite_failed: None,
            is_failing: false,
            _lock: lock,
        };
        Ok((log, lines.changes))
    }

    /// Writes the file anew, after it was read: these are what it holds. Where there is no room for that it stays as it is.
    pub(crate) fn settle(&mut self, all: &[Change]) -> io::Result<()> {
        let Err(error) = self.rewrite(all) else { return Ok(()) };
        if self.length == 0 {
            return Err(error);
        }
        // Truncate the torn tail, then fsync: earlier lines may not have reached the disk.
        self.file.set_len(self.length as u64)?;
        self.file.sync_all()?;
        warn!("{} is full of what is over, and could not be written anew: {error}", self.path(Self::NAME).display());
        Ok(())
    }

    /// Returns when these changes, which lead to `all`, are on the disk. After an error a crash may bring them back or not,
    /// and the next call must be for others in their place.
    pub(crate) fn write(&mut self, changes: &[Change], all: impl Fn() -> Vec<Change>) -> Result<(), Unwritten> {
        let appended = if self.is_doubtful { Err(io::Error::other("it is in doubt")) } else { self.append(changes) };
        let may_rewrite =
            self.is_doubtful || self.rewrite_failed.is_none_or(|failed| failed.elapsed() >= Self::REWRITE_AGAIN);
        let written = if may_rewrite && (appended.is_err() || self.is_long()) {
            let rewritten = self.rewrite(&all());
            self.rewrite_failed = rewritten.is_err().then(Instant::now);
            // The appended lines are there, whether or not the new file is.
            appended.or(rewritten)
        } else {
            appended
        };
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        let file = self.path(Self::NAME);
        match &written {
            Ok(()) if was_failing => info!("{} can be written again", file.display()),
            Err(error) if !was_failing => error!("{} cannot be written: {error}", file.display()),
            Ok(()) | Err(_) => {}
        }
        written.map_err(|error| Unwritten(error.to_string().into()))
    }

    /// Appends these, and returns when they are on the disk.
    fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        let bytes = lines(changes)?;
        if let Err(error) = self.file.write_all(&bytes) {
            // A part of these lines must not stand before the next ones.
            self.is_doubtful = self.file.set_len(self.length as u64).is_err();
            return Err(error);
        }
        // After a failed sync, the next one says nothing about the earlier writes.
        self.file.sync_data().inspect_err(|_| self.is_doubtful = true)?;
        self.length += bytes.len();
        Ok(())
    }

    /// Returns true if the file has grown so much that it should be rewritten.
    fn is_long(&self) -> bool {
        self.length > (4 * self.least).max(1 << 20)
    }

    /// Replaces the file by one with these changes: a crash leaves either the old file or the new one.
    fn rewrite(&mut self, changes: &[Change]) -> io::Result<()> {
        let next = self.path(Self::NEXT);
        let (file, length) = write_file(&next, changes).inspect_err(|_| {
            // A half-written file takes room that may be missing. An error here means that it does not exist.
            let _ = fs::remove_file(&next);
        })?;
        fs::rename(&next, self.path(Self::NAME))?;
        self.file = file;
        (self.length, self.least) = (length, length);
        // Until the directory is on the disk, a crash may bring the old file back.
        self.is_doubtful = true;
        File::open(&self.directory)?.sync_all()?;
        self.is_doubtful = false;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Options for a file that is made if it is missing, and that its owner alone can read.
fn for_owner() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

/// A file of these that is on the disk, and its length.
fn write_file(path: &Path, changes: &[Change]) -> io::Result<(File, usize)> {
    let bytes = lines(changes)?;
    let mut file = for_owner().append(true).open(path)?;
    file.set_len(0)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len()))
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
        log.write(&[leave(1), leave(2)], Vec::new).unwrap();
        log.write(&[leave(3)], Vec::new).unwrap();
        assert!(matches!(Log::open(directory.path()), Err(OpenError::InUse)));
        // As a child has it that another thread is just starting.
        let _copy = log._lock.0.try_clone().unwrap();
        drop(log);
        let (mut log, found) = Log::open(directory.path()).unwrap();
        assert_eq!(found, [leave(1), leave(2), leave(3)]);
        log.rewrite(&found[2..]).unwrap();
        log.write(&[leave(4)], Vec::new).unwrap();
        drop(log);
        assert_eq!(Log::open(directory.path()).unwrap().1, [leave(3), leave(4)]);
    }

    #[test]
    fn damage_is_an_error_and_a_cut_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(directory.path()).unwrap();
        log.write(&[leave(1), leave(2), leave(3)], Vec::new).unwrap();
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

    /// As after a sync that failed: what of the file is on the disk nobody knows.
    #[test]
    fn a_file_in_doubt_is_written_anew_before_anything_is_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(directory.path()).unwrap();
        log.write(&[leave(1)], Vec::new).unwrap();
        log.is_doubtful = true;
        // The new file cannot be made: somebody has put a directory there.
        let next = directory.path().join(Log::NEXT);
        fs::create_dir(&next).unwrap();
        for _ in 0..2 {
            let error = log.write(&[leave(2)], || vec![leave(1), leave(2)]).unwrap_err();
            assert!(error.to_string().contains("Is a directory"), "{error}");
            assert_eq!(record::read(&fs::read(directory.path().join(Log::NAME)).unwrap()).changes, [leave(1)]);
        }
        fs::remove_dir(&next).unwrap();
        log.write(&[leave(3)], || vec![leave(1), leave(3)]).unwrap();
        log.write(&[leave(4)], Vec::new).unwrap();
        drop(log);
        assert_eq!(Log::open(directory.path()).unwrap().1, [leave(1), leave(3), leave(4)]);
    }
}
