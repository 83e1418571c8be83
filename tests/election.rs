//! Five real processes contend for one service at each real registry. The full length (`--ignored`) takes two minutes each, and wants a
//! machine that does nothing else.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ms_tests::{Ordeal, Server, contested};

const SHORT: Ordeal = Ordeal { kills: 2, stops: 2, pauses: 1, slack: Duration::from_secs(5) };
const FULL: Ordeal = Ordeal { kills: 10, stops: 10, pauses: 1, slack: Duration::from_secs(1) };

async fn assert_promises(server: Server, ordeal: Ordeal) {
    let row = contested(env!("CARGO_BIN_EXE_candidate"), server, ordeal).await.unwrap();
    println!("{row}");
    row.assert_promises();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_has_one_master_at_a_time() {
    assert_promises(Server::etcd().await.unwrap(), SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gregister_has_one_master_at_a_time() {
    assert_promises(Server::gregister().await.unwrap(), SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zookeeper_has_one_master_at_a_time() {
    assert_promises(Server::zookeeper().await.unwrap(), SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn etcd_has_one_master_at_a_time_in_full() {
    assert_promises(Server::etcd().await.unwrap(), FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn gregister_has_one_master_at_a_time_in_full() {
    assert_promises(Server::gregister().await.unwrap(), FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn zookeeper_has_one_master_at_a_time_in_full() {
    assert_promises(Server::zookeeper().await.unwrap(), FULL).await;
}
