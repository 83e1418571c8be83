use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
};

use tempfile::TempDir;

use crate::{Failure, process::Process};

/// A process with arguments of a test's choice, in a directory of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Program {
    process: Process,
    log: PathBuf,
    /// Removed with the last program in it.
    directory: Arc<TempDir>,
    said: String,
}

impl Program {
    /// A directory for programs, which is removed with the last of them.
    ///
    /// # Errors
    /// The system refuses.
    pub fn directory() -> Result<Arc<TempDir>, Failure> {
        Ok(Arc::new(tempfile::Builder::new().prefix("ms-program-").tempdir()?))
    }

    /// Starts a program in this directory, and waits for its first line.
    ///
    /// # Errors
    /// The program does not start, or says nothing within 30 s; the text has its stderr.
    pub async fn start(directory: &Arc<TempDir>, executable: &str, arguments: &[&str]) -> Result<Self, Failure> {
        let log = directory.path().join(format!("log-{}", fastrand::u64(..)));
        let mut command = Command::new(executable);
        command.args(arguments).current_dir(directory.path()).stdin(Stdio::piped());
        let mut process = Process::start(&mut command, &log)?;
        let mut said = String::new();
        process
            .ready(|line| {
                said = line.to_owned();
                true
            })
            .await?;
        Ok(Self { process, log, directory: directory.clone(), said })
    }

    /// First line of its stdout.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Last word of its first line, as an address or a port.
    pub fn address(&self) -> &str {
        self.said.rsplit(' ').next().unwrap_or_default()
    }

    /// The address after `WORD on` in its first line.
    pub fn address_of(&self, word: &str) -> &str {
        let rest = self.said.split_once(&format!("{word} on ")).map_or("", |(_, rest)| rest);
        rest.split([',', ' ']).next().unwrap_or_default()
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Folder in which it runs.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// Kills the process at once, as a crash does.
    ///
    /// # Errors
    /// What the system says.
    pub async fn kill(self) -> Result<(), Failure> {
        self.process.kill().await
    }

    /// Asks it to shut down (SIGTERM), and waits until it has ended.
    ///
    /// # Errors
    /// The program does not end within 30 s.
    pub async fn stop(self) -> Result<ExitStatus, Failure> {
        self.process.stop().await
    }
}
