//! A clock that somebody sets.

use std::time::Duration;

use std::sync::Mutex;

use super::super::*;
use crate::{
    End, Engine, Pop, Push,
    clock::Times,
    store::faulty::{Faulty, FaultyFile},
};

const HOUR: i64 = 3_600_000;

/// What the wall's clock says, and how much time has really passed.
#[derive(Clone, Debug)]
struct Hands(Arc<Mutex<(i64, i64)>>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((1_767_225_600_000, 0))))
    }

    fn pass(&self, milliseconds: i64) {
        let mut hands = self.0.lock().unwrap();
        hands.0 += milliseconds;
        hands.1 += milliseconds;
    }

    /// Somebody sets the wall's clock.
    fn step(&self, milliseconds: i64) {
        self.0.lock().unwrap().0 += milliseconds;
    }
}

impl Times for Hands {
    fn wall(&self) -> Duration {
        Duration::from_millis(self.0.lock().unwrap().0 as u64)
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.0.lock().unwrap().1 as u64)
    }
}

fn open(disk: &Faulty, hands: &Hands) -> Node<FaultyFile> {
    let config = NodeConfig { segment_bytes: 32 << 10, ..NodeConfig::new(NodeId::new(3).unwrap()) };
    let hands = hands.clone();
    Node::open_store(disk.clone(), &config, move |logged| Arc::new(SteadyClock::after(logged, hands))).unwrap()
}

async fn push(node: &Node<FaultyFile>, delay_ms: i64) -> MessageId {
    node.push(Push { delay_ms: delay_ms as u64, ..Push::new("t", b"job".to_vec()) }).await.unwrap()
}

async fn popped(node: &Node<FaultyFile>) -> Vec<MessageId> {
    let wish = Pop { max_messages: 100, ..Pop::new("t", "default") };
    let deliveries = node.pop(&wish).await.unwrap();
    for delivery in &deliveries {
        node.end(&delivery.receipt.unwrap(), &End::Ack).await.unwrap();
    }
    deliveries.iter().map(|delivery| delivery.id).collect()
}

#[tokio::test]
async fn a_step_of_the_clock_is_nothing_to_a_node_that_runs() {
    for step in [HOUR, -HOUR] {
        let (disk, hands) = (Faulty::default(), Hands::new());
        let node = open(&disk, &hands);
        let before = push(&node, HOUR / 2).await;
        hands.step(step);
        let after = push(&node, HOUR / 2).await;
        assert!(after > before, "ids rise");
        hands.pass(HOUR / 2 - 1);
        assert!(popped(&node).await.is_empty(), "not early, whatever the clock says");
        hands.pass(1);
        assert_eq!(popped(&node).await, [before, after], "and not late");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_before_a_restart_costs_nothing() {
    let (disk, hands) = (Faulty::default(), Hands::new());
    let node = open(&disk, &hands);
    let (delayed, ready) = (push(&node, HOUR / 2).await, push(&node, 0).await);
    hands.pass(1000);
    let mut last = push(&node, HOUR).await;
    assert_eq!(popped(&node).await, [ready]);
    drop(node);
    hands.step(-HOUR);
    // The node's time goes on from the log's.
    let node = open(&disk, &hands);
    for _ in 0..10_000 / 100 {
        let pushes = (0..100).map(|_| Push { delay_ms: 3 * HOUR as u64, ..Push::new("t", b"x".to_vec()) });
        for id in node.push_batch(pushes.collect()).await.unwrap() {
            assert!(id > last, "ids rise, and none comes twice");
            last = id;
        }
    }
    hands.pass(HOUR / 2 - 1001);
    assert!(popped(&node).await.is_empty(), "not early");
    hands.pass(1);
    assert_eq!(popped(&node).await, [delayed], "and not an hour late");
}

#[tokio::test]
async fn a_clock_that_was_set_forward_and_back_again_loses_nothing_and_repeats_no_id() {
    let (disk, hands) = (Faulty::default(), Hands::new());
    let (mut ids, mut waiting) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for step in [HOUR, -HOUR, -HOUR, HOUR, 0] {
        let node = open(&disk, &hands);
        for n in 0..50 {
            let id = push(&node, HOUR * (n % 3)).await;
            assert!(ids.last().is_none_or(|last| *last < id), "ids rise");
            ids.insert(id);
            waiting.insert(id);
            hands.pass(10);
        }
        for id in popped(&node).await {
            assert!(waiting.remove(&id), "{id} came twice");
        }
        drop(node);
        hands.step(step);
    }
    let node = open(&disk, &hands);
    hands.pass(3 * HOUR);
    for id in popped(&node).await.into_iter().chain(popped(&node).await) {
        assert!(waiting.remove(&id), "{id} came twice");
    }
    assert!(waiting.is_empty(), "{} are lost", waiting.len());
}
