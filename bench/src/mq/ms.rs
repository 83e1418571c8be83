//! This project's queue: a node in a process of its own, found through a registry, and its client.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ms_gmq::GmqServer;
use ms_mq::{Extensions, MqClient, MqNodeServer, NODE_ID, Node, NodeConfig, NodeId, Pop, Push, Receipt, SERVICE};
use ms_register::{Instance, Memory, ServiceName};
use ms_rpc::Server;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::broker::{Broker, Consumer, Home, Producer, WAIT};
use crate::{child::Child, peer::Failure, process};

const TOPIC: &str = "bench";

/// What a node prints.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Listening {
    rpc: SocketAddr,
    gmq: SocketAddr,
}

/// A node on that CPU, until stdin ends.
pub(crate) fn serve(directory: &Path, cpu: usize) -> Result<(), Failure> {
    process::pin(cpu)?;
    let node = Node::open(directory, &NodeConfig::new(NodeId::new(1).ok_or("no node id")?))?;
    let runtime = process::runtime(std::num::NonZeroUsize::MIN)?;
    let (running, gmq) = runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await?.serve(MqNodeServer::new(node.clone()));
        let gmq = GmqServer::bind(([127, 0, 0, 1], 0).into()).await?;
        Ok::<_, Failure>((server.start().await?, gmq))
    })?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &Listening { rpc: running.address(), gmq: gmq.address() })?;
    runtime.spawn(gmq.serve(node.clone(), std::future::pending()));
    writeln!(out)?;
    out.flush()?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        drop(io::stdin().lines().last());
        ended.send(())
    });
    runtime.block_on(end)?;
    node.close();
    Ok(())
}

pub(crate) struct Ms {
    child: Child,
    client: MqClient,
    gmq: SocketAddr,
}

impl Ms {
    /// Starts a node on a directory that may hold a queue already.
    pub(crate) async fn open(home: &Home) -> Result<Self, Failure> {
        let directory = home.directory.display().to_string();
        let mut child = Child::start(&["queue-node".to_owned(), directory, home.cpu.to_string()])?;
        let Listening { rpc, gmq } = child.told(Duration::from_secs(60)).await?;
        let registry = Memory::new();
        let instance = Instance::from_address(&rpc.to_string())?.with_metadata(NODE_ID, "1");
        registry.insert(&SERVICE.parse::<ServiceName>()?, instance);
        let client = MqClient::new(Arc::new(registry))?;
        Ok(Self { child, client, gmq })
    }

    pub(crate) fn client(&self) -> &MqClient {
        &self.client
    }

    /// Where the node serves gmq's protocols.
    pub(super) fn gmq(&self) -> SocketAddr {
        self.gmq
    }

    /// Resident memory of the node, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        self.child.resident()
    }
}

impl Broker for Ms {
    const NAME: &'static str = "ms-mq";
    type Producer = MqClient;
    type Consumer = Popper;

    async fn start(home: &Home) -> Result<Self, Failure> {
        let started = Self::open(home).await?;
        started.client.declare(TOPIC, "default").await?;
        Ok(started)
    }

    async fn producer(&self) -> Result<MqClient, Failure> {
        Ok(self.client.clone())
    }

    async fn consumer(&self) -> Result<Popper, Failure> {
        Ok(Popper(self.client.clone()))
    }

    async fn stop(self) {
        self.child.kill().await;
    }
}

impl Producer for MqClient {
    async fn push(&mut self, body: Bytes) -> Result<(), Failure> {
        Self::push(self, Push::new(TOPIC, body)).await?;
        Ok(())
    }
}

pub(crate) struct Popper(MqClient);

impl Consumer for Popper {
    type Receipt = Receipt;

    async fn pop(&mut self, most: usize) -> Result<Vec<(Bytes, Receipt)>, Failure> {
        let wait_ms = WAIT.as_millis() as u64;
        let wish = Pop { max_messages: most as u32, wait_ms, ..Pop::new(TOPIC, "default") };
        let deliveries = self.0.pop(&wish).await?;
        Ok(deliveries.into_iter().filter_map(|it| Some((it.body.into(), it.receipt?))).collect())
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), Failure> {
        self.0.ack_batch(&receipts).await?.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }
}

/// How long calls take that touch no disk, in nanoseconds; one begun every `interval`.
pub(super) async fn paced_calls(home: Home, count: u32, interval: Duration) -> Result<Vec<u64>, Failure> {
    let directory = tempfile::tempdir_in(&home.directory)?;
    let node = Ms::start(&Home { directory: directory.path().to_owned(), ..home }).await?;
    let stub = node.client.one(None).await?;
    let begin = Instant::now();
    let mut taken = Vec::new();
    for number in 0..count {
        sleep_until(begin + interval * number).await;
        let before = Instant::now();
        stub.peek(TOPIC.to_owned(), "default".to_owned(), 1, Extensions::default()).await?;
        taken.push(before.elapsed().as_nanos() as u64);
    }
    node.stop().await;
    Ok(taken)
}
