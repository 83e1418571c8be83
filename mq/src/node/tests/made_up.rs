//! A node on a disk in memory, at a time that the test makes up.

use std::sync::Arc;

use crate::{Node, NodeConfig, NodeId, OpenError, clock::Manual, message::Millis, store::faulty::FaultyFile};

pub(super) use crate::store::faulty::Faulty as Disk;

/// 2026.
pub(super) const START: Millis = 1_767_225_600_000;
/// Small, so that the log is cleaned.
pub(super) const SEGMENT: u64 = 16 << 10;

pub(super) fn manual() -> Manual {
    let clock = Manual::default();
    clock.advance(START);
    clock
}

pub(super) fn open(disk: &Disk, clock: &Manual) -> Result<Node<FaultyFile>, OpenError> {
    let config =
        NodeConfig { segment_bytes: SEGMENT, cache_bytes: 4 << 10, ..NodeConfig::new(NodeId::new(7).unwrap()) };
    let clock = Arc::new(clock.clone());
    Node::open_store(disk.clone(), &config, move |_| clock)
}
