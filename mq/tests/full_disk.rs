//! A disk that is really full: a small tmpfs.

#![allow(clippy::unwrap_used)]

mod looks;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use looks::stats;
use ms_mq::{
    Change, Delivery, End, Engine, Look, MessageId, MqError, Node, NodeConfig, NodeId, OpenError, Pop, Push, QueueName,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// The smallest that there are.
const SEGMENT: usize = 16 * MIB;
const BODY: usize = 256 << 10;

/// A file system of its own, until this is dropped.
struct Small(TempDir);

impl Small {
    fn new(bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output()
            .unwrap_or_else(|error| panic!("this test needs the program `mount`: {error}"));
        assert!(
            mount.status.success(),
            "this test mounts a small tmpfs: run it as root, or under `unshare --user --map-root-user --mount`. {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Self(directory)
    }

    fn queue(&self) -> PathBuf {
        self.0.path().join("queue")
    }

    /// Something else takes all but so many bytes.
    fn leave(&self, bytes: usize) {
        let path = self.0.path().join("else");
        fs::write(&path, []).unwrap();
        let free = rustix::fs::statvfs(self.0.path()).unwrap();
        let taken = (free.f_bavail * free.f_frsize) as usize - bytes;
        fs::write(&path, vec![7; taken]).unwrap();
    }

    fn leave_all(&self) {
        fs::remove_file(self.0.path().join("else")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

fn open(directory: &Path) -> Result<Node, OpenError> {
    let config = NodeConfig { segment_bytes: SEGMENT as u64, ..NodeConfig::new(NodeId::new(1).unwrap()) };
    Node::open(directory, &config)
}

fn body(n: u8) -> Vec<u8> {
    vec![n; BODY]
}

/// Pushes until the disk is full.
async fn fill(node: &Node) -> Vec<MessageId> {
    let mut ids = Vec::new();
    loop {
        match node.push(Push::new("t", body(ids.len() as u8))).await {
            Ok(id) => ids.push(id),
            Err(error) => {
                assert_eq!(error, MqError::DiskFull);
                let text = error.to_string();
                assert!(text.contains("until messages are acked or purged, or there is more space"), "{text}");
                return ids;
            }
        }
    }
}

async fn pop(node: &Node) -> Option<Delivery> {
    node.pop(&Pop::new("t", "default")).await.unwrap().pop()
}

/// All that there is, in order, with its body.
async fn take_all(node: &Node, expected: &[MessageId]) {
    for (n, id) in expected.iter().enumerate() {
        let delivery = pop(node).await.unwrap();
        assert_eq!(delivery.id, *id);
        assert!(delivery.body[..] == body(n as u8), "the body of {id}");
        node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
    }
    assert!(pop(node).await.is_none());
}

/// Nobody is told when there is space again: who pushes tries.
async fn resumes(node: &Node) -> MessageId {
    let began = Instant::now();
    loop {
        match node.push(Push::new("t", b"again".to_vec())).await {
            Ok(id) => return id,
            Err(error) => assert_eq!(error, MqError::DiskFull),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "pushing does not resume");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn done(node: &Node, id: MessageId) {
    node.change(Change::Cancel(QueueName::new("t", "default"), id)).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_takes_no_pushes_and_all_else_until_acks_make_room() {
    let disk = Small::new(8 * SEGMENT + MIB);
    let node = open(&disk.queue()).unwrap();
    let mut counts = Vec::new();
    for _ in 0..3 {
        let ids = fill(&node).await;
        counts.push(ids.len());
        // What needs no more than a few bytes goes on.
        let first = pop(&node).await.unwrap();
        node.end(&first.receipt.unwrap(), &End::nack(Duration::ZERO, "not now")).await.unwrap();
        node.change(Change::Pause(QueueName::new("t", "default"), true)).await.unwrap();
        node.change(Change::Pause(QueueName::new("t", "default"), false)).await.unwrap();
        let list = Look::List { queue: QueueName::new("t", "default"), after: MessageId(0), most: 1000, dead: false };
        let listed = node.look(list).await.unwrap().messages();
        assert_eq!((listed.len(), listed[0].retries), (ids.len(), 1));
        // As many bodies as fit into one answer; the first is due later now.
        let next = node.look(Look::Peek(QueueName::new("t", "default"), 1000)).await.unwrap().messages();
        assert!((next.len() * BODY) <= 3 * MIB && next.len() > 1 && next[0].id == ids[1]);
        done(&node, ids[0]).await;
        for (n, id) in ids.iter().enumerate().skip(1) {
            let delivery = pop(&node).await.unwrap();
            assert_eq!(delivery.id, *id);
            assert!(delivery.body[..] == body(n as u8), "the body of {id}");
            node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
        }
        let id = resumes(&node).await;
        done(&node, id).await;
    }
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // Three segments of the eight are kept free, and one is cleaned at a time.
    assert!(*least >= 3 * SEGMENT / BODY && most - least <= SEGMENT / BODY, "what fits: {counts:?}");
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_queue_on_a_full_disk_opens_again_and_again_and_can_be_emptied() {
    let disk = Small::new(8 * SEGMENT + MIB);
    let ids = fill(&open(&disk.queue()).unwrap()).await;
    for _ in 0..10 {
        let node = open(&disk.queue()).unwrap();
        assert_eq!(stats(&node, "t").await.queues[0].ready, ids.len() as u64);
        let _ = fill(&node).await;
    }
    let node = open(&disk.queue()).unwrap();
    take_all(&node, &ids).await;
    resumes(&node).await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_first_leaves_nothing_half_made() {
    let disk = Small::new(8 * SEGMENT);
    // For the superblock there is no room; for it, but for no segment; for one.
    for left in [0, SEGMENT / 2, SEGMENT - 1] {
        disk.leave(left);
        let error = open(&disk.queue()).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().starts_with("the disk is full: the queue needs 16777216 bytes to open"), "{error}");
    }
    disk.leave(SEGMENT);
    let node = open(&disk.queue()).unwrap();
    assert_eq!(node.push(Push::new("t", b"too early".to_vec())).await, Err(MqError::DiskFull));
    // Somebody makes room: nobody needs to start it again.
    disk.leave_all();
    let id = resumes(&node).await;
    drop(node);
    let node = open(&disk.queue()).unwrap();
    assert_eq!(pop(&node).await.unwrap().id, id);
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
}
