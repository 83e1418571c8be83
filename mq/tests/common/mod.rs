//! A queue node behind an RPC server, listed in a registry.

#![allow(clippy::expect_used, clippy::unwrap_used, dead_code, reason = "each test file uses a part of it")]

pub(crate) mod logs;
pub(crate) mod relay;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ms_mq::{Engine, Look, MqClient, MqNodeServer, NODE_ID, Node, NodeConfig, NodeId, QueueStats};
use ms_register::{Memory, MsRegister};
use ms_rpc::{RunningServer, Server};
use tempfile::TempDir;

pub(crate) struct Running {
    _directory: TempDir,
    pub(crate) node: Node,
    pub(crate) server: RunningServer,
}

impl Running {
    pub(crate) fn queue(&self) -> QueueStats {
        let mut look = std::pin::pin!(self.node.look(Look::Stats { topic: Some("t".to_owned()), after: None }));
        match look.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(seen) => seen.unwrap().topics().0.remove(0).queues.remove(0),
            Poll::Pending => panic!("statistics wait for something"),
        }
    }

    /// Waits until `wanted` holds for the queue `default` of the topic `t`.
    pub(crate) async fn until(&self, wanted: impl Fn(&QueueStats) -> bool) -> QueueStats {
        let looking = async {
            loop {
                let queue = self.queue();
                if wanted(&queue) {
                    return queue;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), looking).await {
            Ok(queue) => queue,
            Err(_) => panic!("it stays at {:?}", self.queue()),
        }
    }

    /// Waits until no message is left, dead ones included.
    pub(crate) async fn until_empty(&self) {
        self.until(|queue| queue.ready + queue.delayed + queue.leased + queue.dead == 0).await;
    }
}

pub(crate) async fn start(registry: &Arc<Memory>, id: u16) -> Running {
    start_with(registry, id, |_| {}, |server| server).await
}

pub(crate) async fn start_with(
    registry: &Arc<Memory>,
    id: u16,
    configure: impl FnOnce(&mut NodeConfig),
    serve: impl FnOnce(Server) -> Server,
) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let mut config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(id).unwrap()) };
    configure(&mut config);
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let registry: Arc<dyn MsRegister> = registry.clone();
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry).metadata(NODE_ID, id.to_string());
    let server = serve(server).serve(MqNodeServer::new(node.clone()));
    Running { _directory: directory, node, server: server.start().await.unwrap() }
}

/// Client of the nodes that `registry` lists.
pub(crate) fn client(registry: &Arc<Memory>) -> MqClient {
    MqClient::new(registry.clone()).unwrap()
}

/// Time in which everything in a test is over.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}
