//! Several nodes, found through a registry.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use common::{Running, client, soon, start, start_with};
use ms_mq::{
    ConsumerOptions, Delivery, Engine, MessageId, MqClient, MqError, NODES, NodeId, Pop, Push, QueueError, Settings,
};
use ms_register::{Instance, Memory, Static};
use ms_rpc::{CallError, Code};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

fn pop() -> Pop {
    Pop { wait_ms: 2000, ..Pop::new("t", "default") }
}

#[tokio::test]
async fn pushes_are_spread_and_receipts_find_their_way_back() {
    let registry = Arc::new(Memory::new());
    let (one, two) = (start(&registry, 1).await, start(&registry, 2).await);
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    client.declare("t", "default").await.unwrap();
    let mut pushed = HashSet::new();
    while one.queue().pushed < 20 || two.queue().pushed < 20 {
        pushed.insert(client.push(Push::new("t", b"job".to_vec())).await.unwrap());
    }
    let mut by_node: HashMap<NodeId, u32> = HashMap::new();
    while !pushed.is_empty() {
        let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
        assert!(pushed.remove(&delivery.id));
        *by_node.entry(delivery.id.node()).or_default() += 1;
        client.ack(delivery.receipt.unwrap()).await.unwrap();
        let again = client.ack(delivery.receipt.unwrap()).await.unwrap_err();
        assert!(matches!(again, QueueError::Service(MqError::NotLeased(_))), "{again}");
    }
    assert_eq!(by_node.len(), 2, "{by_node:?}");
    let nothing = client.pop(&Pop { wait_ms: 50, ..pop() }).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_node_that_dies_is_left() {
    let registry = Arc::new(Memory::new());
    let (one, two) = (start(&registry, 1).await, start(&registry, 2).await);
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    registry.set_down(true);
    drop(one.server);
    let mut pushed = 0;
    while pushed < 50 {
        match client.push(Push::new("t", b"job".to_vec())).await {
            Ok(id) => {
                assert_eq!(id.node(), two.node.id());
                pushed += 1;
            }
            // The one that was under way when it died.
            Err(CallError::Status(status)) => assert_eq!(status.code(), ms_rpc::Code::Unavailable, "{status}"),
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..50 {
        let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
        client.ack(delivery.receipt.unwrap()).await.unwrap();
    }
}

fn keyed(key: u32) -> Push {
    Push { dedup: Some(key.to_string()), ..Push::new("t", b"job".to_vec()) }
}

async fn three(registry: &Arc<Memory>) -> Vec<Running> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(registry, id).await);
    }
    nodes
}

#[tokio::test]
async fn a_dedup_key_leads_to_one_message_alone_and_in_batches() {
    let registry = Arc::new(Memory::new());
    let nodes = three(&registry).await;
    let client = client(&registry);
    let mut first = BTreeMap::new();
    for key in 0..30 {
        first.insert(key, client.push(keyed(key)).await.unwrap());
    }
    let used: HashSet<_> = first.values().map(|id| id.node()).collect();
    assert_eq!(used.len(), 3);
    let ids = client.push_batch((0..40).map(keyed).collect()).await.unwrap();
    for (key, id) in &first {
        assert_eq!(ids[*key as usize], *id, "key {key}");
    }
    // Messages without a key keep their places among those that have one.
    let plain = Push::new("t", b"plain".to_vec());
    let mixed = [keyed(1), plain.clone(), keyed(39), plain.clone()].to_vec();
    let mixed = client.push_batch(mixed).await.unwrap();
    assert_eq!((mixed[0], mixed[2]), (ids[1], ids[39]));
    let one_home = client.push_batch(vec![keyed(5), plain]).await.unwrap();
    assert_eq!((one_home[0], one_home[1].node()), (ids[5], ids[5].node()));
    let pushed: u64 = nodes.iter().map(|running| running.queue().ready).sum();
    assert_eq!(pushed, 40 + 3);
}

#[tokio::test]
async fn a_group_stays_on_one_node_and_in_its_order() {
    let registry = Arc::new(Memory::new());
    let _nodes = three(&registry).await;
    let client = client(&registry);
    let grouped =
        |group: u32, n: u32| Push::new("t", format!("{group} {n}").into_bytes()).with_group(group.to_string());
    let mut homes = HashMap::new();
    for n in 0..4 {
        for group in 0..12 {
            let id = client.push(grouped(group, n)).await.unwrap();
            assert_eq!(*homes.entry(group).or_insert_with(|| id.node()), id.node());
        }
    }
    // A dedup key does not lead a group away, and messages of a batch go where their groups are.
    let batch = (0..12).map(|group| Push { dedup: Some(format!("k{group}")), ..grouped(group, 4) }).collect();
    let ids = client.push_batch(batch).await.unwrap();
    assert!(ids.iter().enumerate().all(|(group, id)| homes[&(group as u32)] == id.node()));
    assert_eq!(homes.into_values().collect::<HashSet<_>>().len(), 3);
    let mut next = [0; 12];
    for _ in 0..60 {
        let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
        let text = String::from_utf8(delivery.body.to_vec()).unwrap();
        let (group, n) = text.split_once(' ').unwrap();
        let expected = &mut next[group.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<u32>().unwrap(), *expected, "group {group}");
        *expected += 1;
        client.ack(delivery.receipt.unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_dead_node_keeps_its_keys_and_no_key_moves() {
    let registry = Arc::new(Memory::new());
    let mut nodes = three(&registry).await;
    let client = client(&registry);
    let ids = client.push_batch((0..60).map(keyed).collect()).await.unwrap();
    let dead = nodes.remove(1);
    soon(dead.server.shutdown()).await;
    let mut refused = 0;
    for (key, id) in ids.iter().enumerate() {
        match client.push(keyed(key as u32)).await {
            Ok(same) => assert_eq!((same, same.node().get() == 2), (*id, false)),
            Err(error) => {
                assert_eq!((id.node().get(), error.code()), (2, Code::Unavailable), "{error}");
                refused += 1;
            }
        }
    }
    assert!((10..30).contains(&refused), "{refused}");
    let whole = client.push_batch((0..60).map(keyed).collect()).await.unwrap_err();
    assert!(whole.to_string().contains("node 2 has the key"), "{whole}");
    // Another address, the same number.
    let _back = start(&registry, 2).await;
    let home = |ids: &[MessageId]| ids.iter().map(|id| id.node()).collect::<Vec<_>>();
    let again = async {
        loop {
            if let Ok(ids) = client.push_batch((0..60).map(keyed).collect()).await {
                return ids;
            }
        }
    };
    assert_eq!(home(&soon(again).await), home(&ids));
}

#[tokio::test]
async fn a_client_made_later_learns_of_dead_nodes_from_those_that_name_them() {
    let registry = Arc::new(Memory::new());
    let named = |server: ms_rpc::Server| server.metadata(NODES, "1,2,3");
    let mut nodes = Vec::new();
    for id in 1..=2 {
        nodes.push(start_with(&registry, id, |_| {}, named).await);
    }
    let client = client(&registry);
    let mut refused = 0;
    for key in 0..60 {
        if let Err(error) = client.push(keyed(key)).await {
            assert!(error.to_string().contains("node 3 has the key"), "{error}");
            refused += 1;
        }
    }
    assert!((10..30).contains(&refused), "{refused}");
}

#[tokio::test]
async fn full_nodes_are_passed_over() {
    let registry = Arc::new(Memory::new());
    let small = start_with(&registry, 1, |config| config.max_live_messages = 5, |server| server).await;
    let large = start(&registry, 2).await;
    let client = client(&registry);
    for _ in 0..40 {
        client.push(Push::new("t", b"job".to_vec())).await.unwrap();
    }
    let batch = vec![Push::new("t", b"job".to_vec()); 3];
    for _ in 0..10 {
        client.push_batch(batch.clone()).await.unwrap();
    }
    assert_eq!((small.queue().ready, large.queue().ready), (5, 65));
    // The queue is full on both.
    client.configure("t", &Settings { max_length: Some(5), ..Settings::default() }).await.unwrap();
    let error = client.push(Push::new("t", b"job".to_vec())).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn a_pop_waits_at_all_nodes_and_gives_back_what_comes_too_much() {
    let registry = Arc::new(Memory::new());
    let nodes = three(&registry).await;
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    for round in 0..20 {
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.pop(&Pop { wait_ms: 20_000, ..pop() }).await }
        });
        sleep(Duration::from_millis(10)).await;
        for running in &nodes {
            running.node.push(Push::new("t", b"job".to_vec())).await.unwrap();
        }
        let delivery = soon(waiting).await.unwrap().unwrap().pop().unwrap();
        client.ack(delivery.receipt.unwrap()).await.unwrap();
        // What was popped from the others is ready again at once, as if nothing had been.
        for _ in 0..2 {
            let begin = Instant::now();
            let delivery = client.pop(&pop()).await.unwrap().pop().unwrap();
            assert!(begin.elapsed() < Duration::from_secs(1), "round {round}: {:?}", begin.elapsed());
            assert_eq!(delivery.retries, 0);
            client.ack(delivery.receipt.unwrap()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pop_that_is_dropped_gives_back_what_comes() {
    let registry = Arc::new(Memory::new());
    let nodes = three(&registry).await;
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    let begin = Instant::now();
    for wait in 0..30 {
        let wish = Pop { wait_ms: 20_000, ..pop() };
        let push = async {
            sleep(Duration::from_millis(10)).await;
            nodes[wait % 3].node.push(Push::new("t", b"job".to_vec())).await.unwrap();
        };
        // Dropped about when the message is on its way.
        let popped =
            tokio::join!(timeout(Duration::from_micros(10_000 + 500 * wait as u64), client.pop(&wish)), push).0;
        let delivery = match popped {
            Ok(popped) => popped.unwrap().remove(0),
            Err(_) => soon(client.pop(&wish)).await.unwrap().remove(0),
        };
        assert_eq!(delivery.retries, 0);
        client.ack(delivery.receipt.unwrap()).await.unwrap();
    }
    // Nothing waited for its lease, of 30 s, to end.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Times from push to delivery, sorted.
async fn times(nodes: &[Running], mut delivered: mpsc::Receiver<()>) -> Vec<Duration> {
    let mut times = Vec::new();
    for round in 0..200 {
        sleep(Duration::from_millis(5)).await;
        let begin = Instant::now();
        nodes[round * 7 % 3].node.push(Push::new("t", b"job".to_vec())).await.unwrap();
        soon(delivered.recv()).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_queue_delivers_at_once_from_any_node() {
    let registry = Arc::new(Memory::new());
    let nodes = three(&registry).await;
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    let (sender, delivered) = mpsc::channel(1);
    let consumer = client.consume("t", "default", ConsumerOptions::default(), move |_: Delivery| {
        let sender = sender.clone();
        async move { sender.send(()).await }
    });
    let consumed = times(&nodes, delivered).await;
    soon(consumer.stop(Duration::from_secs(5))).await;

    let (sender, delivered) = mpsc::channel(1);
    let popper = tokio::spawn(pop_all(client.clone(), sender));
    let popped = times(&nodes, delivered).await;
    popper.abort();
    for (what, times) in [("consumer", consumed), ("pop", popped)] {
        println!("{what}: p50 {:?}, p99 {:?}, max {:?}", times[100], times[198], times[199]);
        // 20 ms on an idle machine.
        assert!(times[198] < Duration::from_millis(200), "{what}: {times:?}");
    }
}

async fn pop_all(client: MqClient, sender: mpsc::Sender<()>) {
    loop {
        for delivery in client.pop(&pop()).await.unwrap() {
            if sender.send(()).await.is_err() {
                return;
            }
            client.ack(delivery.receipt.unwrap()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_consumer_settles_at_the_nodes_of_a_list_without_numbers() {
    let registry = Arc::new(Memory::new());
    let nodes = three(&registry).await;
    let instances = nodes.iter().map(|running| Instance::from_address(&running.server.address().to_string()).unwrap());
    let client = MqClient::new(Arc::new(Static::new(instances.collect()))).unwrap();
    client.configure("t", &Settings { ttr_ms: Some(1_000), ..Settings::default() }).await.unwrap();
    for running in &nodes {
        running.node.push_batch(vec![Push::new("t", b"job".to_vec()); 20]).await.unwrap();
    }
    let options = ConsumerOptions { concurrency: 3, ..ConsumerOptions::default() };
    let consumer = client.consume("t", "default", options, |delivery: Delivery| async move {
        if delivery.retries == 0 { Err("once more") } else { Ok(()) }
    });
    for running in &nodes {
        running.until_empty().await;
    }
    soon(consumer.stop(Duration::from_secs(5))).await;
    // Receipts that this client has popped, in batches.
    for running in &nodes {
        running.node.push(Push::new("t", b"job".to_vec())).await.unwrap();
    }
    let other = MqClient::new(Arc::new(Static::new(
        nodes.iter().map(|running| Instance::from_address(&running.server.address().to_string()).unwrap()).collect(),
    )))
    .unwrap();
    let mut receipts = Vec::new();
    for _ in &nodes {
        receipts.push(client.pop(&pop()).await.unwrap()[0].receipt.unwrap());
    }
    other.give_back(&receipts[..1]).await.unwrap();
    receipts[0] = client.pop(&pop()).await.unwrap()[0].receipt.unwrap();
    assert_eq!(other.ack_batch(&receipts).await.unwrap(), [Ok(()), Ok(()), Ok(())]);
}
