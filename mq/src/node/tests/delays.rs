//! Very many messages that become due at nearly the same moment.

use std::collections::BTreeSet;

use super::stats;
use super::{
    super::*,
    made_up::{Disk, manual, open_with, pop},
};
use crate::{End, Engine, Push};

#[tokio::test]
async fn a_hundred_thousand_delays_due_in_the_same_second_come_in_order_and_once() {
    const COUNT: u64 = 100_000;
    const DELAY: Millis = 3_600_000;
    let (disk, clock) = (Disk::default(), manual());
    let node = open_with(&disk, &clock, 4 << 20).unwrap();
    let mut due = BTreeSet::new();
    for batch in 0..COUNT / 1000 {
        let delays: Vec<_> = (0..1000).map(|n| DELAY + (batch * 1000 + n) * 7919 % 1000).collect();
        let push = |delay_ms: &Millis| Push { delay_ms: *delay_ms, ..Push::new("t", vec![7]) };
        let ids = node.push_batch(delays.iter().map(push).collect()).await.unwrap();
        due.extend(delays.into_iter().map(|delay| clock.now() + delay).zip(ids));
    }
    clock.advance(DELAY - 1);
    assert!(pop(&node, 1000).await.is_empty(), "none is early");
    assert_eq!(stats(&node, "t").await.queues[0].delayed, COUNT);
    // They come in the order in which they are due, and none before that.
    let mut due = due.into_iter().peekable();
    for _ in 0..20 {
        clock.advance(50);
        loop {
            let popped = pop(&node, 1000).await;
            if popped.is_empty() {
                break;
            }
            for delivery in &popped {
                let (at, id) = due.next().unwrap();
                assert_eq!(delivery.id, id);
                assert!(at <= clock.now(), "{id} is early");
            }
            let receipts: Vec<_> = popped.iter().filter_map(|delivery| delivery.receipt).collect();
            assert!(node.end_all(&receipts, &End::Ack).await.unwrap().iter().all(Result::is_ok));
        }
        let late = due.peek();
        assert!(late.is_none_or(|(at, _)| *at > clock.now()), "{late:?} is late at {}", clock.now());
    }
    assert_eq!(due.next(), None);
    assert_eq!(stats(&node, "t").await.queues[0].popped, COUNT, "none twice");
    clock.advance(DELAY);
    assert!(pop(&node, 1000).await.is_empty());
}
