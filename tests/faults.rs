//! The faults whose goal is a count or a promise, at reduced length; `bench faults` runs all of them in full.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ms_tests::{
    Failure, NodeProgram, Row,
    faults::{self, Registry},
};

fn program() -> NodeProgram {
    NodeProgram::new(env!("CARGO_BIN_EXE_node"), &[])
}

fn assert_promises(outcome: Result<Row, Failure>) {
    let row = outcome.unwrap();
    println!("{row}");
    row.assert_promises();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_killed() {
    assert_promises(faults::instances_killed(&program(), 10).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_restarted_in_turn() {
    assert_promises(faults::rolling_restart(&program(), Registry::Etcd, 2, 2_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_stale() {
    assert_promises(faults::stale_entry(&program(), Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_panic() {
    assert_promises(faults::handlers_panic(&program(), 500).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Etcd, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Nacos, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_paused() {
    assert_promises(faults::registry_paused(&program(), Registry::Nacos, Duration::from_secs(8)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Etcd).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Nacos).await);
}
