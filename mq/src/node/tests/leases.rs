//! Each delivery ends by itself, and nobody ends another's.

use std::time::Duration;

use tokio::time::timeout;

use super::stats;
use super::{
    super::*,
    made_up::{begin, open, pop, power_loss},
};
use crate::{Change, End, Engine, Pop, Push, QueueName, Settings};

#[tokio::test]
async fn two_leases_expire_independently() {
    let (_disk, clock, node) = begin();
    node.change(Change::Configure("t".to_owned(), Settings { ttr_ms: Some(1000), ..Settings::default() }))
        .await
        .unwrap();
    let ids = node.push_batch((0..3).map(|n| Push::new("t", vec![n])).collect()).await.unwrap();
    let first = pop(&node, 1).await.remove(0);
    clock.advance(400);
    let second = pop(&node, 1).await.remove(0);
    clock.advance(400);
    let third = pop(&node, 1).await.remove(0);
    node.end(&third.receipt.unwrap(), &End::Touch(Some(Duration::from_millis(5000)))).await.unwrap();
    assert!(pop(&node, 3).await.is_empty());
    clock.advance(199);
    assert!(pop(&node, 3).await.is_empty());
    clock.advance(1);
    // The first's ends 1,000 ms after it was taken, the second's goes on.
    let again = pop(&node, 3).await;
    assert_eq!(again.iter().map(|delivery| (delivery.id, delivery.retries)).collect::<Vec<_>>(), [(ids[0], 1)]);
    node.end(&second.receipt.unwrap(), &End::Ack).await.unwrap();
    clock.advance(999);
    assert!(pop(&node, 3).await.is_empty());
    node.end(&again[0].receipt.unwrap(), &End::Ack).await.unwrap();
    clock.advance(2000);
    assert!(pop(&node, 3).await.is_empty(), "the third was given 5 s");
    node.end(&third.receipt.unwrap(), &End::Ack).await.unwrap();
    assert_eq!(node.end(&first.receipt.unwrap(), &End::Ack).await, Err(MqError::NotLeased(ids[0].0)));
}

#[tokio::test]
async fn a_late_ack_ends_nobody_elses_lease() {
    let (disk, clock, node) = begin();
    let id = node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    let late = pop(&node, 1).await.remove(0).receipt.unwrap();
    clock.advance(30_000);
    let refused = Err(MqError::NotLeased(id.0));
    assert_eq!(node.end(&late, &End::Ack).await, refused, "its time is over, though nobody else has the message yet");
    let current = pop(&node, 1).await.remove(0).receipt.unwrap();
    assert_eq!(node.end(&late, &End::Ack).await, refused);
    assert_eq!(node.end(&late, &End::nack(Duration::ZERO, "late")).await, refused);
    assert_eq!(node.end(&late, &End::Touch(None)).await, refused);
    assert_eq!(stats(&node, "t").await.queues[0].leased, 1);
    // Nor after a restart.
    drop(node);
    let node = open(&disk, &clock).unwrap();
    assert_eq!(node.end(&late, &End::Ack).await, refused);
    node.end(&current, &End::Ack).await.unwrap();
    assert_eq!(node.end(&current, &End::Ack).await, refused);
}

/// What a pop says of its lease is not synced.
#[tokio::test]
async fn a_receipt_that_a_crash_forgot_is_nobody_elses() {
    let (disk, clock, node) = begin();
    let id = node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    let forgotten = pop(&node, 1).await.remove(0).receipt.unwrap();
    power_loss(&disk, node);
    let node = open(&disk, &clock).unwrap();
    let current = pop(&node, 1).await.remove(0).receipt.unwrap();
    assert_eq!((forgotten.id(), current.id()), (id, id));
    assert_eq!(node.end(&forgotten, &End::Ack).await, Err(MqError::NotLeased(id.0)));
    node.end(&current, &End::Ack).await.unwrap();
}

#[tokio::test]
async fn a_receipt_is_good_for_its_queue_only() {
    let (_disk, _clock, node) = begin();
    node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    let receipt = pop(&node, 1).await.remove(0).receipt.unwrap();
    node.change(Change::DeleteQueue(QueueName::new("t", "default"))).await.unwrap();
    node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    assert_eq!(pop(&node, 1).await.len(), 1);
    assert_eq!(node.end(&receipt, &End::Ack).await, Err(MqError::NotLeased(receipt.id().0)));
    assert_eq!(stats(&node, "t").await.queues[0].leased, 1);
}

/// A waiter that is still there gets the message whose lease expires.
#[tokio::test]
async fn a_waiting_pop_hears_of_a_lease_that_ends_and_of_a_delay_that_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let node = super::open(directory.path());
    node.change(Change::Configure("game".to_owned(), Settings { ttr_ms: Some(100), ..Settings::default() }))
        .await
        .unwrap();
    node.change(Change::Declare(QueueName::new("game", "default"))).await.unwrap();
    let waiting = |wait_ms: u64| {
        let node = node.clone();
        let wish = Pop { wait_ms, ..Pop::new("game", "default") };
        let popped = tokio::spawn(async move { node.pop(&wish).await.unwrap() });
        async move { timeout(Duration::from_secs(30), popped).await.expect("it waits too long").unwrap() }
    };
    let (one, other) = (waiting(300_000), waiting(300_000));
    tokio::task::yield_now().await;
    let id = node.push(Push::new("game", b"job".to_vec())).await.unwrap();
    // One of the two takes it and dies over it: the other gets it.
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one[0].id, other[0].id), (id, id));
    assert_eq!(one[0].retries + other[0].retries, 1);
    node.change(Change::Purge(QueueName::new("game", "default"))).await.unwrap();

    // The push wakes the waiter whose time is too short.
    let (short, long) = (waiting(20), waiting(300_000));
    tokio::task::yield_now().await;
    let id = node.push(Push { delay_ms: 200, ..Push::new("game", b"later".to_vec()) }).await.unwrap();
    assert!(short.await.is_empty());
    assert_eq!(long.await[0].id, id);
}

/// What is damaged is lost, named, and costs nothing else.
#[tokio::test]
async fn a_damaged_message_takes_no_other_with_it() {
    for auto_ack in [false, true] {
        let (disk, clock, node) = begin();
        node.change(Change::Configure("t".to_owned(), Settings { auto_ack: Some(auto_ack), ..Settings::default() }))
            .await
            .unwrap();
        let pushes = ["first", "second", "third"].map(|body| Push::new("t", body.as_bytes().to_vec()));
        let ids = node.push_batch(pushes.to_vec()).await.unwrap();
        drop(node);
        let name = "00000001.segment";
        let at = disk.bytes(name).windows(6).position(|bytes| bytes == b"second").unwrap();
        disk.flip(name, at, 0);
        let node = open(&disk, &clock).unwrap();
        let popped = pop(&node, 3).await;
        assert_eq!(popped.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
        assert_eq!(node.damage(), (Vec::new(), vec![ids[1]]));
    }
}

/// A segment may be freed and used again while somebody reads from it.
#[tokio::test]
async fn another_message_is_never_taken_for_the_one_that_was_there() {
    let (_disk, _clock, node) = begin();
    let ids = node.push_batch(vec![Push::new("t", b"one".to_vec()), Push::new("t", b"two".to_vec())]).await.unwrap();
    let place = {
        let mut inner = node.shared.lock();
        let number = inner.state.queue_number("t", "default").unwrap();
        inner.advance(number, &*node.shared.clock);
        inner.state.queue(number).unwrap().get(ids[1]).unwrap().place
    };
    assert_eq!(&node.shared.files.read(ids[1], place).unwrap().body[..], b"two");
    let error = node.shared.files.read(ids[0], place).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_lease_is_written_though_nobody_waits_for_it() {
    let (_disk, _clock, node) = begin();
    for _ in 0..3 {
        node.push(Push::new("t", b"job".to_vec())).await.unwrap();
        let before = node.written();
        assert_eq!(pop(&node, 1).await.len(), 1);
        let written = async {
            while node.written() == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), written).await.expect("it waits for something else to be written");
    }
}
