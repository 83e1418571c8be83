//! The faults whose goal is a count or a promise, at reduced length; `bench faults` runs all of them in full.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use ms_tests::{Failure, NodeProgram, Row, faults};

fn program() -> NodeProgram {
    NodeProgram::new(env!("CARGO_BIN_EXE_node"), &[])
}

fn assert_promises(outcome: Result<Row, Failure>) {
    let row = outcome.unwrap();
    println!("{row}");
    row.assert_promises();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_killed() {
    assert_promises(faults::instances_killed(&program(), 10).await);
}
