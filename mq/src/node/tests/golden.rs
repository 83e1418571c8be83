//! Directories that earlier versions wrote, in `mq/golden`: each must stay readable.

use std::{fs, path::PathBuf, time::Duration};

use super::*;
use crate::{Durability, MessageInfo, Mode, Receipt, Settings, clock::Manual};

/// 2026.
const START: Millis = 1_767_225_600_000;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(version)
}

fn manual() -> Manual {
    let clock = Manual::default();
    clock.advance(START);
    clock
}

fn open_at(directory: &Path, clock: &Manual) -> Node {
    let config = NodeConfig { segment_bytes: 16 << 10, ..NodeConfig::new(NodeId::new(7).unwrap()) };
    let clock = Arc::new(clock.clone());
    Node::open_store(Disk::open(directory).unwrap(), &config, move |_| clock).unwrap()
}

fn name(queue: &str) -> QueueName {
    QueueName::new("t", queue)
}

async fn push(node: &Node, queue: &str, body: &str) -> MessageId {
    node.push(Push::new("t", body.as_bytes().to_vec()).to(queue)).await.unwrap()
}

async fn leased(node: &Node, queue: &str) -> (String, Receipt) {
    let delivery = node.pop(&Pop::new("t", queue)).await.unwrap().remove(0);
    (text(&delivery), delivery.receipt.unwrap())
}

/// Messages of a queue with their bodies.
async fn messages(node: &Node, queue: &str) -> Vec<(String, MessageInfo)> {
    let list = Look::List { queue: name(queue), after: MessageId(0), most: 1000, dead: false };
    let mut messages = Vec::new();
    for MessageInfo { id, .. } in node.look(list).await.unwrap().messages() {
        let info = node.look(Look::Get(name(queue), id)).await.unwrap().messages().remove(0);
        let body = String::from_utf8(info.body.clone().unwrap().to_vec()).unwrap();
        messages.push((body[..body.find('.').unwrap_or(body.len())].to_owned(), info));
    }
    messages
}

/// Every kind of record of the first version, in sealed segments and in an open one.
async fn fill_first(node: &Node, clock: &Manual) {
    let settings = Settings {
        max_retries: Some(1),
        ttr_ms: Some(60_000),
        max_length: Some(500),
        max_dead: Some(9),
        dead_age_ms: Some(1 << 40),
        ttl_ms: Some(1 << 41),
        mode: Some(Mode::Fuzzy),
        ..Settings::default()
    };
    node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
    for queue in ["a1", "a2", "b", "gone"] {
        node.change(Change::Declare(name(queue))).await.unwrap();
    }
    node.change(Change::Pause(name("a2"), true)).await.unwrap();
    node.change(Change::Declare(QueueName::new("deleted", "q"))).await.unwrap();
    push(node, "^b$", "purged").await;
    node.change(Change::Purge(name("b"))).await.unwrap();
    push(node, "^gone$", "deleted").await;
    node.change(Change::DeleteQueue(name("gone"))).await.unwrap();
    node.change(Change::DeleteTopic("deleted".to_owned())).await.unwrap();

    let both = Push { headers: vec![("h".to_owned(), b"v".to_vec().into())], ..Push::new("t", b"both".to_vec()) };
    node.push(both.to("a")).await.unwrap();
    let keyed = Push { dedup: Some("key".to_owned()), priority: 3, ..Push::new("t", b"keyed".to_vec()).to("^b$") };
    node.push(keyed).await.unwrap();
    // Until a few segments are sealed.
    for n in 0..40 {
        let filler = push(node, "^b$", &format!("filler {n}.{}", "x".repeat(900))).await;
        if n % 10 > 0 {
            node.change(Change::Cancel(name("b"), filler)).await.unwrap();
        }
    }
    let later = Push { delay_ms: 5_000, durability: Durability::Written, ..Push::new("t", b"later".to_vec()) };
    node.push(later.to("^b$").with_ttl_ms(90_000)).await.unwrap();
    let moved = push(node, "^b$", "rescheduled").await;
    node.change(Change::Reschedule(name("b"), moved, START + 70_000)).await.unwrap();
    let raised = push(node, "^b$", "raised").await;
    node.change(Change::Reprioritize(name("b"), raised, 9)).await.unwrap();

    push(node, "^a1$", "dies").await;
    push(node, "^a1$", "fails").await;
    push(node, "^a1$", "leased").await;
    let (_, acked) = leased(node, "a1").await;
    node.end(&acked, &End::Ack).await.unwrap();
    for _ in 0..2 {
        let (body, receipt) = leased(node, "a1").await;
        assert_eq!(body, "dies");
        node.end(&receipt, &End::nack(Duration::ZERO, "poison")).await.unwrap();
    }
    let (_, receipt) = leased(node, "a1").await;
    node.end(&receipt, &End::nack(Duration::from_secs(2), "once")).await.unwrap();
    leased(node, "a1").await;
    clock.advance(1);
    // Leases are written with what follows.
    node.change(Change::Pause(name("a2"), true)).await.unwrap();
}

/// Checks what [`fill_first`] left.
async fn check_first(node: &Node) {
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
    let told = |messages: Vec<(String, MessageInfo)>| -> Vec<_> {
        let told = |(body, m): (String, MessageInfo)| (body, m.state, m.retries, m.priority, m.due_ms - START);
        messages.into_iter().map(told).collect()
    };
    let expected = |messages: &[(&str, &str, u16, u8, u64)]| -> Vec<_> {
        messages.iter().map(|(b, s, r, p, d)| ((*b).to_owned(), (*s).to_owned(), *r, *p, *d)).collect()
    };
    let a1 = messages(node, "a1").await;
    assert_eq!(a1[0].1.reason.as_deref(), Some("delivered 2 times; the last time: poison"));
    let found = [("dies", "dead", 2, 0, 0), ("fails", "delayed", 1, 0, 2_000), ("leased", "leased", 0, 0, 0)];
    assert_eq!(told(a1), expected(&found));
    let a2 = messages(node, "a2").await;
    assert_eq!(a2[0].1.headers, [("h".to_owned(), b"v".to_vec().into())]);
    assert_eq!(told(a2), expected(&[("both", "ready", 0, 0, 0)]));
    let b = [
        ("keyed", "ready", 0, 3, 0),
        ("filler 0", "ready", 0, 0, 0),
        ("filler 10", "ready", 0, 0, 0),
        ("filler 20", "ready", 0, 0, 0),
        ("filler 30", "ready", 0, 0, 0),
        ("later", "delayed", 0, 0, 5_000),
        ("rescheduled", "delayed", 0, 0, 70_000),
        ("raised", "ready", 0, 9, 0),
    ];
    let found = messages(node, "b").await;
    let first = found[0].1.id;
    assert_eq!(told(found), expected(&b));
    let TopicStats { settings, queues, .. } = stats(node, "t").await;
    assert_eq!((settings.max_retries, settings.ttr_ms, settings.max_length), (Some(1), Some(60_000), Some(500)));
    assert_eq!((settings.max_dead, settings.dead_age_ms, settings.ttl_ms), (Some(9), Some(1 << 40), Some(1 << 41)));
    assert_eq!(settings.mode, Some(Mode::Fuzzy));
    let paused: Vec<_> = queues.iter().map(|queue| (queue.queue.as_str(), queue.paused)).collect();
    assert_eq!(paused, [("a1", false), ("a2", true), ("b", false)]);
    let again = Push { dedup: Some("key".to_owned()), ..Push::new("t", b"again".to_vec()).to("^b$") };
    assert_eq!(node.push(again).await.unwrap(), first, "the dedup key is known");
    assert!(push(node, "^b$", "new").await > found_last(node).await, "ids go on");
}

async fn found_last(node: &Node) -> MessageId {
    let all = messages(node, "b").await;
    all.iter().rev().find(|(body, _)| body != "new").unwrap().1.id
}

/// Opens a copy of a golden directory.
fn opened(version: &str) -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden(version)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
    }
    let clock = manual();
    clock.advance(1);
    let node = open_at(directory.path(), &clock);
    (directory, node)
}

#[tokio::test]
async fn a_directory_of_the_first_version_is_read() {
    let (directory, node) = opened("first");
    check_first(&node).await;
    node.close();
    // Records that this version wrote behind it are read too.
    let clock = manual();
    clock.advance(1);
    let again = open_at(directory.path(), &clock);
    assert!(messages(&again, "b").await.iter().any(|(body, _)| body == "new"));
}

/// Writes the directory of this version for later ones, into `mq/golden/new`:
/// `cargo test -p ms-mq golden -- --ignored`.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_golden_directory() {
    let directory = tempfile::tempdir().unwrap();
    let clock = manual();
    let node = open_at(directory.path(), &clock);
    fill_first(&node, &clock).await;
    // Before it is closed: the last segment has no footer.
    let target = golden("new");
    fs::create_dir_all(&target).unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name == "store" || name.ends_with(".segment") {
            fs::copy(directory.path().join(&name), target.join(&name)).unwrap();
        }
    }
}
