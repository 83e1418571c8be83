//! Messages that a consumer with an empty handler takes and acknowledges in a second. Run by hand:
//! `cargo test -p ms-mq --test throughput -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ms_mq::{ConsumerOptions, Delivery, Engine, Push};
use ms_register::Memory;

const MESSAGES: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn consumer_with_an_empty_handler() {
    let registry = Arc::new(Memory::new());
    let running = common::start(&registry, 1).await;
    let client = common::client(&registry);
    client.declare("t", "default").await.unwrap();
    for round in 0..3 {
        for _ in 0..MESSAGES / 1000 {
            running.node.push_batch(vec![Push::new("t", vec![7; 256]); 1000]).await.unwrap();
        }
        let begin = Instant::now();
        let options = ConsumerOptions { concurrency: 4, ..ConsumerOptions::default() };
        let consumer = client.consume("t", "default", options, |_: Delivery| async { Ok::<_, String>(()) });
        running.until_empty().await;
        let took = begin.elapsed();
        println!("round {round}: {MESSAGES} in {took:.2?}: {:.0} a second", MESSAGES as f64 / took.as_secs_f64());
        consumer.stop(Duration::from_secs(5)).await;
    }
}
