//! Counters of a consumer. One test: the recorder is the process's.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{client, soon, start};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use ms_mq::{Change, ConsumerOptions, Delivery, Engine, Push, Settings};
use ms_register::Memory;

#[tokio::test]
async fn handlers_and_failed_pops_are_counted() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    recorder.install().unwrap();
    let registry = Arc::new(Memory::new());
    let running = start(&registry, 1).await;
    let options = ConsumerOptions { backoff: Duration::from_millis(1), ..ConsumerOptions::default() };
    let consumer = client(&registry).consume("t", "default", options, |delivery: Delivery| async move {
        assert!(delivery.body[0] != 2, "poison");
        if delivery.body[0] == 1 { Err("no") } else { Ok(()) }
    });
    let mut counts = BTreeMap::new();
    let mut read = || {
        for (key, _, _, value) in told.snapshot().into_vec() {
            if let (Some(name), DebugValue::Counter(count)) = (key.key().name().strip_prefix("ms_mq_consumer_"), value)
            {
                let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
                *counts.entry(format!("{name} {}", labels.join(" "))).or_default() += count;
            }
        }
        counts.clone()
    };
    let missing = async {
        while !read().contains_key("errors_total t default no_topic") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(missing).await;
    let settings = Settings { max_retries: Some(0), ..Settings::default() };
    running.node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
    running.node.push_batch((0..6).map(|n| Push::new("t", vec![n % 3])).collect()).await.unwrap();
    running.until(|queue| queue.ready + queue.leased == 0 && queue.dead == 4).await;
    soon(consumer.stop(Duration::from_secs(5))).await;
    let counts: BTreeMap<_, u64> = read();
    for result in ["done", "failed", "panicked"] {
        assert_eq!(counts.get(&format!("messages_total t default {result}")), Some(&2), "{counts:?}");
    }
}
