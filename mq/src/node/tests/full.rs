//! A full disk and random operations: the node goes on, opens again, and loses nothing.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::*,
    made_up::{Disk, manual, open_with, pop},
    stats,
};
use crate::{Change, Delivery, End, Engine, Pop, Push, QueueName, Receipt, Settings, store::faulty::FaultyFile};

const SEGMENT: u64 = 1 << 20;

/// Refused because the disk is full, or done.
fn done_or_full<T>(result: Result<T, MqError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(MqError::DiskFull) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn fill(node: &Node<FaultyFile>, random: &mut fastrand::Rng, there: &mut BTreeMap<MessageId, usize>) {
    loop {
        let most = random.usize(2..2000);
        let size = random.usize(1..most);
        let pushes = (0..50).map(|_| Push::new("t", vec![7; size])).collect();
        let Some(ids) = done_or_full(node.push_batch(pushes).await) else { return };
        there.extend(ids.into_iter().map(|id| (id, size)));
    }
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().filter_map(|delivery| delivery.receipt).collect()
}

#[test]
fn a_full_disk_never_ends_a_node() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for seed in 0..2 {
        runtime.block_on(on_a_full_disk(seed));
    }
}

async fn on_a_full_disk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (disk, clock) = (Disk::default(), manual());
    disk.set_space(Some(16 * SEGMENT));
    let mut node = open_with(&disk, &clock, SEGMENT).unwrap();
    let settings = || Settings { max_retries: Some(3), ttr_ms: Some(5_000), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings())).await.unwrap();
    let mut there = BTreeMap::new();
    let mut leased: Vec<Receipt> = Vec::new();
    for step in 0..400 {
        if step % 50 == 0 {
            fill(&node, &mut random, &mut there).await;
        }
        let wish = Pop { max_messages: 100, ..Pop::new("t", "default") };
        match random.u8(..12) {
            0..3 => leased.extend(receipts(&done_or_full(node.pop(&wish).await).unwrap_or_default())),
            3 => leased.extend(receipts(&done_or_full(node.pop_dead(&wish).await).unwrap_or_default())),
            4..6 => {
                let reason = "x".repeat(random.usize(..2000));
                let some = leased.split_off(leased.len().saturating_sub(100));
                drop(done_or_full(node.end_all(&some, &End::nack(Duration::from_millis(50), reason)).await));
            }
            6..8 => drop(done_or_full(node.end_all(&leased[..leased.len().min(200)], &End::Touch(None)).await)),
            8 => clock.advance(random.u64(..6_000)),
            9 => {
                for _ in 0..50 {
                    let _ = done_or_full(node.change(Change::Configure("t".to_owned(), settings())).await);
                }
            }
            10 => {
                let some = leased.split_off(leased.len().saturating_sub(5));
                // Acks are never refused.
                let ended = node.end_all(&some, &End::Ack).await.unwrap();
                for (receipt, ended) in some.iter().zip(ended) {
                    if ended.is_ok() {
                        there.remove(&receipt.id()).unwrap();
                    }
                }
            }
            _ if step % 3 == 0 => {
                drop(node);
                node = open_with(&disk, &clock, SEGMENT)
                    .unwrap_or_else(|error| panic!("{error}, seed {seed}, step {step}"));
            }
            _ => {}
        }
    }
    let queue = stats(&node, "t").await.queues.remove(0);
    assert_eq!((queue.ready + queue.delayed + queue.leased + queue.dead) as usize, there.len());
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
    node.change(Change::Purge(QueueName::new("t", "default"))).await.unwrap();
    node.change(Change::PurgeDead(QueueName::new("t", "default"))).await.unwrap();
    let began = std::time::Instant::now();
    while done_or_full(node.push(Push::new("t", b"again".to_vec())).await).is_none() {
        assert!(began.elapsed() < Duration::from_secs(5), "pushing does not resume");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(pop(&node, 10).await.len(), 1);
}
