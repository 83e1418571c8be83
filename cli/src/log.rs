//! Logs of the command: on stderr, and in a file that is put aside when it is long.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Mutex,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::writer::{BoxMakeWriter, MakeWriterExt},
};

/// Where logs go, and how much is logged.
#[derive(Debug, PartialEq)]
pub(crate) struct Log {
    /// Filter of `tracing` where `RUST_LOG` says nothing; `None`: that of the command.
    pub(crate) level: Option<&'static str>,
    pub(crate) to_console: bool,
    pub(crate) file: Option<LogFile>,
}

/// A log file, and the bytes beyond which it is put aside as `FILE.1`; none: never.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) most: Option<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: None, to_console: true, file: None }
    }
}

impl Log {
    /// Begins to log, with this filter where nothing else is said.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn start(self, default: &str) -> Result<(), String> {
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(self.level.unwrap_or(default)));
        let file = self.file.map(|file| {
            let path = file.path.display().to_string();
            Rotated::open(file).map(Mutex::new).map_err(|error| format!("log: {path}: {error}"))
        });
        let (file, console) = (file.transpose()?, self.to_console);
        let writes_colours = file.is_none() && io::stderr().is_terminal();
        let writer = match (console, file) {
            (true, Some(file)) => BoxMakeWriter::new(io::stderr.and(file)),
            (false, Some(file)) => BoxMakeWriter::new(file),
            (_, None) => BoxMakeWriter::new(io::stderr),
        };
        // Where stderr takes nothing, as a file on a full disk, the command goes on without a log.
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_ansi(writes_colours)
            .log_internal_errors(false)
            .init();
        Ok(())
    }
}

/// A file that is put aside when it would be too long.
struct Rotated {
    about: LogFile,
    file: File,
    bytes: u64,
}

impl Rotated {
    fn open(about: LogFile) -> io::Result<Self> {
        if let Some(directory) = about.path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&about.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { about, file, bytes })
    }
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.about.most.is_some_and(|most| self.bytes + line.len() as u64 > most) {
            let mut aside = self.about.path.clone().into_os_string();
            aside.push(".1");
            fs::rename(&self.about.path, aside)?;
            *self = Self::open(self.about.clone())?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/node.log");
        let mut log = Rotated::open(LogFile { path: path.clone(), most: Some(10) }).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join("logs").join(name)).unwrap();
        assert_eq!([read("node.log.1"), read("node.log")], ["three\n", "four\n"]);
        drop(log);
        let mut log = Rotated::open(LogFile { path, most: None }).unwrap();
        log.write_all(&[b'x'; 100]).unwrap();
        assert!(read("node.log").starts_with("four\nxxx"));
    }
}
