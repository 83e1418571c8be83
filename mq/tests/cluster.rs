//! Two nodes, found through a registry.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ms_mq::{
    ConsumerOptions, Delivery, MqClient, MqError, MqNodeServer, NODE_ID, Node, NodeConfig, NodeId, Pop, Push,
    QueueError,
};
use ms_register::{Memory, MsRegister};
use ms_rpc::{CallError, RunningServer, Server};
use tempfile::TempDir;
use tokio::sync::Notify;

struct Running {
    _directory: TempDir,
    node: Node,
    server: RunningServer,
}

async fn start(registry: &Arc<Memory>, id: u16) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(id).unwrap()) };
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let registry: Arc<dyn MsRegister> = registry.clone();
    let server = Server::bind("127.0.0.1:0")
        .await
        .unwrap()
        .register_with(registry)
        .metadata(NODE_ID, id.to_string())
        .serve(MqNodeServer::new(node.clone()));
    Running { _directory: directory, node, server: server.start().await.unwrap() }
}

fn pop() -> Pop {
    Pop { wait_ms: 2000, ..Pop::new("t", "default") }
}

#[tokio::test]
async fn pushes_are_spread_and_receipts_find_their_way_back() {
    let registry = Arc::new(Memory::new());
    let (one, two) = (start(&registry, 1).await, start(&registry, 2).await);
    let client = MqClient::new(registry.clone());
    client.declare("t", "default").await.unwrap();
    client.declare("t", "default").await.unwrap();
    let mut pushed = HashSet::new();
    while [&one, &two].iter().any(|running| running.node.stats("t").unwrap().queues[0].pushed < 20) {
        pushed.insert(client.push(Push::new("t", b"job".to_vec())).await.unwrap());
    }
    let mut by_node: HashMap<NodeId, u32> = HashMap::new();
    while !pushed.is_empty() {
        let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
        assert!(pushed.remove(&delivery.id));
        *by_node.entry(delivery.id.node()).or_default() += 1;
        client.ack(delivery.receipt.unwrap()).await.unwrap();
        let again = client.ack(delivery.receipt.unwrap()).await.unwrap_err();
        assert!(matches!(again, QueueError::Service(MqError::NotLeased(_))), "{again}");
    }
    assert_eq!(by_node.len(), 2, "{by_node:?}");
    let nothing = client.pop(&Pop { wait_ms: 50, ..pop() }).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_dedup_key_leads_to_one_message_whatever_the_node() {
    let registry = Arc::new(Memory::new());
    let (_one, _two) = (start(&registry, 1).await, start(&registry, 2).await);
    let client = MqClient::new(registry.clone());
    let mut nodes = HashSet::new();
    for key in 0..20 {
        let push = || Push { dedup: Some(key.to_string()), ..Push::new("t", b"job".to_vec()) };
        let first = client.push(push()).await.unwrap();
        assert_eq!(client.push(push()).await.unwrap(), first);
        nodes.insert(first.node());
    }
    assert_eq!(nodes.len(), 2);
}

#[tokio::test]
async fn a_node_that_dies_is_left() {
    let registry = Arc::new(Memory::new());
    let (one, two) = (start(&registry, 1).await, start(&registry, 2).await);
    let client = MqClient::new(registry.clone());
    client.declare("t", "default").await.unwrap();
    registry.set_down(true);
    drop(one.server);
    let mut pushed = 0;
    while pushed < 50 {
        match client.push(Push::new("t", b"job".to_vec())).await {
            Ok(id) => {
                assert_eq!(id.node(), two.node.id());
                pushed += 1;
            }
            // The one that was under way when it died.
            Err(CallError::Status(status)) => assert_eq!(status.code(), ms_rpc::Code::Unavailable, "{status}"),
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..50 {
        let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
        client.ack(delivery.receipt.unwrap()).await.unwrap();
    }
}
