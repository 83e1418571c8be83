use std::{
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

use tempfile::TempDir;

use super::*;
use crate::record::Record;

const WAIT: Duration = Duration::from_secs(60);

fn seat(candidate: usize) -> Key {
    ("goods".parse().unwrap(), candidate.to_string())
}

async fn stand(node: &Node, candidate: usize) {
    let record = Record { id: "a".into(), host: "a".into(), port: 1, weight: 1.0, metadata: Default::default() };
    node.ask(Request::Stand { seat: seat(candidate), record, ttl: WAIT }).await.unwrap();
}

/// A node that elects.
async fn open() -> (Node, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(directory.path(), Duration::from_secs(1)).unwrap();
    node.wait_for(WAIT, |view| view.contests.open).await.unwrap();
    (node, directory)
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_its_own_turn_alone() {
    let (node, _directory) = open().await;
    for candidate in 0..4 {
        stand(&node, candidate).await;
    }
    let mut waiting: Vec<_> = (1..4)
        .map(|candidate| {
            let node = node.clone();
            let turn: Pin<Box<dyn Future<Output = Result<(), Failed>>>> =
                Box::pin(async move { node.turn(seat(candidate), None, WAIT).await });
            (turn, Arc::new(Count::default()))
        })
        .collect();
    for (turn, woken) in &mut waiting {
        assert!(turn.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone()))).is_pending());
    }
    // Requests are handled in order: a later answer finds all of them waiting.
    node.ask(Request::Tick).await.unwrap();
    stand(&node, 9).await;
    assert!(node.ask(Request::Withdraw { seat: seat(2) }).await.unwrap());
    assert!(node.ask(Request::Withdraw { seat: seat(0) }).await.unwrap());
    // The waiters are notified after the callers are answered.
    node.ask(Request::Tick).await.unwrap();
    let woken: Vec<_> = waiting.iter().map(|(_, woken)| woken.0.load(Ordering::Relaxed)).collect();
    assert_eq!(woken, [1, 1, 0], "one leads, one is gone, and nothing has happened to the third");
    for (index, (turn, woken)) in waiting.iter_mut().enumerate() {
        let done = turn.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone())));
        assert_eq!(matches!(done, Poll::Ready(Ok(()))), index < 2);
    }
    assert_eq!(node.view().contests.seat(&seat(1).0, "1").and_then(|seat| seat.token), Some(node_token(&node)));
}

fn node_token(node: &Node) -> u64 {
    let view = node.view();
    view.contests.contest(&seat(0).0).and_then(|contest| contest.master()).unwrap().1
}

#[tokio::test]
async fn who_knows_another_place_is_told_at_once() {
    let (node, _directory) = open().await;
    stand(&node, 0).await;
    let token = node_token(&node);
    let within = Duration::from_secs(10);
    let told = async |term| tokio::time::timeout(within, node.turn(seat(0), term, WAIT)).await.unwrap().unwrap();
    told(None).await;
    told(Some(token - 1)).await;
    tokio::time::timeout(within, node.turn(seat(7), None, WAIT)).await.unwrap().unwrap();
    let mut waiting = pin!(node.turn(seat(0), Some(token), Duration::from_millis(50)));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    waiting.await.unwrap();
    assert_eq!(node_token(&node), token, "its time was over, and nothing had happened");
}
