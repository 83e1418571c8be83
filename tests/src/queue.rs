//! A queue node in a process of its own, and what it must hold to however it ends.

mod cycles;
mod load;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Arc,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::{Failure, ports, process::Process};

pub use cycles::{Survived, killed_under_load};

/// A process of the command `ms mq-node`. Dropping it kills the process; the last over a directory deletes the messages.
#[derive(Debug)]
pub struct QueueNode {
    executable: PathBuf,
    directory: Arc<TempDir>,
    arguments: Vec<String>,
    address: SocketAddr,
    process: Option<Process>,
}

impl QueueNode {
    /// A node that is not running yet, with these arguments more. `executable` is the command `ms`.
    ///
    /// # Errors
    /// No directory, or no port.
    pub fn new(executable: &str, arguments: &[&str]) -> Result<Self, Failure> {
        let directory = Arc::new(tempfile::Builder::new().prefix("ms-queue-").tempdir()?);
        Self::over(executable.into(), directory, arguments)
    }

    /// Another one over the same directory.
    ///
    /// # Errors
    /// No port.
    pub fn twin(&self, arguments: &[&str]) -> Result<Self, Failure> {
        Self::over(self.executable.clone(), self.directory.clone(), arguments)
    }

    fn over(executable: PathBuf, directory: Arc<TempDir>, arguments: &[&str]) -> Result<Self, Failure> {
        let address = ports::addresses(1)?[0];
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Ok(Self { executable, directory, arguments, address, process: None })
    }

    /// Where it serves RPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wrote to stderr since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join(format!("log-{}", self.address.port()))
    }

    /// Starts the process, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready within 30 s; the text has what it wrote to stderr.
    pub async fn start(&mut self) -> Result<(), Failure> {
        self.spawn()?.ready(|line| line.contains(" is ready: ")).await
    }

    /// Starts the process, and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<&mut Process, Failure> {
        // Where a file may not grow, a write is to fail, and not to end the process.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(&self.executable).arg("mq-node");
        command.arg("--data").arg(self.directory.path().join("data"));
        command.args(["--rpc", &self.address.to_string(), "--http", "127.0.0.1:0"]).args(&self.arguments);
        Ok(self.process.insert(Process::start(&mut command, &self.log_file())?))
    }

    /// Kills the process at once, as a crash does, and waits until it is gone.
    ///
    /// # Errors
    /// What the system says.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Asks it to shut down (SIGTERM), and waits until it has ended.
    ///
    /// # Errors
    /// It is not running, or does not end within 30 s.
    pub async fn stop(&mut self) -> Result<ExitStatus, Failure> {
        self.process.take().ok_or("the node is not running")?.stop().await
    }

    /// Starts the process, which is to end by itself, and waits until it has.
    ///
    /// # Errors
    /// It does not end within 30 s.
    pub async fn refused(&mut self) -> Result<ExitStatus, Failure> {
        self.spawn()?;
        self.ended().await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It is not running, or does not end within 30 s.
    pub async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        self.process.take().ok_or("the node is not running")?.wait().await
    }

    /// From now on every write of it to any file fails.
    ///
    /// # Errors
    /// It is not running, or the system refuses.
    pub fn break_disk(&self) -> Result<(), Failure> {
        let number = self.process.as_ref().ok_or("the node is not running")?.number();
        let nothing = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Pid::from_raw(number.cast_signed()), Resource::Fsize, nothing)?;
        Ok(())
    }
}
