//! A node on a disk in memory, at a time that the test makes up.

use std::sync::Arc;

use crate::{
    Delivery, Engine, Node, NodeConfig, NodeId, OpenError, Pop, clock::Manual, message::Millis,
    store::faulty::FaultyFile,
};

pub(super) use crate::store::faulty::Faulty as Disk;

/// 2026.
pub(super) const START: Millis = 1_767_225_600_000;
/// Small, so that the log is cleaned.
pub(super) const SEGMENT: u64 = 8 << 10;

pub(super) fn manual() -> Manual {
    let clock = Manual::default();
    clock.advance(START);
    clock
}

pub(super) fn open(disk: &Disk, clock: &Manual) -> Result<Node<FaultyFile>, OpenError> {
    open_with(disk, clock, SEGMENT)
}

pub(super) fn open_with(disk: &Disk, clock: &Manual, segment_bytes: u64) -> Result<Node<FaultyFile>, OpenError> {
    let config = NodeConfig { segment_bytes, cache_bytes: 4 << 10, ..NodeConfig::new(NodeId::new(7).unwrap()) };
    let clock = Arc::new(clock.clone());
    Node::open_store(disk.clone(), &config, move |_| clock)
}

/// A node on a new disk.
pub(super) fn begin() -> (Disk, Manual, Node<FaultyFile>) {
    let (disk, clock) = (Disk::default(), manual());
    let node = open(&disk, &clock).unwrap();
    (disk, clock, node)
}

/// The next messages of the queue `default` of the topic `t`.
pub(super) async fn pop(node: &Node<FaultyFile>, most: u32) -> Vec<Delivery> {
    let wish = Pop { max_messages: most, max_bytes: u32::MAX, ..Pop::new("t", "default") };
    node.pop(&wish).await.unwrap()
}

/// The power goes, and with it unsynced bytes; it comes back.
pub(super) fn power_loss(disk: &Disk, node: Node<FaultyFile>) {
    disk.fail_after(0);
    drop(node);
    disk.lose();
}
