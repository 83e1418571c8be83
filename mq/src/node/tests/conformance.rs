//! A node keeps the contract of an engine, also over restarts and crashes.

use super::{
    super::*,
    made_up::{Disk, manual, open},
};
use crate::{
    clock::Manual,
    conformance::{Subject, check},
    store::faulty::FaultyFile,
};

struct OnFaultyDisk {
    disk: Disk,
    clock: Manual,
    node: Option<Node<FaultyFile>>,
}

impl OnFaultyDisk {
    fn new() -> Self {
        let (disk, clock) = (Disk::default(), manual());
        let node = Some(open(&disk, &clock).unwrap());
        Self { disk, clock, node }
    }
}

impl Subject for OnFaultyDisk {
    type Engine = Node<FaultyFile>;

    fn engine(&self) -> Self::Engine {
        self.node.clone().unwrap()
    }

    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn advance(&mut self, milliseconds: u64) {
        self.clock.advance(milliseconds);
    }

    fn reopen(&mut self, crash: Option<u64>) {
        if crash.is_some() {
            self.disk.fail_after(0);
        }
        self.node = None;
        if let Some(seed) = crash {
            self.disk.crash(&mut fastrand::Rng::with_seed(seed));
        }
        let node = open(&self.disk, &self.clock).unwrap();
        assert_eq!(node.damage(), (Vec::new(), Vec::new()));
        self.node = Some(node);
    }
}

#[test]
fn a_node_does_what_the_model_does() {
    check(OnFaultyDisk::new, 300);
}

/// More of it: `cargo test --release -p ms-mq -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_node_does_what_the_model_does_20_000_times() {
    check(OnFaultyDisk::new, 20_000);
}
