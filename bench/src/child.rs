//! The harness's hold on a process that it started: this binary again, as a server or as a driver.

use std::{process::Stdio, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    peer::Failure,
    process::{self, Usage},
    serve,
};

/// How long a process may take to end by itself.
const FAREWELL: Duration = Duration::from_millis(500);

/// A process that speaks JSON lines on stdout. It is killed and reaped at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    what: String,
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this binary with these arguments.
    pub(crate) fn start(arguments: &[String]) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or("a child without a stdout")?;
        Ok(Self { what: arguments.join(" "), process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// The next thing that it says, within that time.
    pub(crate) async fn told<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T, Failure> {
        match timeout(within, self.lines.next_line()).await {
            Ok(line) => match line? {
                Some(line) => Ok(serde_json::from_str(&line)?),
                None => Err(format!("`{}` ended before its time", self.what).into()),
            },
            Err(_) => Err(format!("`{}` said nothing for {within:?}", self.what).into()),
        }
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        process::resident(self.process.id().ok_or("a child that has ended")?)
    }

    /// What a server has used so far.
    pub(crate) async fn usage(&mut self) -> Result<Usage, Failure> {
        let stdin = self.stdin.as_mut().ok_or("a child without a stdin")?;
        stdin.write_all(b"usage\n").await?;
        match self.told(Duration::from_secs(5)).await? {
            serve::Told::Used(usage) => Ok(usage),
            told => Err(format!("asked for usage, and was told {told:?}").into()),
        }
    }

    /// Ends a process that ends with its stdin, and reaps it.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(FAREWELL, self.process.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends a process at once, and reaps it.
    pub(crate) async fn kill(mut self) {
        if let Err(error) = self.process.kill().await {
            eprintln!("cannot kill `{}`: {error}", self.what);
        }
    }
}
