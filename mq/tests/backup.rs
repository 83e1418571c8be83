//! Backups of a running node, and directories looked at from outside.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use ms_mq::{Change, End, Engine, MessageId, MqError, Node, NodeConfig, NodeId, Pop, Push, Survey};

fn config() -> NodeConfig {
    NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(1).unwrap()) }
}

async fn push(node: &Node, count: usize, bytes: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(Engine::push(node, Push::new("t", vec![7; bytes])).await.unwrap());
    }
    ids
}

/// Pops and acks everything; returns the ids.
async fn drain(node: &Node) -> BTreeSet<MessageId> {
    let mut ids = BTreeSet::new();
    loop {
        let popped = node.pop(&Pop { max_messages: 100, ..Pop::new("t", "default") }).await.unwrap();
        if popped.is_empty() {
            return ids;
        }
        for delivery in popped {
            ids.insert(delivery.id);
            node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
        }
    }
}

/// Names, sizes and content of a directory's files.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.metadata().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_stays_as_it_is_while_its_segments_are_freed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let node = Node::open(&data, &config()).unwrap();
    let before: BTreeSet<_> = push(&node, 20, 1 << 20).await.into_iter().collect();
    let popped = node.pop(&Pop::new("t", "default")).await.unwrap().remove(0);
    let segments = node.change(Change::Backup("first".to_owned())).await.unwrap();
    assert!(segments >= 2, "{segments}");
    let backup = data.join("backups/first");
    let made = content(&backup);
    // Messages that come now are not in the backup, and those that go now are.
    push(&node, 5, 100).await;
    node.end(&popped.receipt.unwrap(), &End::Ack).await.unwrap();
    // Until every segment of the backup was freed, which would be written again if it were not for the backup.
    for round in 0.. {
        let held = |name: &String| fs::metadata(data.join(name)).is_ok_and(|file| file.nlink() > 1);
        if !made.iter().any(|(name, _)| name.ends_with(".segment") && held(name)) {
            break;
        }
        assert!(round < 100, "the segments of the backup are never freed");
        push(&node, 10, 1 << 20).await;
        drain(&node).await;
    }
    assert_eq!(content(&backup), made);
    let survey = Survey::verify(&backup).unwrap();
    assert!(survey.findings.is_empty() && survey.segments.iter().all(|segment| segment.sealed), "{survey:?}");
    assert_eq!((survey.store, survey.node), (node.store_id(), node.id()));

    let restored = directory.path().join("restored");
    assert_eq!(ms_mq::restore(&backup, &restored).unwrap(), segments);
    let copy = Node::open(&restored, &config()).unwrap();
    assert_ne!(copy.store_id(), node.store_id());
    // The original's lease is not the copy's.
    let foreign = copy.end(&popped.receipt.unwrap(), &End::Ack).await;
    assert!(matches!(foreign, Err(MqError::OtherNode { node: 1, .. })), "{foreign:?}");
    let list =
        |after| ms_mq::Look::List { queue: ms_mq::QueueName::new("t", "default"), after, most: 1000, dead: false };
    let listed = copy.look(list(MessageId(0))).await.unwrap().messages();
    assert_eq!(listed.iter().map(|message| message.id).collect::<BTreeSet<_>>(), before);
    // Ids go on above those of the original.
    let next = push(&copy, 1, 1).await;
    assert!(next[0] > *before.last().unwrap());
    tokio::task::spawn_blocking(move || (copy.close(), node.close())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_all_that_was_answered_and_can_be_started_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(directory.path(), &config()).unwrap();
    let pushing = |node: Node| async move {
        let mut ids = Vec::new();
        while let Ok(id) = Engine::push(&node, Push::new("t", b"job".to_vec())).await {
            ids.push(id);
            if ids.len() == 300 {
                break;
            }
        }
        ids
    };
    let first = push(&node, 50, 10).await;
    let pushers: Vec<_> = (0..8).map(|_| tokio::spawn(pushing(node.clone()))).collect();
    node.change(Change::Backup("under-load".to_owned())).await.unwrap();
    let mut all = first.clone();
    for pusher in pushers {
        all.extend(pusher.await.unwrap());
    }
    let backup = directory.path().join("backups/under-load");
    let made = content(&backup);
    // A node that is started on the backup itself does not write what it shares with the original.
    let copy = Node::open(&backup, &config()).unwrap();
    let there = drain(&copy).await;
    assert!(first.iter().all(|id| there.contains(id)) && there.iter().all(|id| all.contains(id)));
    push(&copy, 40, 1 << 20).await;
    drain(&copy).await;
    tokio::task::spawn_blocking(move || copy.close()).await.unwrap();
    let shared = content(directory.path());
    for (name, bytes) in made.iter().filter(|(name, _)| name.ends_with(".segment")) {
        let original = shared.iter().find(|(other, _)| other == name).map(|(_, bytes)| bytes);
        assert_eq!(original, Some(bytes), "{name}");
    }
    assert_eq!(drain(&node).await, all.into_iter().collect());
    tokio::task::spawn_blocking(move || node.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_refused_and_the_node_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(directory.path(), &config()).unwrap();
    for name in ["", "..", ".hidden", "a/b", "ä", "-x", &"n".repeat(101)] {
        let refused = node.change(Change::Backup(name.to_owned())).await;
        assert!(matches!(refused, Err(MqError::Invalid(_))), "{name}: {refused:?}");
    }
    node.change(Change::Backup("a.b-c_1".to_owned())).await.unwrap();
    let again = node.change(Change::Backup("a.b-c_1".to_owned())).await;
    assert_eq!(again, Err(MqError::NoBackup("there is one named a.b-c_1".to_owned())));
    fs::remove_dir_all(directory.path().join("backups")).unwrap();
    fs::write(directory.path().join("backups"), "").unwrap();
    let blocked = node.change(Change::Backup("b".to_owned())).await;
    assert!(matches!(blocked, Err(MqError::NoBackup(_))), "{blocked:?}");
    let id = push(&node, 1, 1).await;
    assert_eq!(drain(&node).await, id.into_iter().collect());
    tokio::task::spawn_blocking(move || node.close()).await.unwrap();
}
