//! More at once than the log has room for at the moment, or than fits into one batch.

use super::stats;
use super::{
    super::*,
    made_up::{Disk, manual, open_with, pop},
};
use crate::{Change, End, Engine, Push, QueueName, Settings};

const SEGMENT: u64 = *SEGMENTS.start();

#[tokio::test]
async fn a_burst_waits_for_space_and_is_not_refused() {
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, SEGMENT).unwrap();
    let pushes: Vec<_> = (0..80)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.push(Push::new("t", vec![7; 1 << 20])).await })
        })
        .collect();
    for push in pushes {
        push.await.unwrap().expect("the disk has all the space in the world");
    }
    assert_eq!(stats(&node, "t").await.queues[0].ready, 80);
}

/// What becomes of them together is more than a segment takes at once: `cargo test --release -p ms-mq -- --ignored`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn very_many_leases_may_end_at_the_same_moment() {
    const COUNT: usize = 450_000;
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, SEGMENT).unwrap();
    node.change(Change::Configure(
        "t".to_owned(),
        Settings { max_retries: Some(1), max_dead: Some(u64::MAX), ..Settings::default() },
    ))
    .await
    .unwrap();
    for _ in 0..COUNT / 1000 {
        node.push_batch((0..1000).map(|_| Push::new("t", vec![7])).collect()).await.unwrap();
    }
    let take = async |node: &Node<_>| {
        let mut receipts = Vec::new();
        while receipts.len() < COUNT {
            receipts.extend(pop(node, 1000).await.iter().filter_map(|delivery| delivery.receipt));
        }
        receipts
    };
    take(&node).await;
    // While it is down.
    drop(node);
    clock.advance(3_600_000);
    let node = open_with(&disk, &clock, SEGMENT).unwrap();
    assert_eq!(stats(&node, "t").await.queues[0].ready, COUNT as u64);
    // And while it runs.
    take(&node).await;
    clock.advance(3_600_000);
    assert_eq!(stats(&node, "t").await.queues[0].dead, COUNT as u64);
    assert_eq!(node.change(Change::Redrive(QueueName::new("t", "default"), None)).await, Ok(COUNT as u64));
    let receipts = take(&node).await;
    assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(stats(&node, "t").await.queues[0].leased, 0);
}
