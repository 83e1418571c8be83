use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::NodeOptions;
use crate::{Failure, ports, process::Process, signal};

/// How the node program is run: an executable, and what comes before the node's options on its command line.
#[derive(Clone, Debug)]
pub struct NodeProgram {
    executable: PathBuf,
    arguments: Vec<OsString>,
}

impl NodeProgram {
    /// This executable, with these arguments before the options.
    pub fn new(executable: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        Self { executable: executable.into(), arguments: arguments.iter().map(OsString::from).collect() }
    }

    /// Starts a node, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready within 30 s; the text has what it wrote to stderr.
    pub async fn start(&self, mut options: NodeOptions) -> Result<Node, Failure> {
        if options.addresses.is_empty() {
            options.addresses = ports::addresses(1)?;
        }
        let directory = tempfile::Builder::new().prefix("ms-node-").tempdir()?;
        let mut node = Node { program: self.clone(), options, directory, process: None };
        node.start().await?;
        Ok(node)
    }
}

/// A server process of one scenario. Dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    program: NodeProgram,
    options: NodeOptions,
    directory: TempDir,
    process: Option<Process>,
}

impl Node {
    /// Where its first server listens.
    pub fn address(&self) -> SocketAddr {
        self.options.addresses[0]
    }

    /// Where its servers listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.options.addresses
    }

    /// What it was started with; a change counts from the next start.
    pub fn options_mut(&mut self) -> &mut NodeOptions {
        &mut self.options
    }

    /// Starts the process if it is not running, on the ports that it had, and waits until it is ready.
    ///
    /// # Errors
    /// As for [`NodeProgram::start`].
    pub async fn start(&mut self) -> Result<(), Failure> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.program.executable);
        command.args(&self.program.arguments).arg(serde_json::to_string(&self.options)?).stdin(Stdio::piped());
        let mut process = Process::start(&mut command, &self.directory.path().join("log"))?;
        process.ready(|line| line == "ready").await?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills the process at once, as a crash does, and waits until it is gone. Says when it was killed.
    ///
    /// # Errors
    /// What the system says.
    pub async fn kill(&mut self) -> Result<Instant, Failure> {
        let killed = Instant::now();
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(killed)
    }

    /// Asks it to shut down (SIGTERM), and waits until it has ended.
    ///
    /// # Errors
    /// It is not running, or does not end within 30 s.
    pub async fn stop(&mut self) -> Result<ExitStatus, Failure> {
        self.process.take().ok_or("the node is not running")?.stop().await
    }

    /// Stops the process from running while its sockets stay open (SIGSTOP).
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process run again (SIGCONT).
    ///
    /// # Errors
    /// It is not running.
    pub fn thaw(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGCONT)
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// It is not running.
    pub fn rss(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.number()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes << 10)
    }

    /// How many files and sockets it has open.
    ///
    /// # Errors
    /// It is not running.
    pub fn open_files(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.number()?))?.count())
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(signal::send(self.number()?, signal)?)
    }

    fn number(&self) -> Result<u32, Failure> {
        Ok(self.process.as_ref().ok_or("the node is not running")?.number())
    }
}
