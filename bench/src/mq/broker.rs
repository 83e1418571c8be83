//! The seam between the harness and the queues that it measures: one type per queue says how to start it and how to speak to
//! it. Everything of the client runs on one thread.

use std::{
    future::Future,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::peer::Failure;

/// How long a consumer waits for messages before it asks anew.
pub(crate) const WAIT: Duration = Duration::from_secs(1);

/// Where a queue runs.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// For its files.
    pub(crate) directory: PathBuf,
    /// The only one that it uses; its clients use another.
    pub(crate) cpu: usize,
}

/// A queue that runs, empty, in a directory of its own.
pub(crate) trait Broker: Sized + 'static {
    /// As it stands in the tables.
    const NAME: &'static str;

    /// What pushes.
    type Producer: Producer;
    /// What pops and acks.
    type Consumer: Consumer;

    /// Starts it.
    fn start(home: &Home) -> impl Future<Output = Result<Self, Failure>>;

    /// For one of many tasks that push at the same time.
    fn producer(&self) -> impl Future<Output = Result<Self::Producer, Failure>>;

    /// For one of a few tasks that pop.
    fn consumer(&self) -> impl Future<Output = Result<Self::Consumer, Failure>>;

    /// Ends it.
    fn stop(self) -> impl Future<Output = ()>;
}

pub(crate) trait Producer: Send + 'static {
    /// Returns when the queue has said that it has the message.
    fn push(&mut self, body: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub(crate) trait Consumer: Send + 'static {
    /// What ends a delivery.
    type Receipt: Send;

    /// The next messages, at most so many; maybe none after [`WAIT`].
    fn pop(&mut self, most: usize) -> impl Future<Output = Result<Vec<(Bytes, Self::Receipt)>, Failure>> + Send;

    /// Says that they are done with.
    fn ack(&mut self, receipts: Vec<Self::Receipt>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A program of the distribution that listens on a port.
#[derive(Debug)]
pub(crate) struct Program {
    process: Child,
    pub(crate) port: u16,
}

impl Program {
    /// Starts it on that CPU, and waits until it listens. `arguments` make the command line from the port.
    pub(crate) async fn start(
        name: &str,
        cpu: usize,
        arguments: impl FnOnce(u16) -> Vec<String>,
    ) -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu.to_string(), name]).args(arguments(port));
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let begin = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if let Some(status) = process.try_wait()? {
                return Err(format!("{name} ended at once with {status}: is it installed?").into());
            }
            if begin.elapsed() > Duration::from_secs(10) {
                return Err(format!("{name} does not listen after 10 s").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { process, port })
    }

    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.process.kill().await {
            eprintln!("cannot kill a broker: {error}");
        }
    }
}
