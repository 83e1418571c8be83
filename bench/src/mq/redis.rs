//! Redis streams with every write synced: one stream, one consumer group.

use bytes::Bytes;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client,
    aio::MultiplexedConnection,
    streams::{StreamReadOptions, StreamReadReply},
};

use super::broker::{Broker, Consumer, Home, Producer, Program, WAIT};
use crate::peer::Failure;

const STREAM: &str = "bench";
const GROUP: &str = "bench";
const FIELD: &str = "body";

pub(crate) struct Redis {
    program: Program,
    client: Client,
    shared: MultiplexedConnection,
}

impl Broker for Redis {
    const NAME: &'static str = "redis streams";
    type Producer = MultiplexedConnection;
    type Consumer = Reader;

    async fn start(home: &Home) -> Result<Self, Failure> {
        let directory = home.directory.display().to_string();
        let program = Program::start("redis-server", home.cpu, |port| {
            let port = port.to_string();
            let settings = ["--port", &port, "--bind", "127.0.0.1", "--dir", &directory, "--save", ""];
            let synced = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
            settings.into_iter().chain(synced).map(str::to_owned).collect()
        })
        .await?;
        let client = Client::open(format!("redis://127.0.0.1:{}", program.port))?;
        let mut shared = connect(&client).await?;
        shared.xgroup_create_mkstream::<_, _, _, ()>(STREAM, GROUP, "$").await?;
        Ok(Self { program, client, shared })
    }

    async fn producer(&self) -> Result<MultiplexedConnection, Failure> {
        Ok(self.shared.clone())
    }

    async fn consumer(&self) -> Result<Reader, Failure> {
        Ok(Reader { blocking: connect(&self.client).await?, shared: self.shared.clone() })
    }

    async fn stop(self) {
        self.program.stop().await;
    }
}

/// With more time than the client gives by itself: a sync for each write makes a long queue.
async fn connect(client: &Client) -> Result<MultiplexedConnection, Failure> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(30 * WAIT));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

impl Producer for MultiplexedConnection {
    async fn push(&mut self, body: Bytes) -> Result<(), Failure> {
        Ok(self.xadd::<_, _, _, _, ()>(STREAM, "*", &[(FIELD, &body[..])]).await?)
    }
}

pub(crate) struct Reader {
    blocking: MultiplexedConnection,
    shared: MultiplexedConnection,
}

impl Consumer for Reader {
    type Receipt = String;

    async fn pop(&mut self, most: usize) -> Result<Vec<(Bytes, String)>, Failure> {
        let options =
            StreamReadOptions::default().group(GROUP, "consumer").count(most).block(WAIT.as_millis() as usize);
        let reply: Option<StreamReadReply> = self.blocking.xread_options(&[STREAM], &[">"], &options).await?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        let message = |entry: redis::streams::StreamId| {
            let body: Vec<u8> = entry.get(FIELD).ok_or("an entry without a body")?;
            Ok((Bytes::from(body), entry.id))
        };
        entries.map(message).collect()
    }

    async fn ack(&mut self, receipts: Vec<String>) -> Result<(), Failure> {
        Ok(self.shared.xack::<_, _, _, ()>(STREAM, GROUP, &receipts).await?)
    }
}
