//! Nodes that join a cluster, and learn what it has.

#![allow(clippy::unwrap_used)]

mod common;
mod looks;

use std::sync::Arc;

use common::{client, start};
use looks::stats;
use ms_mq::{Change, Engine, Mode, Rate, Settings};
use ms_register::Memory;

fn settings() -> Settings {
    Settings {
        mode: Some(Mode::Fuzzy),
        max_retries: Some(7),
        max_length: Some(99),
        backoff_ms: Some(vec![5, 10]),
        rate: Some(Rate::per_second(5)),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_node_that_joins_has_the_settings_and_the_queues() {
    let registry = Arc::new(Memory::new());
    let one = start(&registry, 1).await;
    let client = client(&registry);
    client.configure("t", &settings()).await.unwrap();
    client.declare("t", "a").await.unwrap();
    client.declare("t", "b").await.unwrap();
    client.pause("t", "b", true).await.unwrap();
    client.declare("plain", "q").await.unwrap();
    let two = start(&registry, 2).await;
    assert_eq!(client.catch_up(&two.node).await.unwrap(), 6);
    for topic in ["t", "plain"] {
        let (theirs, own) = (stats(&one.node, topic).await, stats(&two.node, topic).await);
        assert_eq!((&own.settings, own.changed_ms), (&theirs.settings, theirs.changed_ms));
        let queues = |stats: &ms_mq::TopicStats| {
            stats.queues.iter().map(|queue| (queue.queue.clone(), queue.paused)).collect::<Vec<_>>()
        };
        assert_eq!(queues(&own), queues(&theirs));
    }
    assert_eq!(client.catch_up(&two.node).await.unwrap(), 0, "there is nothing left to learn");
}

#[tokio::test]
async fn of_different_settings_the_newest_count() {
    let registry = Arc::new(Memory::new());
    let (one, two) = (start(&registry, 1).await, start(&registry, 2).await);
    let retries = |max_retries| Settings { max_retries: Some(max_retries), ..Settings::default() };
    let configure = |settings: Settings| Change::Configure("t".to_owned(), settings);
    one.node.change(configure(settings())).await.unwrap();
    // A topic that was never configured has nothing to say.
    two.node.change(Change::Declare(ms_mq::QueueName::new("t", "own"))).await.unwrap();
    let client = client(&registry);
    client.catch_up(&two.node).await.unwrap();
    assert_eq!(stats(&two.node, "t").await.settings.max_retries, Some(7));
    // Each of the clocks has moved on.
    let before = stats(&two.node, "t").await.changed_ms;
    while stats(&two.node, "t").await.changed_ms == before {
        two.node.change(configure(retries(3))).await.unwrap();
    }
    client.catch_up(&two.node).await.unwrap();
    assert_eq!(stats(&two.node, "t").await.settings.max_retries, Some(3), "its own are newer");
    client.catch_up(&one.node).await.unwrap();
    let found = stats(&one.node, "t").await;
    assert_eq!((found.settings.max_retries, found.settings.max_length), (Some(3), Some(99)));
    assert!(found.queues.iter().any(|queue| queue.queue == "own"));
}
