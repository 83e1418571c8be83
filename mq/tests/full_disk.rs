//! A disk that is really full, a small tmpfs; and one that cannot reserve, a ramfs.

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
    Settings,
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
        Self::mount("tmpfs", &format!("size={bytes}"))
    }

    fn mount(kind: &str, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", kind, "-o", options, kind])
            .arg(directory.path())
            .output()
            .unwrap_or_else(|error| panic!("this test needs the program `mount`: {error}"));
        assert!(
            mount.status.success(),
            "this test mounts a {kind}: run it as root, or under `unshare --user --map-root-user --mount`. {}",
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

/// What grows without pushes: touches, failed deliveries, settings. It is written over and over, while all messages stay.
#[tokio::test]
async fn a_full_disk_of_live_messages_serves_on_and_opens_again() {
    const QUEUE: fn() -> QueueName = || QueueName::new("t", "default");
    let disk = Small::new(10 * SEGMENT + MIB);
    let mut node = open(&disk.queue()).unwrap();
    let settings = Settings { max_retries: Some(u16::MAX), ttr_ms: Some(3_600_000), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings.clone())).await.unwrap();
    let mut ids = fill(&node).await;
    let wish = Pop { max_messages: 1000, ..Pop::new("t", "default") };
    let mut refused = 0;
    // Some times the bytes of the reserve.
    for round in 0..12 {
        let mut leased = Vec::new();
        loop {
            match node.pop(&wish).await {
                Ok(popped) if popped.is_empty() => break,
                Ok(popped) => leased.extend(popped.into_iter().filter_map(|delivery| delivery.receipt)),
                Err(error) => {
                    assert_eq!(error, MqError::DiskFull);
                    refused += 1;
                    break;
                }
            }
        }
        for _ in 0..200 {
            for end in [End::Touch(None), End::Touch(Some(Duration::from_secs(7200)))] {
                match node.end_all(&leased, &end).await {
                    Ok(ended) => assert!(ended.iter().all(Result::is_ok), "{ended:?}"),
                    Err(error) => assert_eq!(error, MqError::DiskFull),
                }
            }
            match node.change(Change::Configure("t".to_owned(), settings.clone())).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error, MqError::DiskFull),
            }
        }
        // Acks go on whatever is refused.
        let (acked, nacked) = leased.split_at(1.min(leased.len()));
        for receipt in acked {
            node.end(receipt, &End::Ack).await.unwrap();
            ids.retain(|id| *id != receipt.id());
        }
        match node.end_all(nacked, &End::nack(Duration::ZERO, "x".repeat(2000))).await {
            Ok(ended) => assert!(ended.iter().all(Result::is_ok)),
            Err(error) => {
                assert_eq!(error, MqError::DiskFull);
                nacked.iter().for_each(|receipt| node.give_back(vec![*receipt])());
            }
        }
        if round % 3 == 2 {
            // It ends as it may, and opens again on the full disk.
            drop(node);
            node = open(&disk.queue()).unwrap_or_else(|error| panic!("{error}, in round {round}"));
        }
    }
    assert!(refused < 6, "{refused} of 12 pops were refused");
    let list = Look::List { queue: QUEUE(), after: MessageId(0), most: 1000, dead: false };
    let listed = node.look(list).await.unwrap().messages();
    assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), ids, "all that is not acked is there");
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
    // What is purged makes room within seconds.
    node.change(Change::Purge(QUEUE())).await.unwrap();
    let began = Instant::now();
    resumes(&node).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Such a file system has no `fallocate`.
#[tokio::test]
async fn a_file_system_that_cannot_reserve_is_filled_with_zeros() {
    let disk = Small::mount("ramfs", "mode=755");
    let probe = fs::File::create(disk.0.path().join("probe")).unwrap();
    let reserved = rustix::fs::fallocate(&probe, rustix::fs::FallocateFlags::empty(), 0, 4096);
    assert_eq!(reserved, Err(rustix::io::Errno::OPNOTSUPP), "this file system can reserve: the test shows nothing");
    let ids = {
        let node = open(&disk.queue()).unwrap();
        let mut ids = Vec::new();
        for n in 0..100 {
            ids.push(node.push(Push::new("t", body(n))).await.unwrap());
        }
        ids
    };
    let segment = fs::metadata(disk.queue().join("00000001.segment")).unwrap();
    assert_eq!(segment.len(), SEGMENT as u64);
    take_all(&open(&disk.queue()).unwrap(), &ids).await;
}
