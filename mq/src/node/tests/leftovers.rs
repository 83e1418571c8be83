//! What is left in a file from before is nothing, wherever it lies.

use super::{
    super::*,
    made_up::{begin, open, pop},
};
use crate::{Durability, Engine, Look, Push, QueueName};

/// A crash takes the first of two batches and leaves the second. The segment is used again, under its old number, and a
/// batch as long as the first is written: the second must not come back behind it.
#[tokio::test]
async fn what_a_crash_cut_off_does_not_come_back() {
    const NAME: &str = "00000002.segment";
    let (disk, clock, node) = begin();
    let kept = node.push(Push::new("t", b"kept".to_vec())).await.unwrap();
    drop(node);

    let weak = |body: &str| Push { durability: Durability::Written, ..Push::new("t", body.as_bytes().to_vec()) };
    let node = open(&disk, &clock).unwrap();
    node.push(weak("one")).await.unwrap();
    node.push(weak("two")).await.unwrap();
    disk.fail_after(0);
    drop(node);
    let mut bytes = disk.bytes(NAME);
    disk.lose();
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|found| found == text);
    let at = find(&bytes, b"one").unwrap();
    bytes[at..at + 3].fill(0);
    disk.replace(NAME, bytes);

    let ids = async |node: &Node<_>| pop(node, 10).await.iter().map(|delivery| delivery.id).collect::<Vec<_>>();
    let node = open(&disk, &clock).unwrap();
    assert_eq!(
        node.look(Look::List { queue: QueueName::new("t", "default"), after: MessageId(0), most: 10, dead: false })
            .await
            .unwrap()
            .messages()
            .len(),
        1,
        "the crash took both"
    );
    let new = node.push(weak("six")).await.unwrap();
    disk.fail_after(0);
    drop(node);
    let bytes = disk.bytes(NAME);
    assert!(find(&bytes, b"six") == Some(at) && find(&bytes, b"two").is_some(), "one lies behind the other");
    disk.lose();
    disk.replace(NAME, bytes);
    let node = open(&disk, &clock).unwrap();
    assert_eq!(ids(&node).await, [kept, new]);
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
}
