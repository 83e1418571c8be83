//! A pop whose answer reaches nobody gives its messages back at once, and that is no retry.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod looks;

use std::{sync::Arc, time::Duration};

use looks::stats;
use ms_mq::{
    Change, Delivery, End, Engine, Extensions, MqNodeClient, MqNodeServer, Node, NodeConfig, NodeId, Pop, Push,
    QueueName, QueueStats,
};
use ms_rpc::{CallOptions, Client, RunningServer, Server};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex, split},
    sync::Notify,
    time::timeout,
};

struct Running {
    _directory: TempDir,
    node: Node,
    server: RunningServer,
}

async fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(1).unwrap()) };
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(MqNodeServer::new(node.clone()));
    Running { _directory: directory, node, server: server.start().await.unwrap() }
}

impl Running {
    async fn client(&self) -> MqNodeClient {
        MqNodeClient::new(Client::connect(&self.server.address().to_string()).await.unwrap()).with(options())
    }

    /// A client whose answers pass only until it is told to hold them back; who does that gets the end of its network.
    async fn held_back(&self) -> (MqNodeClient, Arc<Notify>, tokio::task::JoinHandle<ReadHalf<DuplexStream>>) {
        // So little of an answer counts as written.
        let ((near, far), (client_side, relay_side)) = (duplex(1_000), duplex(1_000));
        self.server.serve_over(far, ms_rpc::Peer::new());
        let ((mut answers, mut requests), (mut asked, mut answered)) = (split(near), split(relay_side));
        tokio::spawn(async move { tokio::io::copy(&mut asked, &mut requests).await });
        let hold = Arc::new(Notify::new());
        let held = hold.clone();
        let relay = tokio::spawn(async move {
            let mut bytes = [0; 100];
            loop {
                tokio::select! {
                    biased;
                    () = held.notified() => return answers,
                    read = answers.read(&mut bytes) => answered.write_all(&bytes[..read.unwrap()]).await.unwrap(),
                }
            }
        });
        let client = Client::builder().over(client_side).await.unwrap();
        (MqNodeClient::new(client).with(options()), hold, relay)
    }

    async fn stats(&self) -> QueueStats {
        stats(&self.node, "t").await.queues.remove(0)
    }

    /// The message that is handed out next, within a fraction of the TTR.
    async fn next(&self) -> Delivery {
        let pop = Pop { wait_ms: 10_000, ..Pop::new("t", "default") };
        self.node.pop(&pop).await.unwrap().remove(0)
    }
}

fn options() -> CallOptions {
    CallOptions::new().deadline(Duration::from_secs(60))
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_gives_its_messages_back() {
    for most in [1, 3] {
        let running = start().await;
        let ids = [1, 2, 3].map(|n| Push::new("t", vec![n; 5_000]));
        let ids = running.node.push_batch(ids.to_vec()).await.unwrap();
        let (client, hold, relay) = running.held_back().await;
        client.stats(None, Extensions::default()).await.unwrap();
        hold.notify_one();
        let end = relay.await.unwrap();
        let pop = Pop { max_messages: most, ..Pop::new("t", "default") };
        let lost = tokio::spawn(async move { client.pop(pop).await });
        while running.stats().await.leased < u64::from(most) {
            tokio::task::yield_now().await;
        }
        // As long as the connection stands it may be written yet.
        assert_eq!(running.stats().await.leased, u64::from(most));
        drop(end);
        lost.abort();
        let back = async {
            while running.stats().await.leased > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), back).await.expect("nothing comes back before its TTR");
        for id in ids {
            let delivery = running.next().await;
            assert_eq!((delivery.id, delivery.retries), (id, 0));
            running.node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
        }
        assert_eq!(running.stats().await.leased, 0);
    }
}

#[tokio::test]
async fn a_pop_that_is_cancelled_takes_nothing() {
    let running = start().await;
    running.node.change(Change::Declare(QueueName::new("t", "default"))).await.unwrap();
    let client = running.client().await;
    for _ in 0..20 {
        let pop = Pop { wait_ms: 50_000, ..Pop::new("t", "default") };
        let waiting = client.clone();
        let waiting = tokio::spawn(async move { waiting.pop(pop).await });
        // What is asked after it is answered after it was begun.
        client.stats(None, Extensions::default()).await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        client.stats(None, Extensions::default()).await.unwrap();
        let id = client.push(Push::new("t", b"job".to_vec())).await.unwrap().value;
        let delivery = running.next().await;
        assert_eq!((delivery.id, delivery.retries), (id, 0));
        running.node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
    }
}

#[tokio::test]
async fn deliveries_are_given_back_by_hand() {
    let running = start().await;
    let id = running.node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    let first = running.next().await.receipt.unwrap();
    running.node.give_back(vec![first])();
    let again = running.next().await;
    assert_eq!((again.id, again.retries), (id, 0));
    // The first receipt is a stale one by now: it ends nobody else's delivery.
    running.node.give_back(vec![first])();
    running.node.end(&again.receipt.unwrap(), &End::Ack).await.unwrap();
}
