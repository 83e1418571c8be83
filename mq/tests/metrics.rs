//! What a node tells through the facade `metrics`. One test: the recorder is the process's.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use ms_mq::{Change, End, Engine, Meter, Node, NodeConfig, NodeId, Pop, Push, QueueName, Settings};

#[tokio::test]
async fn a_node_tells_how_its_queues_stand() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    recorder.install().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(1).unwrap()) };
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let mut meter = Meter::new(&node);
    assert!(meter.record());

    let retries = Settings { max_retries: Some(0), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), retries.clone())).await.unwrap();
    node.change(Change::Declare(QueueName::new("other", "q"))).await.unwrap();
    for n in 0..5 {
        node.push(Push::new("t", vec![n + 1])).await.unwrap();
    }
    node.push(Push { delay_ms: 60_000, ..Push::new("t", b"later".to_vec()) }).await.unwrap();
    let popped = node.pop(&Pop { max_messages: 3, ..Pop::new("t", "default") }).await.unwrap();
    node.end(&popped[0].receipt.unwrap(), &End::Ack).await.unwrap();
    node.end(&popped[1].receipt.unwrap(), &End::nack(Duration::ZERO, "no")).await.unwrap();

    // Counters and gauges by name and labels; of histograms, how many values they have.
    let values = || -> HashMap<String, f64> {
        let told = told.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
            let key = key.key();
            let labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => values.len() as f64,
            };
            (format!("{} {}", key.name(), labels.join(" ")).trim().to_owned(), value)
        });
        told.collect()
    };
    // A lease may be written and blocks prepared meanwhile.
    let on_disk = || (node.written() + node.prepared()) as f64;
    let least = on_disk();
    assert!(meter.record());
    let written = least..=on_disk();
    let now = values();
    let expected = [
        ("ms_mq_messages t default ready", 2.0),
        ("ms_mq_messages t default delayed", 1.0),
        ("ms_mq_messages t default leased", 1.0),
        ("ms_mq_messages t default dead", 1.0),
        ("ms_mq_messages other q ready", 0.0),
        ("ms_mq_pushes_total t default", 6.0),
        ("ms_mq_deliveries_total t default", 3.0),
        ("ms_mq_acks_total t default", 1.0),
        ("ms_mq_failed_deliveries_total t default", 1.0),
        ("ms_mq_dead_letters_total t default", 1.0),
        ("ms_mq_dropped_dead_letters_total t default", 0.0),
        ("ms_mq_oldest_message_seconds other q", 0.0),
        ("ms_mq_lost_messages_total", 0.0),
        ("ms_mq_disk_full", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(now.get(name), Some(&value), "{name}: {now:?}");
    }
    assert!(least > 0.0 && written.contains(&now["ms_mq_written_bytes_total"]), "{written:?}: {now:?}");
    assert!(now["ms_mq_sync_seconds"] >= 8.0, "{now:?}");

    let oldest = now["ms_mq_oldest_message_seconds t default"];
    assert!((0.0..60.0).contains(&oldest), "{oldest}");

    // What is gone holds nothing.
    node.change(Change::DeleteTopic("t".to_owned())).await.unwrap();
    assert!(meter.record());
    assert_eq!(values()["ms_mq_messages t default ready"], 0.0);
    let running = tokio::spawn(meter.run(Duration::from_millis(1)));
    tokio::task::spawn_blocking(move || node.close()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it goes on when the node is closed").unwrap();
}
