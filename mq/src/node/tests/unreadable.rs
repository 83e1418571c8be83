//! Sectors that cannot be read: their messages are lost and named, and all else goes on.

use std::collections::BTreeSet;

use super::{
    super::*,
    made_up::{Disk, manual, open_with, pop},
    stats,
};
use crate::{Change, Engine, Look, Push, QueueName, clock::Manual, store::faulty::FaultyFile};

const SEGMENT: u64 = 32 << 10;
const SECTOR: usize = 512;

/// A log of several segments, and the ids in it. The end is clean or not.
async fn log(clock: &Manual, clean: bool) -> (Disk, Vec<MessageId>) {
    let disk = Disk::default();
    let node = open_with(&disk, clock, SEGMENT).unwrap();
    let mut ids = Vec::new();
    for n in 0..300usize {
        ids.push(node.push(Push::new("t", vec![n as u8; 100 + n % 200])).await.unwrap());
    }
    if !clean {
        disk.fail_after(0);
    }
    drop(node);
    disk.lose();
    (disk, ids)
}

fn segments(disk: &Disk) -> Vec<String> {
    disk.names().unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect()
}

/// All that can be popped is there or named as lost; unless nobody can tell what is lost.
async fn all_is_there_or_named(node: &Node<FaultyFile>, ids: &[MessageId], what: &str) {
    let mut found = BTreeSet::new();
    loop {
        let popped = pop(node, 1000).await;
        if popped.is_empty() {
            break;
        }
        for delivery in popped {
            let n = ids.iter().position(|id| *id == delivery.id).unwrap();
            assert_eq!(delivery.body[..], vec![n as u8; 100 + n % 200], "{what}");
            found.insert(delivery.id);
        }
    }
    let (damage, lost) = node.damage();
    let nobody_can_tell = damage.iter().any(|damage| damage.lost.is_none());
    let named: BTreeSet<_> =
        damage.iter().flat_map(|damage| damage.lost.clone().unwrap_or_default()).chain(lost).collect();
    for id in ids {
        assert!(found.contains(id) || named.contains(id) || nobody_can_tell, "{what}: {id} is lost and not named");
    }
}

#[tokio::test]
async fn a_node_opens_whatever_sector_cannot_be_read() {
    let clock = manual();
    for clean in [true, false] {
        let (disk, ids) = log(&clock, clean).await;
        for name in segments(&disk) {
            for start in (0..SEGMENT as usize).step_by(7 * SECTOR) {
                let disk = disk.copy();
                disk.ruin(&name, start..start + SECTOR);
                let what = format!("{name} {start}");
                let node = open_with(&disk, &clock, SEGMENT).unwrap_or_else(|error| panic!("{what}: {error}"));
                all_is_there_or_named(&node, &ids, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn a_superblock_that_cannot_be_read_is_told_by_the_segments() {
    let clock = manual();
    let (disk, ids) = log(&clock, true).await;
    disk.ruin("store", 0..4096);
    let node = open_with(&disk, &clock, SEGMENT).unwrap();
    assert_eq!(stats(&node, "t").await.queues[0].ready, ids.len() as u64);
}

/// An open node: under the head of a queue, and in a segment that is cleaned.
#[tokio::test]
async fn a_queue_moves_past_what_cannot_be_read_and_cleaning_does_too() {
    let clock = manual();
    let (disk, ids) = log(&clock, true).await;
    let node = open_with(&disk, &clock, SEGMENT).unwrap();
    for id in [ids[0], ids[10]] {
        let state = &node.shared.lock().state;
        let place = state.queue(state.queue_number("t", "default").unwrap()).unwrap().get(id).unwrap().place;
        assert_eq!(place.segment, 1);
        disk.ruin("00000001.segment", place.offset as usize..place.offset as usize + 1);
    }
    let first = pop(&node, 1).await.remove(0);
    assert_eq!((first.id, node.damage().1), (ids[1], vec![ids[0]]));
    node.give_back(first.receipt.into_iter().collect())();
    // All messages are acked but one and the unreadable message, so that the log is cleaned.
    let kept = ids[5];
    loop {
        let popped = pop(&node, 100).await;
        if popped.is_empty() {
            break;
        }
        for delivery in popped.iter().filter(|delivery| delivery.id != kept) {
            assert_ne!(delivery.id, ids[10]);
            node.change(Change::Cancel(QueueName::new("t", "default"), delivery.id)).await.unwrap();
        }
    }
    while disk.names().unwrap().iter().any(|name| name == "00000001.segment") {
        node.push(Push::new("other", vec![7; 1000])).await.unwrap();
        node.change(Change::Purge(QueueName::new("other", "default"))).await.unwrap();
    }
    let found = node.look(Look::Get(QueueName::new("t", "default"), kept)).await.unwrap().messages();
    assert_eq!(found[0].body.as_deref(), Some(&vec![5; 105][..]));
    assert_eq!(node.damage().1, [ids[0], ids[10]]);
    assert!(node.shared.lock().failure.is_none());
}
