//! NATS JetStream with file storage, which it syncs every two minutes: one stream as a work queue, one durable consumer.

use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, pull},
    stream::{Config, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use super::broker::{Broker, Consumer, Home, Producer, Program, WAIT};
use crate::peer::Failure;

const SUBJECT: &str = "bench";

pub(crate) struct Nats {
    program: Program,
    context: Context,
}

impl Broker for Nats {
    const NAME: &'static str = "nats jetstream";
    type Producer = Context;
    type Consumer = Reader;

    async fn start(home: &Home) -> Result<Self, Failure> {
        let directory = home.directory.display().to_string();
        let program = Program::start("nats-server", home.cpu, |port| {
            ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", &directory].map(str::to_owned).to_vec()
        })
        .await?;
        let context = jetstream::new(async_nats::connect(format!("127.0.0.1:{}", program.port)).await?);
        let config = Config {
            name: SUBJECT.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            storage: StorageType::File,
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        };
        let stream = context.create_stream(config).await?;
        let config = pull::Config {
            durable_name: Some(SUBJECT.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await?;
        Ok(Self { program, context })
    }

    async fn producer(&self) -> Result<Context, Failure> {
        Ok(self.context.clone())
    }

    async fn consumer(&self) -> Result<Reader, Failure> {
        let stream = self.context.get_stream(SUBJECT).await?;
        let consumer = stream.get_consumer::<pull::Config>(SUBJECT).await?;
        Ok(Reader { messages: consumer.messages().await? })
    }

    async fn stop(self) {
        self.program.stop().await;
    }
}

impl Producer for Context {
    async fn push(&mut self, body: Bytes) -> Result<(), Failure> {
        self.publish(SUBJECT, body).await?.await?;
        Ok(())
    }
}

pub(crate) struct Reader {
    messages: pull::Stream,
}

impl Consumer for Reader {
    type Receipt = jetstream::Message;

    async fn pop(&mut self, most: usize) -> Result<Vec<(Bytes, jetstream::Message)>, Failure> {
        let mut taken = Vec::new();
        let Ok(first) = timeout(WAIT, self.messages.next()).await else { return Ok(taken) };
        let mut next = first;
        while let Some(message) = next {
            let message = message?;
            taken.push((message.payload.clone(), message));
            if taken.len() == most {
                break;
            }
            next = self.messages.next().now_or_never().flatten();
        }
        Ok(taken)
    }

    /// Not waited for, as its users do: the acks leave in their order on the one connection.
    async fn ack(&mut self, receipts: Vec<jetstream::Message>) -> Result<(), Failure> {
        for message in receipts {
            message.ack().await?;
        }
        Ok(())
    }
}
