//! beanstalkd with every write synced. Its client blocks: each worker has a connection and a thread of its own.

use std::thread;

use beanstalkc::Beanstalkc;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::broker::{Broker, Consumer, Home, Producer, Program, WAIT};
use crate::peer::Failure;

pub(crate) struct Beanstalkd {
    program: Program,
}

type Job = Box<dyn FnOnce(&mut Beanstalkc) + Send>;

/// A connection on its thread.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    async fn connect(port: u16) -> Result<Self, Failure> {
        let (jobs, mut todo) = mpsc::channel::<Job>(1);
        let (told, connected) = oneshot::channel();
        thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let connection = Beanstalkc::new().host("127.0.0.1").port(port).connect();
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => return drop(told.send(Err(error.to_string()))),
            };
            drop(told.send(Ok(())));
            while let Some(job) = todo.blocking_recv() {
                job(&mut connection);
            }
        })?;
        connected.await??;
        Ok(Self { jobs })
    }

    async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Beanstalkc) -> Result<T, beanstalkc::BeanstalkcError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (told, done) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(told.send(job(connection).map_err(|error| error.to_string()))));
        self.jobs.send(job).await.map_err(|_| "a worker ended")?;
        Ok(done.await??)
    }
}

impl Broker for Beanstalkd {
    const NAME: &'static str = "beanstalkd";
    type Producer = Worker;
    type Consumer = Worker;

    async fn start(home: &Home) -> Result<Self, Failure> {
        let directory = home.directory.display().to_string();
        let program = Program::start("beanstalkd", home.cpu, |port| {
            let port = port.to_string();
            ["-l", "127.0.0.1", "-p", &port, "-b", &directory, "-f0"].map(str::to_owned).to_vec()
        })
        .await?;
        Ok(Self { program })
    }

    async fn producer(&self) -> Result<Worker, Failure> {
        Worker::connect(self.program.port).await
    }

    async fn consumer(&self) -> Result<Worker, Failure> {
        Worker::connect(self.program.port).await
    }

    async fn stop(self) {
        self.program.stop().await;
    }
}

impl Producer for Worker {
    async fn push(&mut self, body: Bytes) -> Result<(), Failure> {
        self.run(move |connection| connection.put_default(&body)).await?;
        Ok(())
    }
}

impl Consumer for Worker {
    type Receipt = u64;

    /// One: it has no more in an answer.
    async fn pop(&mut self, _: usize) -> Result<Vec<(Bytes, u64)>, Failure> {
        let popped = self.run(|connection| match connection.reserve_with_timeout(WAIT) {
            Ok(job) => Ok(Some((Bytes::copy_from_slice(job.body()), job.id()))),
            // Also what it says when none came in time.
            Err(beanstalkc::BeanstalkcError::CommandFailed(_)) => Ok(None),
            Err(error) => Err(error),
        });
        Ok(popped.await?.into_iter().collect())
    }

    async fn ack(&mut self, receipts: Vec<u64>) -> Result<(), Failure> {
        self.run(move |connection| receipts.into_iter().try_for_each(|id| connection.delete(id))).await
    }
}
