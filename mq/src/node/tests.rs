mod backlog;
mod bounds;
mod bounds_of_queues;
mod burst;
mod clocks;
mod conformance;
mod delays;
mod errors;
mod full;
mod golden;
mod leases;
mod leftovers;
mod made_up;
mod poison;
mod unreadable;

use std::path::Path;

use super::*;
use crate::{Change, Delivery, End, Engine, Look, Pop, Push, QueueName, TopicStats};

fn config() -> NodeConfig {
    NodeConfig { segment_bytes: 256 << 10, ..NodeConfig::new(NodeId::new(1).unwrap()) }
}

fn open(directory: &Path) -> Node {
    let disk = Disk::open(directory).unwrap();
    Node::open_store(disk, &config(), |logged| Arc::new(SteadyClock::after(logged, System::new()))).unwrap()
}

fn pop(wait_ms: u64) -> Pop {
    Pop { wait_ms, ..Pop::new("game", "default") }
}

async fn stats<F: File>(node: &Node<F>, topic: &str) -> TopicStats {
    let look = Look::Stats { topic: Some(topic.to_owned()), after: None };
    node.look(look).await.unwrap().topics().0.remove(0)
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

async fn popped(node: &Node) -> Option<Delivery> {
    node.pop(&pop(0)).await.unwrap().pop()
}

#[tokio::test]
async fn a_message_goes_through() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    let id = node.push(Push::new("game", b"job".to_vec())).await.unwrap();
    let delivery = popped(&node).await.unwrap();
    assert_eq!((delivery.id, text(&delivery), delivery.retries), (id, "job".to_owned(), 0));
    assert!(popped(&node).await.is_none());
    let receipt = delivery.receipt.unwrap();
    node.end(&receipt, &End::Ack).await.unwrap();
    assert_eq!(node.end(&receipt, &End::Ack).await, Err(MqError::NotLeased(id.0)));
    assert_eq!(stats(&node, "game").await.queues[0].popped, 1);
    assert_eq!(receipt.to_string().parse(), Ok(receipt));
}

#[tokio::test]
async fn what_is_not_acked_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let body = |n: usize| format!("job {n} {}", "x".repeat(n % 300));
    let most = |count| Pop { max_messages: count, max_bytes: u32::MAX, ..pop(0) };
    let mut ids = Vec::new();
    {
        let node = open(directory.path());
        for hundred in 0..50 {
            let pushes = (0..100).map(|n| Push::new("game", body(100 * hundred + n).into_bytes()));
            ids.extend(node.push_batch(pushes.collect()).await.unwrap());
        }
        let receipts: Vec<_> = node.pop(&most(1000)).await.unwrap().iter().filter_map(|d| d.receipt).collect();
        assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
    }
    let node = open(directory.path());
    assert!(node.damage().0.is_empty());
    let mut expected = ids.iter().enumerate().skip(1000);
    for _ in 0..4 {
        for delivery in node.pop(&most(1000)).await.unwrap() {
            let (n, id) = expected.next().unwrap();
            assert_eq!((delivery.id, text(&delivery)), (*id, body(n)));
        }
    }
    assert_eq!(expected.next(), None);
    assert!(popped(&node).await.is_none());
    let later = node.push(Push::new("game", b"later".to_vec())).await.unwrap();
    assert!(later > *ids.last().unwrap());
}

#[tokio::test]
async fn a_waiting_pop_gets_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    node.change(Change::Declare(QueueName::new("game", "default"))).await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.pop(&pop(10_000)).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    for n in 0..3 {
        node.push(Push::new("game", vec![n])).await.unwrap();
    }
    let mut bodies = Vec::new();
    for pop in waiting {
        bodies.extend(pop.await.unwrap().iter().map(|delivery| delivery.body[0]));
    }
    bodies.sort_unstable();
    assert_eq!(bodies, [0, 1, 2]);
}

#[tokio::test]
async fn the_log_stays_small_though_one_message_is_never_acked() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    let first = node.push(Push::new("game", b"kept".to_vec())).await.unwrap();
    let kept = popped(&node).await.unwrap();
    for _ in 0..200 {
        let pushes: Vec<_> = (0..100).map(|_| Push::new("game", vec![7; 200])).collect();
        node.push_batch(pushes).await.unwrap();
        let wish = Pop { max_messages: 100, ..pop(0) };
        let receipts: Vec<_> = node.pop(&wish).await.unwrap().iter().filter_map(|delivery| delivery.receipt).collect();
        assert_eq!(receipts.len(), 100);
        assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
    }
    let segments = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(segments <= 12, "{segments} files for 4 MB of messages that are done with");
    node.end(&kept.receipt.unwrap(), &End::Touch(None)).await.unwrap();
    drop(node);
    let node = open(directory.path());
    let info = node.look(Look::Get(QueueName::new("game", "default"), first)).await.unwrap().messages().remove(0);
    assert_eq!((info.state.as_str(), &info.body.unwrap()[..]), ("leased", &b"kept"[..]));
}
