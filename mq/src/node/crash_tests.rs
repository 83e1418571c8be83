//! Survival of crashes: the power goes at any moment, and of the bytes that were not synced any part is there.

use std::time::Duration;

mod load;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    Change, End, Engine, Look, Pop, Push, QueueName, Settings,
    clock::Manual,
    store::faulty::{Faulty, FaultyFile, Operation},
};

/// 2026.
const START: Millis = 1_767_225_600_000;
const SEGMENT: u64 = 32 << 10;

fn config() -> NodeConfig {
    NodeConfig { segment_bytes: SEGMENT, cache_bytes: 4 << 10, ..NodeConfig::new(NodeId::new(7).unwrap()) }
}

fn open(disk: &Faulty, clock: &Manual) -> Result<Node<FaultyFile>, OpenError> {
    let clock = Arc::new(clock.clone());
    Node::open_store(disk.clone(), &config(), move |_| clock)
}

fn manual() -> Manual {
    let clock = Manual::default();
    clock.advance(START);
    clock
}

/// Promises about the messages.
#[derive(Debug, Default)]
struct Promised {
    /// Confirmed, and not acked.
    there: BTreeMap<MessageId, Vec<u8>>,
    /// Acked, and confirmed.
    gone: BTreeSet<MessageId>,
    /// Nobody was told.
    unknown: BTreeMap<MessageId, Vec<u8>>,
    pushes: u64,
}

async fn all(node: &Node<FaultyFile>) -> BTreeSet<MessageId> {
    let (mut ids, mut last) = (BTreeSet::new(), MessageId(0));
    loop {
        let list = Look::List { queue: QueueName::new("t", "default"), after: last, most: 1000, dead: false };
        let page = match node.look(list).await {
            Ok(seen) => seen.messages(),
            Err(MqError::NoTopic(_) | MqError::NoQueue(_)) => return ids,
            Err(error) => panic!("{error}"),
        };
        let Some(end) = page.last() else { return ids };
        last = end.id;
        ids.extend(page.iter().map(|info| info.id));
    }
}

/// Random operations until the power goes.
async fn work(node: &Node<FaultyFile>, clock: &Manual, random: &mut fastrand::Rng, promised: &mut Promised) {
    let settings = Settings { max_retries: Some(u16::MAX), ..Settings::default() };
    if node.change(Change::Configure("t".to_owned(), settings.clone())).await.is_err() {
        return;
    }
    for _ in 0..60 {
        clock.advance(random.u64(..5000));
        match random.u8(..10) {
            0..5 => {
                let count = random.usize(1..4);
                let bodies: Vec<_> = (0..count)
                    .map(|_| {
                        promised.pushes += 1;
                        format!("{} {}", promised.pushes, "x".repeat(random.usize(..600))).into_bytes()
                    })
                    .collect();
                let pushes = bodies.iter().map(|body| Push::new("t", body.clone())).collect();
                match node.push_batch(pushes).await {
                    Ok(ids) => promised.there.extend(ids.into_iter().zip(bodies)),
                    Err(_) => return,
                }
            }
            5..8 => {
                let wish = Pop { max_messages: 3, ..Pop::new("t", "default") };
                let Ok(popped) = node.pop(&wish).await else { return };
                for delivery in popped {
                    assert!(!promised.gone.contains(&delivery.id), "{} was acked and came again", delivery.id);
                    if let Some(body) = promised.there.get(&delivery.id) {
                        assert_eq!(&delivery.body[..], &body[..], "the body of {} is another", delivery.id);
                    }
                    let id = delivery.id;
                    if random.bool() {
                        let body = promised.there.remove(&id).unwrap_or_else(|| delivery.body.to_vec());
                        match node.end(&delivery.receipt.unwrap(), &End::Ack).await {
                            Ok(()) => drop(promised.gone.insert(id)),
                            Err(_) => {
                                promised.unknown.insert(id, body);
                                return;
                            }
                        }
                    } else if random.bool()
                        && node.end(&delivery.receipt.unwrap(), &End::nack(Duration::ZERO, "no")).await.is_err()
                    {
                        return;
                    }
                }
            }
            8 => {
                let dead: Vec<_> = promised.there.keys().copied().take(1).collect();
                for id in dead {
                    let body = promised.there.remove(&id).unwrap();
                    match node.change(Change::Cancel(QueueName::new("t", "default"), id)).await {
                        Ok(_) => drop(promised.gone.insert(id)),
                        Err(_) => {
                            promised.unknown.insert(id, body);
                            return;
                        }
                    }
                }
            }
            _ => clock.advance(40_000),
        }
    }
}

/// Compares the recovered messages with the promised ones, and goes on from the recovered ones.
async fn check(node: &Node<FaultyFile>, promised: &mut Promised) {
    assert!(node.damage().0.is_empty(), "a crash is no damage: {:?}", node.damage());
    let there = all(node).await;
    for (id, body) in &promised.there {
        assert!(there.contains(id), "{id} was confirmed and is lost");
        let found =
            node.look(Look::Get(QueueName::new("t", "default"), *id)).await.unwrap().messages().remove(0).body.unwrap();
        assert_eq!(&found[..], &body[..]);
    }
    for id in &promised.gone {
        assert!(!there.contains(id), "{id} was acked and is there again");
    }
    for (id, body) in std::mem::take(&mut promised.unknown) {
        if there.contains(&id) {
            promised.there.insert(id, body);
        }
    }
    for id in there.iter().filter(|id| !promised.there.contains_key(id)).copied().collect::<Vec<_>>() {
        // A push whose answer never came.
        let body =
            node.look(Look::Get(QueueName::new("t", "default"), id)).await.unwrap().messages().remove(0).body.unwrap();
        promised.there.insert(id, body.to_vec());
    }
}

fn cycles(seed: u64, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut random = fastrand::Rng::with_seed(seed);
        let (disk, clock) = (Faulty::default(), manual());
        let mut promised = Promised::default();
        for _ in 0..count {
            disk.fail_after(random.u64(..200));
            if let Ok(node) = open(&disk, &clock) {
                check(&node, &mut promised).await;
                work(&node, &clock, &mut random, &mut promised).await;
            }
            disk.crash(&mut random);
            let node = open(&disk, &clock).unwrap();
            check(&node, &mut promised).await;
            // Fewer messages, for speed.
            let old: Vec<_> = promised.there.keys().copied().take(promised.there.len().saturating_sub(50)).collect();
            for id in old {
                node.change(Change::Cancel(QueueName::new("t", "default"), id)).await.unwrap();
                promised.there.remove(&id);
            }
            promised.gone.clear();
        }
    });
}

#[test]
fn what_was_confirmed_survives_any_crash() {
    for seed in 0..4 {
        cycles(seed, 150);
    }
}

/// 10,000 crashes: `cargo test --release -p ms-mq -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn what_was_confirmed_survives_10_000_crashes() {
    for seed in 100..140 {
        cycles(seed, 250);
    }
}

#[tokio::test]
async fn a_failed_sync_is_the_end() {
    for operation in [Operation::Sync, Operation::Write] {
        let (disk, clock) = (Faulty::default(), manual());
        let node = open(&disk, &clock).unwrap();
        node.push(Push::new("t", b"before".to_vec())).await.unwrap();
        disk.fail(operation);
        let failed = node.push(Push::new("t", b"after".to_vec())).await.unwrap_err();
        assert!(matches!(failed, MqError::DiskFailed(_)), "{failed}");
        assert_eq!(node.failed().await, failed);
        assert_eq!(node.pop(&Pop::new("t", "default")).await, Err(failed));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_pushes_and_nothing_else() {
    let (disk, clock) = (Faulty::default(), manual());
    disk.set_space(Some(8 * SEGMENT));
    let node = open(&disk, &clock).unwrap();
    let mut ids = Vec::new();
    let refused = loop {
        match node.push(Push::new("t", vec![7; 1000])).await {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
        assert!(ids.len() < 10_000, "the disk is never full");
    };
    assert_eq!(refused, MqError::DiskFull);
    assert!(ids.len() > 50, "{} messages filled it", ids.len());
    for id in &ids {
        let delivery = node.pop(&Pop::new("t", "default")).await.unwrap().remove(0);
        assert_eq!(delivery.id, *id);
        node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
    }
    // Acked messages are cleaned, and there is space again.
    let mut tries = 0;
    while let Err(error) = node.push(Push::new("t", b"again".to_vec())).await {
        assert_eq!(error, MqError::DiskFull);
        tries += 1;
        assert!(tries < 10_000, "pushing does not resume");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn every_prefix_of_a_log_is_a_log() {
    let (disk, clock) = (Faulty::default(), manual());
    let mut confirmed = Vec::new();
    {
        let node = open(&disk, &clock).unwrap();
        for n in 0..20u8 {
            confirmed.push((node.push(Push::new("t", vec![n; 30])).await.unwrap(), n));
        }
        // The end is not clean: no footer is written.
        disk.fail_after(0);
    }
    disk.crash(&mut fastrand::Rng::with_seed(0));
    let name = "00000001.segment";
    let whole = disk.bytes(name);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut least = 0;
    for cut in crate::segment::HEADER..=end {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        disk.replace(name, bytes);
        let node = open(&disk, &clock).unwrap();
        assert!(node.damage().0.is_empty());
        let there = all(&node).await;
        assert!(there.iter().copied().eq(confirmed.iter().map(|(id, _)| *id).take(there.len())), "a prefix");
        assert!(there.len() >= least, "more bytes are no less");
        least = there.len();
    }
    assert_eq!(least, 20);
}

/// A log of several segments, all but the last sealed, and what is in it.
async fn log(clock: &Manual) -> (Faulty, BTreeMap<MessageId, Vec<u8>>) {
    let (disk, mut messages) = (Faulty::default(), BTreeMap::new());
    let node = open(&disk, clock).unwrap();
    for n in 0..300usize {
        let body = vec![n as u8; 100 + n % 200];
        messages.insert(node.push(Push::new("t", body.clone())).await.unwrap(), body);
    }
    disk.fail_after(0);
    drop(node);
    disk.crash(&mut fastrand::Rng::with_seed(1));
    (disk, messages)
}

async fn flips(count: usize, seed: u64) -> (usize, usize) {
    let clock = manual();
    let (disk, messages) = log(&clock).await;
    let segments: Vec<_> = disk.names().unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut lost, mut limit) = (0, 0);
    for _ in 0..count {
        let disk = disk.copy();
        let name = &segments[random.usize(..segments.len())];
        disk.flip(name, random.usize(..SEGMENT as usize), random.u8(..8));
        let node = match open(&disk, &clock) {
            Ok(node) => node,
            Err(error) => panic!("{error}"),
        };
        let mut found = BTreeSet::new();
        loop {
            let popped =
                node.pop(&Pop { max_messages: 100, max_bytes: u32::MAX, ..Pop::new("t", "default") }).await.unwrap();
            if popped.is_empty() {
                break;
            }
            for delivery in popped {
                assert_eq!(messages.get(&delivery.id).map(Vec::as_slice), Some(&delivery.body[..]), "an altered body");
                found.insert(delivery.id);
            }
        }
        let (damage, later) = node.damage();
        let named: BTreeSet<_> =
            damage.iter().flat_map(|damage| damage.lost.clone().unwrap_or_default()).chain(later).collect();
        for id in messages.keys().filter(|id| !found.contains(id)) {
            lost += 1;
            if !named.contains(id) {
                // The limit that is stated: the very last batch cannot be told from a torn end.
                assert_eq!(id, messages.keys().last().unwrap(), "{id} is lost and not named: {damage:?}");
                limit += 1;
            }
        }
    }
    (lost, limit)
}

#[tokio::test]
async fn a_flipped_bit_alters_nothing_and_what_it_costs_is_named() {
    let (lost, limit) = flips(300, 5).await;
    assert!(lost > 0 && limit <= lost);
}

/// 10,000 flips: `cargo test --release -p ms-mq -- --ignored`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn ten_thousand_flipped_bits() {
    let (lost, limit) = flips(10_000, 6).await;
    println!("10,000 flipped bits cost {lost} messages, {limit} of them within the stated limit");
}
