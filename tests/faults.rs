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
async fn etcd_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Etcd, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Nacos, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_loses_its_data() {
    assert_promises(
        faults::registry_wiped(&program(), Registry::Etcd, Duration::from_secs(4), Duration::from_secs(3)).await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_loses_its_data() {
    assert_promises(
        faults::registry_wiped(&program(), Registry::Nacos, Duration::from_secs(4), Duration::from_secs(3)).await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_paused() {
    assert_promises(faults::registry_paused(&program(), Registry::Etcd, Duration::from_secs(8)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_paused() {
    assert_promises(faults::registry_paused(&program(), Registry::Nacos, Duration::from_secs(8)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zookeeper_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Zookeeper, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zookeeper_loses_its_data() {
    assert_promises(
        faults::registry_wiped(&program(), Registry::Zookeeper, Duration::from_secs(4), Duration::from_secs(3)).await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zookeeper_is_paused() {
    assert_promises(faults::registry_paused(&program(), Registry::Zookeeper, Duration::from_secs(8)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gregister_is_killed() {
    assert_promises(faults::registry_killed(&program(), Registry::Gregister, Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gregister_loses_its_data() {
    assert_promises(
        faults::registry_wiped(&program(), Registry::Gregister, Duration::from_secs(4), Duration::from_secs(3)).await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gregister_is_paused() {
    assert_promises(faults::registry_paused(&program(), Registry::Gregister, Duration::from_secs(8)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gregister_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Gregister).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_in_gregister_are_deleted_by_hand() {
    assert_promises(faults::keys_deleted(&program(), Registry::Gregister, 2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_in_gregister_are_restarted_in_turn() {
    assert_promises(faults::rolling_restart(&program(), Registry::Gregister, 1, 2_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_emptied() {
    assert_promises(faults::list_emptied(&program(), Duration::from_secs(4)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_halved() {
    assert_promises(faults::list_halved(&program()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_deleted_by_hand() {
    assert_promises(faults::keys_deleted(&program(), Registry::Etcd, 2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_in_zookeeper_are_deleted_by_hand() {
    assert_promises(faults::keys_deleted(&program(), Registry::Zookeeper, 2).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Etcd).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nacos_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Nacos).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zookeeper_is_absent_at_the_start() {
    assert_promises(faults::registry_absent(&program(), Registry::Zookeeper).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_start() {
    assert_promises(faults::clients_start(&program(), 2_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_killed() {
    assert_promises(faults::instances_killed(&program(), 10).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_frozen() {
    assert_promises(faults::instance_frozen(&program(), Duration::from_secs(6)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_behind_a_black_hole() {
    assert_promises(faults::instance_black_holed(&program(), Duration::from_secs(6)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_restarted_in_turn() {
    assert_promises(faults::rolling_restart(&program(), Registry::Etcd, 2, 2_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_in_zookeeper_are_restarted_in_turn() {
    assert_promises(faults::rolling_restart(&program(), Registry::Zookeeper, 1, 2_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_stale() {
    assert_promises(faults::stale_entry(&program(), Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_restarts_without_its_registry() {
    assert_promises(faults::restart_without_registry(&program(), &[0, 3]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stop_reading() {
    assert_promises(faults::clients_stop_reading(&program(), 20).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_slow() {
    assert_promises(faults::idle_and_slow(&program(), 200, 50).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_run_out() {
    assert_promises(faults::out_of_files(&program()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_panic() {
    assert_promises(faults::handlers_panic(&program(), 500).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_reconnect() {
    assert_promises(faults::clients_reconnect(&program(), 200, Duration::from_secs(2)).await);
}
