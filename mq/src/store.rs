//! Interface between the log and a disk, and the real disk.

use std::{
    fs,
    io::{self, ErrorKind, IoSlice},
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use metrics::histogram;
use rustix::{
    fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate, seek},
    io::{Errno, ReadWriteFlags, pwritev2},
};

/// One directory of files. Nothing is certain before it is synced: bytes by [`File::sync`], names by
/// [`sync_directory`](Self::sync_directory).
pub trait Store: Send + 'static {
    /// One of its files.
    type File: File;

    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `length` bytes whose space is reserved. An error of the kind [`ErrorKind::StorageFull`] means
    /// that the disk is full, and nothing else does.
    fn create(&mut self, name: &str, length: u64) -> io::Result<Self::File>;

    /// Opens a file that is there.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, and replaces a file of that name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file and gives its space back.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes names certain.
    fn sync_directory(&mut self) -> io::Result<()>;

    /// Returns true if there is a backup of this name.
    fn has_backup(&self, backup: &str) -> io::Result<bool>;

    /// Gives files that are not written any more a second name in a new directory, `backups/{backup}`: all of them or none,
    /// and durable.
    fn back_up(&mut self, backup: &str, names: &[String]) -> io::Result<()>;

    /// Returns true if the file has another name: it must not be written again.
    fn is_backed_up(&mut self, name: &str) -> io::Result<bool>;
}

/// An open file. Reads may run beside writes.
pub trait File: Send + Sync + 'static {
    /// In bytes.
    fn length(&self) -> io::Result<u64>;

    /// Where its first bytes are that are reserved and were never written: its length, if there are none or nobody knows.
    fn first_hole(&self) -> io::Result<u64> {
        self.length()
    }

    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Announces a read of `length` bytes from `offset` on. A hint, which may do nothing.
    fn read_ahead(&self, _offset: u64, _length: u64) {}

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Starts the writeback of these bytes without waiting for it. A hint, which may do nothing.
    fn write_out(&self, _offset: u64, _length: u64) {}

    /// Makes all that was written certain. After an error nothing is known of any of it.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` and makes them durable, but no earlier writes. After an error nothing is
    /// known of anything that was not certain.
    fn write_synced_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)?;
        self.sync()
    }
}

/// A directory on a disk, locked for as long as this lives.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    lock: fs::File,
}

impl Disk {
    const LOCK: &str = "lock";
    const BACKUPS: &str = "backups";

    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// Another process has it open; or whatever the system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock = new_file().truncate(true).open(directory.join(Self::LOCK))?;
        lock.try_lock().map_err(|error| locked(directory, error))?;
        Ok(Self { directory: directory.to_owned(), lock })
    }
}

/// Options for a file that its owner alone can read.
pub(crate) fn new_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn locked(directory: &Path, error: fs::TryLockError) -> io::Error {
    match error {
        fs::TryLockError::WouldBlock => {
            let text = format!("{}: another process has this queue open", directory.display());
            io::Error::new(ErrorKind::WouldBlock, text)
        }
        fs::TryLockError::Error(error) => error,
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // To close it would not do: a child that this process is just starting may have a copy of it.
        let _ = self.lock.unlock();
    }
}

impl Store for Disk {
    type File = fs::File;

    fn names(&self) -> io::Result<Vec<String>> {
        names(&self.directory)
    }

    fn create(&mut self, name: &str, length: u64) -> io::Result<fs::File> {
        let path = self.directory.join(name);
        let file = new_file().truncate(true).open(&path)?;
        let reserved = match fallocate(&file, FallocateFlags::empty(), 0, length) {
            // The file system cannot reserve.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file, length),
            reserved => reserved.map_err(io::Error::from),
        };
        if let Err(error) = reserved {
            // The part that was reserved is of no use.
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(file)
    }

    fn open(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(self.directory.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        sync_directory(&self.directory)
    }

    fn has_backup(&self, backup: &str) -> io::Result<bool> {
        self.directory.join(Self::BACKUPS).join(backup).try_exists()
    }

    fn back_up(&mut self, backup: &str, names: &[String]) -> io::Result<()> {
        let backups = self.directory.join(Self::BACKUPS);
        let (unfinished, finished) = (backups.join(format!(".{backup}")), backups.join(backup));
        // Left by a node that ended meanwhile.
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&unfinished)?,
        }
        for name in names {
            fs::hard_link(self.directory.join(name), unfinished.join(name))?;
        }
        sync_directory(&unfinished)?;
        fs::rename(&unfinished, &finished)?;
        sync_directory(&backups)?;
        sync_directory(&self.directory)
    }

    fn is_backed_up(&mut self, name: &str) -> io::Result<bool> {
        Ok(fs::metadata(self.directory.join(name))?.nlink() > 1)
    }
}

/// Names of a directory's files, without its lock and its backups.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != Disk::LOCK && name != Disk::BACKUPS {
            names.push(name);
        }
    }
    Ok(names)
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// A directory that is only read. No node has it open while this lives.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    directory: PathBuf,
    /// `None`: no node ever had the directory open, as with a backup.
    lock: Option<fs::File>,
}

impl ReadOnly {
    /// Locks the directory, if a node may have it open.
    ///
    /// # Errors
    /// A node has it open; or whatever the system says.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::read_dir(directory)?;
        let lock = match fs::File::open(directory.join(Disk::LOCK)) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            lock => Some(lock?),
        };
        if let Some(lock) = &lock {
            lock.try_lock_shared().map_err(|error| locked(directory, error))?;
        }
        Ok(Self { directory: directory.to_owned(), lock })
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // Closing alone would not unlock it: a child process may have a copy.
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

impl Store for ReadOnly {
    type File = fs::File;

    fn names(&self) -> io::Result<Vec<String>> {
        names(&self.directory)
    }

    fn open(&mut self, name: &str) -> io::Result<fs::File> {
        fs::File::open(self.directory.join(name))
    }

    fn create(&mut self, _: &str, _: u64) -> io::Result<fs::File> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn has_backup(&self, backup: &str) -> io::Result<bool> {
        self.directory.join(Disk::BACKUPS).join(backup).try_exists()
    }

    fn back_up(&mut self, _: &str, _: &[String]) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn is_backed_up(&mut self, name: &str) -> io::Result<bool> {
        Ok(fs::metadata(self.directory.join(name))?.nlink() > 1)
    }
}

/// Writes zeros: the space is taken, as by a reservation.
fn fill(file: &fs::File, length: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    for offset in (0..length).step_by(ZEROS.len()) {
        let part = (length - offset).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..part as usize], offset)?;
    }
    file.sync_all()
}

impl File for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn first_hole(&self) -> io::Result<u64> {
        seek(self, SeekFrom::Hole(0)).or_else(|_| self.length())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn read_ahead(&self, offset: u64, length: u64) {
        advise(self, offset, length, Advice::WillNeed);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn write_out(&self, offset: u64, length: u64) {
        // Linux begins to write what is to be dropped, and keeps it until that is done.
        advise(self, offset, length, Advice::DontNeed);
    }

    fn sync(&self) -> io::Result<()> {
        let begin = Instant::now();
        self.sync_data()?;
        histogram!("ms_mq_sync_seconds").record(begin.elapsed());
        Ok(())
    }

    fn write_synced_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let begin = Instant::now();
        while !bytes.is_empty() {
            match pwritev2(self, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => (bytes, offset) = (&bytes[written..], offset + written as u64),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    File::write_at(self, bytes, offset)?;
                    return self.sync();
                }
                Err(error) => return Err(error.into()),
            }
        }
        histogram!("ms_mq_sync_seconds").record(begin.elapsed());
        Ok(())
    }
}

/// Returns true if the error says that these bytes cannot be read, whatever else can be: their checksum is wrong, the sector
/// is bad, or the file is shorter than it was.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let bad = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::REMOTEIO];
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        || error.raw_os_error().is_some_and(|code| bad.iter().any(|bad| bad.raw_os_error() == code))
}

fn advise(file: &fs::File, offset: u64, length: u64, advice: Advice) {
    // No length would mean all of the file.
    if let Some(length) = NonZeroU64::new(length) {
        // The result is of no use: the reading or writing itself will tell.
        let _ = fadvise(file, offset, Some(length), advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Disk::open(directory.path()).unwrap();
        let error = Disk::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        // As a child has it that another thread is just starting.
        let _copy = first.lock.try_clone().unwrap();
        drop(first);
        let mut again = Disk::open(directory.path()).unwrap();
        File::write_at(&again.create("a", 10_000).unwrap(), b"text", 5000).unwrap();
        assert_eq!(again.names().unwrap(), ["a"]);
        let file = again.open("a").unwrap();
        let mut text = [0; 4];
        File::read_at(&file, &mut text, 5000).unwrap();
        assert_eq!((&text, file.length().unwrap()), (b"text", 10_000));
        File::write_at(&file, &[1; 4500], 0).unwrap();
        let hole = file.first_hole().unwrap();
        assert!((5004..=10_000).contains(&hole), "{hole}");

        File::write_synced_at(&file, b"more", 5004).unwrap();
        file.write_out(0, 10_000);
        let mut text = [0; 9];
        File::read_at(&file, &mut text, 5000).unwrap();
        assert_eq!(&text, b"textmore\0");
    }
}

#[cfg(test)]
pub(crate) mod faulty;
