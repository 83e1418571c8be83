//! Bounds of what a node keeps: each refuses, or drops the oldest, and the node goes on.

use std::time::Duration;

use super::{
    super::*,
    made_up::{Disk, begin, manual, open, open_with, pop, power_loss},
    stats,
};
use crate::{Change, End, Engine, Look, Pop, Push, QueueName, Settings, store::faulty::FaultyFile};

async fn declare(node: &Node<FaultyFile>, topic: String) -> Result<u64, MqError> {
    node.change(Change::Declare(QueueName::new(topic, "default"))).await
}

#[tokio::test]
async fn topics_and_queues_are_refused_beyond_their_bounds_with_the_remedy() {
    let (disk, clock) = (Disk::default(), manual());
    let config = NodeConfig { max_topics: 3, max_queues: 4, segment_bytes: 32 << 10, ..super::config() };
    let open = || Node::open_store(disk.clone(), &config, |_| Arc::new(clock.clone())).unwrap();
    let node = open();
    for n in 0..3 {
        node.push(Push::new(format!("t{n}"), b"job".to_vec())).await.unwrap();
    }
    let refused = [
        node.push(Push::new("another", b"job".to_vec())).await.map(drop),
        node.push_batch(vec![Push::new("t0", b"job".to_vec()), Push::new("another", b"job".to_vec())]).await.map(drop),
        declare(&node, "another".to_owned()).await.map(drop),
        node.change(Change::Configure("another".to_owned(), Settings::default())).await.map(drop),
    ];
    for refused in refused {
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, "the node is full: it keeps at most 3 topics: delete some, or raise `max_topics`");
    }
    node.change(Change::Declare(QueueName::new("t0", "q"))).await.unwrap();
    let text = node.change(Change::Declare(QueueName::new("t0", "r"))).await.unwrap_err().to_string();
    assert_eq!(text, "the node is full: it keeps at most 4 queues: delete some, or raise `max_queues`");
    // Existing topics go on, and a deletion makes room.
    node.push(Push::new("t1", b"job".to_vec())).await.unwrap();
    node.change(Change::DeleteTopic("t0".to_owned())).await.unwrap();
    drop(node);
    let node = open();
    declare(&node, "another".to_owned()).await.unwrap();
    assert_eq!(stats(&node, "t1").await.queues[0].ready, 2);
}

/// A configuration of several batches, and of as much of a segment as it may have.
#[tokio::test]
async fn a_million_topics_are_refused_and_the_node_opens_again() {
    let (disk, clock) = (Disk::default(), manual());
    let segment = 16 << 20;
    let node = open_with(&disk, &clock, segment).unwrap();
    let mut refused = None;
    let mut topics = 0;
    'all: while topics < 1_000_000 {
        let mut declared = tokio::task::JoinSet::new();
        for n in topics..topics + 500 {
            let node = node.clone();
            declared.spawn(async move { declare(&node, format!("a topic with a name of some length {n}")).await });
        }
        for result in declared.join_all().await {
            match result {
                Ok(_) => topics += 1,
                Err(error) => {
                    refused = Some(error.to_string());
                    break 'all;
                }
            }
        }
    }
    let refused = refused.unwrap();
    assert!(refused.starts_with("the node is full: it keeps at most 2097152 bytes of topics and queues"), "{refused}");
    assert!(topics > 5_000, "{topics}");
    // The log rolls, and every segment begins with all of them.
    for _ in 0..20 {
        node.push(Push::new("a topic with a name of some length 7", vec![7; 1 << 20])).await.unwrap();
    }
    power_loss(&disk, node);
    let node = open_with(&disk, &clock, segment).unwrap();
    assert_eq!(stats(&node, "a topic with a name of some length 7").await.queues[0].ready, 20);
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn statistics_come_in_pages() {
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, 1 << 20).unwrap();
    for n in 0..1200 {
        node.change(Change::Declare(QueueName::new(format!("t{}", n / 900), format!("q{n:04}")))).await.unwrap();
    }
    node.change(Change::Configure("empty".to_owned(), Settings::default())).await.unwrap();
    let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (topics, next) = node.look(Look::Stats { topic: None, after }).await.unwrap().topics();
        assert!(topics.iter().map(|topic| topic.queues.len()).sum::<usize>() <= 1000);
        names.extend(topics.iter().flat_map(|topic| topic.queues.iter().map(|queue| queue.queue.clone())));
        (pages, after) = (pages + 1, next);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, names), (2, (0..1200).map(|n| format!("q{n:04}")).collect()));
    // A page may begin at what is gone.
    let after = Some(QueueName::new("t0a", "q"));
    let (topics, next) = node.look(Look::Stats { topic: None, after }).await.unwrap().topics();
    assert_eq!((topics.len(), topics[0].queues.len(), next), (1, 300, None));
}

async fn dies(node: &Node<FaultyFile>, body: &[u8], reason: &str) -> MessageId {
    let id = node.push(Push::new("t", body.to_vec())).await.unwrap();
    let receipt = pop(node, 1).await.remove(0).receipt.unwrap();
    node.end(&receipt, &End::nack(Duration::from_secs(60), reason)).await.unwrap();
    id
}

async fn letters(node: &Node<FaultyFile>) -> Vec<(MessageId, String)> {
    let list = Look::List { queue: QueueName::new("t", "default"), after: MessageId(0), most: 1000, dead: true };
    let letters = node.look(list).await.unwrap().messages();
    letters.into_iter().map(|letter| (letter.id, letter.reason.unwrap())).collect()
}

#[tokio::test]
async fn dead_letters_are_dropped_by_number_and_age_and_their_reasons_are_clipped() {
    let (disk, clock, node) = begin();
    let settings = |max_dead, dead_age_ms| {
        Change::Configure(
            "t".to_owned(),
            Settings { max_retries: Some(0), max_dead, dead_age_ms, ..Settings::default() },
        )
    };
    node.change(settings(Some(3), None)).await.unwrap();
    let long = "ä".repeat(100_000);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(dies(&node, &[n], &long).await);
        clock.advance(1000);
    }
    let found = letters(&node).await;
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[2..]);
    assert!(found.iter().all(|(_, reason)| reason.len() < 1100 && reason.ends_with("ää")), "{}", found[0].1.len());
    // A leased dead letter is not dropped.
    let leased = node.pop_dead(&Pop::new("t", "default")).await.unwrap().remove(0);
    node.change(settings(None, Some(3_500))).await.unwrap();
    clock.advance(500);
    assert_eq!(letters(&node).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[2..]);
    clock.advance(1_000);
    assert_eq!(letters(&node).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [ids[2], ids[4]]);
    node.end(&leased.receipt.unwrap(), &End::Ack).await.unwrap();
    drop(node);
    let node = open(&disk, &clock).unwrap();
    assert_eq!(letters(&node).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[4..]);
    clock.advance(10_000);
    assert_eq!(stats(&node, "t").await.queues[0].dead, 0);
}

#[tokio::test]
async fn dead_letters_do_not_count_against_the_messages_of_a_node_and_have_a_bound_of_their_own() {
    let (disk, clock) = (Disk::default(), manual());
    let config = NodeConfig { max_live_messages: 2, max_dead_letters: 4, ..super::config() };
    let node = Node::open_store(disk, &config, |_| Arc::new(clock.clone())).unwrap();
    let settings = Settings { max_retries: Some(0), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
    for n in 0..6 {
        dies(&node, &[n], "no").await;
        clock.advance(1);
    }
    assert_eq!(letters(&node).await.len(), 4);
    node.push_batch(vec![Push::new("t", b"1".to_vec()), Push::new("t", b"2".to_vec())]).await.unwrap();
    assert!(matches!(node.push(Push::new("t", b"3".to_vec())).await, Err(MqError::NodeFull(_))));
    // A purge makes room at once.
    node.change(Change::Purge(QueueName::new("t", "default"))).await.unwrap();
    node.push(Push::new("t", b"3".to_vec())).await.unwrap();
    assert_eq!(node.change(Change::PurgeDead(QueueName::new("t", "default"))).await, Ok(4));
}

#[tokio::test]
async fn a_body_that_many_queues_hold_counts_once() {
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, 64 << 10).unwrap();
    let fuzzy = Settings { mode: Some(crate::Mode::Fuzzy), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), fuzzy)).await.unwrap();
    for n in 0..50 {
        node.change(Change::Declare(QueueName::new("t", format!("q{n}")))).await.unwrap();
    }
    let bytes = |node: &Node<FaultyFile>| node.shared.lock().state.live_bytes();
    for _ in 0..10 {
        node.push(Push::new("t", vec![7; 2000]).to("q")).await.unwrap();
    }
    assert!((20_000..30_000).contains(&bytes(&node)), "{}", bytes(&node));
    let before = bytes(&node);
    power_loss(&disk, node);
    let node = open_with(&disk, &clock, 64 << 10).unwrap();
    assert_eq!(bytes(&node), before);
    for n in 0..49 {
        node.change(Change::DeleteQueue(QueueName::new("t", format!("q{n}")))).await.unwrap();
    }
    assert_eq!(bytes(&node), before, "the last queue holds them");
    node.change(Change::Purge(QueueName::new("t", "q49"))).await.unwrap();
    assert_eq!((bytes(&node), node.shared.lock().state.live()), (0, 0));
}

#[tokio::test]
async fn a_queue_that_is_made_again_serves_the_pop_that_waited_for_the_one_before() {
    let (_disk, _clock, node) = begin();
    for delete in [Change::DeleteQueue(QueueName::new("t", "default")), Change::DeleteTopic("t".to_owned())] {
        declare(&node, "t".to_owned()).await.unwrap();
        let wish = Pop { wait_ms: 3_600_000, ..Pop::new("t", "default") };
        let waiting = {
            let node = node.clone();
            tokio::spawn(async move { node.pop(&wish).await })
        };
        while node.shared.lock().poppers == 0 {
            tokio::task::yield_now().await;
        }
        // On one thread, the waiter does not look in between.
        let (deleted, made) = tokio::join!(node.change(delete), async {
            while node.shared.lock().state.queue_number("t", "default").is_ok() {
                tokio::task::yield_now().await;
            }
            node.push(Push::new("t", b"job".to_vec())).await
        });
        deleted.unwrap();
        made.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it waits on").unwrap();
        match ended {
            Ok(popped) => assert_eq!(&popped[0].body[..], b"job"),
            Err(error) => assert!(matches!(error, MqError::NoQueue(_) | MqError::NoTopic(_)), "{error}"),
        }
        let _ = node.change(Change::DeleteTopic("t".to_owned())).await;
    }
    assert!(node.shared.lock().waiting.len() <= 1, "those of queues that are gone are forgotten");
}

/// All that a segment holds may be dedup keys, and with their notes they take more than the copy's segment has.
#[tokio::test]
async fn segments_of_dedup_keys_are_cleaned() {
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, 32 << 10).unwrap();
    let key = |n: usize| format!("{n}{}", "x".repeat(240));
    let keyed = |n: usize| Push { dedup: Some(key(n)), ..Push::new("t", b"job".to_vec()) };
    let mut ids = Vec::new();
    for n in 0..1000 {
        ids.push(node.push(keyed(n)).await.unwrap());
        if n % 100 == 99 {
            node.change(Change::Purge(QueueName::new("t", "default"))).await.unwrap();
        }
    }
    // The log goes round.
    for _ in 0..3000 {
        node.push(Push::new("other", vec![7; 1000])).await.unwrap();
        node.change(Change::Purge(QueueName::new("other", "default"))).await.unwrap();
    }
    power_loss(&disk, node);
    let node = open_with(&disk, &clock, 32 << 10).unwrap();
    for n in (0..1000).step_by(37) {
        assert_eq!(node.push(keyed(n)).await, Ok(ids[n]), "a duplicate");
    }
    assert_eq!(node.damage(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn segments_may_have_another_size_at_each_start() {
    let (disk, clock) = (Disk::default(), manual());
    let mut ids = Vec::new();
    for (start, segment) in [32 << 10, 128 << 10, 64 << 10, 256 << 10].into_iter().enumerate() {
        let node = open_with(&disk, &clock, segment).unwrap();
        for n in 0..200 {
            let id = node.push(Push::new("t", vec![n; 1000])).await.unwrap();
            if n == 7 {
                ids.push(id);
            } else {
                node.change(Change::Cancel(QueueName::new("t", "default"), id)).await.unwrap();
            }
        }
        assert_eq!(stats(&node, "t").await.queues[0].ready as usize, start + 1);
    }
    let node = open_with(&disk, &clock, 32 << 10).unwrap();
    assert_eq!(pop(&node, 10).await.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), ids);
    for n in 0..400 {
        node.change(Change::Declare(QueueName::new("t", format!("{n}")))).await.map(drop).unwrap_or_default();
    }
    drop(node);
    let error = open_with(&disk, &clock, 4 << 10).map(drop).unwrap_err().to_string();
    assert!(error.contains("its topics and queues take ") && error.contains("of at least"), "{error}");
    assert_eq!(stats(&open_with(&disk, &clock, 32 << 10).unwrap(), "t").await.queues.last().unwrap().leased, 4);
}

#[test]
fn segments_have_a_size_that_recovery_reads() {
    for (given, taken) in [(0, 16 << 20), (64 << 20, 64 << 20), (u64::MAX, 128 << 20)] {
        assert_eq!(clamped(&NodeConfig { segment_bytes: given, ..super::config() }).segment_bytes, taken);
    }
}
