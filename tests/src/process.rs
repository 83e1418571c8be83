//! A process that was started, and says on its stdout when it is ready. Dropping it kills it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStdout,
    time::timeout,
};

use crate::{Failure, signal};

/// It says that it is ready, and ends after SIGTERM, within this time.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// What it says; they end with it.
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts it, with its stderr in the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let name = command.get_program().to_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log)?)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", name.display()))?;
        let stdout = ChildStdout::from_std(child.stdout.take().ok_or("a process without a stdout")?)?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), log: log.to_owned() })
    }

    /// Waits for its first line, which must say that it is ready. If it does not come, the error has what is in the log.
    pub(crate) async fn ready(&mut self, is_ready: impl FnOnce(&str) -> bool) -> Result<(), Failure> {
        let said = timeout(PATIENCE, self.lines.next_line()).await;
        if let Ok(Ok(Some(line))) = &said
            && is_ready(line)
        {
            return Ok(());
        }
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("a node is not ready, it said {said:?}. Its errors:\n{log}").into())
    }

    pub(crate) fn number(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a crash does, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.ended().await?;
        Ok(())
    }

    /// Asks it to shut down (SIGTERM), and waits until it has ended.
    pub(crate) async fn stop(self) -> Result<ExitStatus, Failure> {
        signal::send(self.number(), Signal::SIGTERM)?;
        self.wait().await
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(mut self) -> Result<ExitStatus, Failure> {
        match timeout(PATIENCE, self.ended()).await {
            Ok(status) => status,
            Err(_) => Err(format!("a node does not end within {PATIENCE:?}").into()),
        }
    }

    /// Its last sign of life is the end of its stdout: after that there is next to nothing to wait for.
    async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        while self.lines.next_line().await?.is_some() {}
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
