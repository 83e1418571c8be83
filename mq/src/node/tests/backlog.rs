//! How much of the disk a backlog takes: STORAGE.md gives the bound.

use std::time::Duration;

use std::{io, path::Path};

use super::super::*;
use crate::{Change, End, Engine, Look, Pop, Push, QueueName, Receipt, Settings};

const SEGMENT: u64 = 1 << 20;

fn used(directory: &Path) -> u64 {
    loop {
        let files = std::fs::read_dir(directory).unwrap();
        match files.map(|file| Ok(file?.metadata()?.len())).sum::<io::Result<u64>>() {
            Ok(bytes) => return bytes,
            // It has another name now, since the node cleans meanwhile.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
    }
}

/// With `live` messages of so many bytes.
fn bound(live: u64, bytes: u64) -> u64 {
    let log = (3 * bytes).max(2 * SEGMENT) + 3 * SEGMENT;
    let reserve = (5 + (64 * live).div_ceil(SEGMENT)) * SEGMENT;
    log + reserve + 8192
}

/// How many messages there are, and their bytes in the log.
fn live(node: &Node) -> (u64, u64) {
    let inner = node.shared.lock();
    (inner.state.live(), inner.state.live_bytes())
}

async fn take(node: &Node) -> Vec<Receipt> {
    let wish = Pop { max_messages: 1000, ..Pop::new("t", "default") };
    node.pop(&wish).await.unwrap().iter().filter_map(|delivery| delivery.receipt).collect()
}

async fn push(node: &Node, count: u64) {
    for _ in 0..count / 1000 {
        node.push_batch((0..1000).map(|_| Push::new("t", vec![7; 100])).collect()).await.unwrap();
    }
}

async fn backlog(count: u64) {
    let directory = tempfile::tempdir().unwrap();
    let config = NodeConfig { segment_bytes: SEGMENT, ..NodeConfig::new(NodeId::new(1).unwrap()) };
    let open = || {
        let disk = Disk::open(directory.path()).unwrap();
        Node::open_store(disk, &config, |logged| Arc::new(SteadyClock::after(logged, System::new()))).unwrap()
    };
    let node = open();
    node.change(Change::Configure("t".to_owned(), Settings { ttr_ms: Some(24 * 3600 * 1000), ..Settings::default() }))
        .await
        .unwrap();
    let kept = node.push(Push::new("t", b"kept".to_vec())).await.unwrap();
    let never = take(&node).await;
    assert_eq!(never[0].id(), kept);
    let within = |what| {
        let (live, bytes) = live(&node);
        let (used, bound) = (used(directory.path()), bound(live, bytes));
        assert!(used <= bound, "{what}: {used} bytes on the disk for {bytes} of {live} messages, at most {bound}");
    };
    for _ in 0..20 {
        push(&node, count / 20).await;
        within("pushing");
    }
    assert_eq!(live(&node).0, count + 1);
    // Acked messages are replaced by new ones: the log goes round many times, past the message that stays.
    for _ in 0..3 * count / 1000 {
        push(&node, 1000).await;
        let receipts = take(&node).await;
        assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
    }
    within("going round");
    while live(&node).0 > 1 {
        let receipts = take(&node).await;
        assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
    }
    // It is cleaned in the background.
    let (least, mut waited) = (bound(1, 100), 0);
    while used(directory.path()) > least {
        waited += 1;
        assert!(waited < 3000, "{} bytes on the disk for one message, at most {least}", used(directory.path()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.close();
    drop(node);
    let node = open();
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
    assert_eq!(
        &node.look(Look::Get(QueueName::new("t", "default"), kept)).await.unwrap().messages().remove(0).body.unwrap()[..],
        b"kept"
    );
    node.end(&never[0], &End::Ack).await.unwrap();
}

#[tokio::test]
async fn a_backlog_stays_within_its_bound_though_one_message_is_never_acked() {
    backlog(20_000).await;
}

/// In full: `cargo test --release -p ms-mq -- --ignored`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn a_backlog_of_a_million_stays_within_its_bound() {
    backlog(1_000_000).await;
}
