//! Bounds of deliveries - leases at a time, rates, groups - and what wakes a pop that waits for them.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::{Rate, Receipt, Settings};

async fn with(settings: Settings) -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    node.change(Change::Configure("game".to_owned(), settings)).await.unwrap();
    (directory, node)
}

async fn next(node: &Node) -> Receipt {
    popped(node).await.unwrap().receipt.unwrap()
}

/// A pop waits until `change` has happened, and is answered because of it.
async fn waits_for(node: &Node, change: impl Future<Output = ()>) {
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.pop(&pop(60_000)).await.unwrap().len() }
    });
    // Until the pop waits.
    while node.shared.lock().poppers == 0 {
        tokio::task::yield_now().await;
    }
    assert!(popped(node).await.is_none());
    change.await;
    assert_eq!(timeout(Duration::from_secs(20), waiting).await.expect("it sleeps on").unwrap(), 1);
}

#[tokio::test]
async fn every_end_of_a_lease_lets_a_waiting_pop_go_on() {
    let (_directory, node) = with(Settings { max_leased: Some(1), ..Settings::default() }).await;
    for _ in 0..6 {
        node.push(Push::new("game", b"job".to_vec())).await.unwrap();
    }
    let queue = || QueueName::new("game", "default");
    let receipt = next(&node).await;
    waits_for(&node, async { node.end(&receipt, &End::Ack).await.unwrap() }).await;
    let leased = async || {
        let list = Look::List { queue: queue(), after: MessageId(0), most: 10, dead: false };
        let mut messages = node.look(list).await.unwrap().messages();
        messages.retain(|message| message.state == "leased");
        assert_eq!(messages.len(), 1);
        messages[0].id
    };
    let id = leased().await;
    waits_for(&node, async {
        let _ = node.change(Change::AckById(queue(), id)).await.unwrap();
    })
    .await;
    let id = leased().await;
    waits_for(&node, async {
        let _ = node.change(Change::Cancel(queue(), id)).await.unwrap();
    })
    .await;
    let wider = Change::Configure("game".to_owned(), Settings { max_leased: Some(2), ..Settings::default() });
    waits_for(&node, async {
        let _ = node.change(wider).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_next_of_a_group_comes_when_the_first_has_ended() {
    let (directory, node) = with(Settings { max_retries: Some(1), ..Settings::default() }).await;
    for body in ["one", "two", "three"] {
        node.push(Push::new("game", body.as_bytes().to_vec()).with_group("g")).await.unwrap();
    }
    let receipt = next(&node).await;
    assert!(popped(&node).await.is_none());
    node.end(&receipt, &End::nack(Duration::ZERO, "no")).await.unwrap();
    let again = popped(&node).await.unwrap();
    assert_eq!((text(&again), again.retries), ("one".to_owned(), 1), "the order is kept over a nack");
    // Over a restart too: leases go on.
    node.close();
    let node = open(directory.path());
    assert!(popped(&node).await.is_none());
    let receipt = again.receipt.unwrap();
    waits_for(&node, async { node.end(&receipt, &End::nack(Duration::ZERO, "no")).await.unwrap() }).await;
    let counts = &stats(&node, "game").await.queues[0];
    assert_eq!((counts.dead, counts.leased, counts.held), (1, 1, 1));
    // Made ready again, the first comes before the third, but not while the second is leased.
    node.change(Change::Redrive(QueueName::new("game", "default"), None)).await.unwrap();
    assert!(popped(&node).await.is_none());
    node.change(Change::Purge(QueueName::new("game", "default"))).await.unwrap();
    node.push(Push::new("game", b"new".to_vec()).with_group("g")).await.unwrap();
    assert_eq!(text(&popped(&node).await.unwrap()), "new");
    let bad = node.push(Push::new("game", b"x".to_vec()).with_group("g".repeat(256))).await.unwrap_err();
    assert!(matches!(&bad, MqError::Invalid(text) if text.contains("group key")), "{bad}");
}

#[tokio::test]
async fn messages_that_ack_themselves_come_one_after_the_other() {
    let (_directory, node) = with(Settings { auto_ack: Some(true), ..Settings::default() }).await;
    for body in ["one", "two", "three"] {
        node.push(Push::new("game", body.as_bytes().to_vec()).with_group("g")).await.unwrap();
    }
    for body in ["one", "two", "three"] {
        let found = node.pop(&Pop { max_messages: 10, ..pop(0) }).await.unwrap();
        assert_eq!(found.iter().map(text).collect::<Vec<_>>(), [body]);
    }
}

#[tokio::test]
async fn a_rate_ends_a_wait_by_itself() {
    let (_directory, node) =
        with(Settings { rate: Some(Rate { messages: 2, per_ms: 400 }), ..Settings::default() }).await;
    for _ in 0..5 {
        node.push(Push::new("game", b"job".to_vec())).await.unwrap();
    }
    let found = node.pop(&Pop { max_messages: 10, ..pop(0) }).await.unwrap();
    assert_eq!(found.len(), 2);
    waits_for(&node, async {}).await;
    let receipts: Vec<_> = found.iter().filter_map(|delivery| delivery.receipt).collect();
    // Deliveries that reached nobody do not count.
    waits_for(&node, async {
        let _ = node.end_all(&receipts, &End::Return).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn failed_deliveries_wait_for_the_steps_of_the_topic() {
    let (_directory, node) = with(Settings { backoff_ms: Some(vec![100_000, 500_000]), ..Settings::default() }).await;
    let id = node.push(Push::new("game", b"job".to_vec())).await.unwrap();
    let queue = QueueName::new("game", "default");
    for (delay, least) in [(0, 100_000), (900_000, 900_000), (1_000, 500_000)] {
        let now = node.shared.clock.now();
        node.change(Change::Reschedule(queue.clone(), id, now)).await.unwrap();
        let receipt = next(&node).await;
        node.end(&receipt, &End::nack(Duration::from_millis(delay), "no")).await.unwrap();
        let due = node.look(Look::Get(queue.clone(), id)).await.unwrap().messages()[0].due_ms;
        assert!((least..least + 60_000).contains(&(due - now)), "{} after {delay}", due - now);
    }
    let settings = stats(&node, "game").await.settings;
    assert_eq!(settings.backoff_ms, Some(vec![100_000, 500_000]));
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused_with_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let node = open(directory.path());
    for (settings, word) in [
        (Settings { backoff_ms: Some(vec![1; 33]), ..Settings::default() }, "at most 32"),
        (Settings { backoff_ms: Some(vec![u64::MAX]), ..Settings::default() }, "366 days"),
        (Settings { max_leased: Some(0), ..Settings::default() }, "pause"),
        (Settings { rate: Some(Rate { messages: 0, per_ms: 5 }), ..Settings::default() }, "rate"),
        (Settings { rate: Some(Rate { messages: 5, per_ms: 0 }), ..Settings::default() }, "rate"),
        (Settings { rate: Some(Rate { messages: 5, per_ms: u32::MAX }), ..Settings::default() }, "86400000"),
    ] {
        let error = node.change(Change::Configure("game".to_owned(), settings)).await.unwrap_err();
        assert!(matches!(&error, MqError::Invalid(text) if text.contains(word)), "{error}");
    }
    let none = Settings {
        backoff_ms: Some(Vec::new()),
        max_leased: Some(u64::MAX),
        rate: Some(Rate::UNLIMITED),
        ..Settings::default()
    };
    node.change(Change::Configure("game".to_owned(), none)).await.unwrap();
    let Settings { backoff_ms, max_leased, rate, .. } = stats(&node, "game").await.settings;
    assert_eq!((backoff_ms, max_leased, rate), (None, None, None));
}
