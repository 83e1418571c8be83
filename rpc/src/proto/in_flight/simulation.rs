//! Many calls through few slots, with every kind of answer that a server may send.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{InFlight, Settled};

/// Simulates `calls` calls in random order; each answer is the number of its call.
fn simulate(calls: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut table = InFlight::<u64>::default();
    let (mut open, mut old) = (Vec::new(), vec![1]);
    let (mut answered, mut refused, mut begun) = (0u64, 0u64, 0);
    let now = Instant::now();
    while begun < calls || !open.is_empty() {
        match random.u8(..8) {
            0..3 if begun < calls && open.len() < 300 => {
                open.push(table.insert(Duration::from_secs(1), Waker::noop().clone()));
                table.begin(now);
                begun += 1;
            }
            3..6 if !open.is_empty() => {
                let id = open.swap_remove(random.usize(..open.len()));
                assert!(table.complete(id, id).is_some());
                // A second answer, or one for a call of long ago, reaches nobody.
                assert!(table.complete(id, u64::MAX).is_none());
                let late = old[random.usize(..old.len())];
                assert!(late == id || table.complete(late, u64::MAX).is_none());
                let settled = table.poll(id, Waker::noop()).map(|(settled, _)| settled);
                assert_eq!(settled, Poll::Ready(Settled::Answer(id)));
                answered += 1;
                let place = if old.len() < 1000 { old.len() } else { random.usize(..1000) };
                if place == old.len() {
                    old.push(id);
                } else {
                    old[place] = id;
                }
            }
            6 if !open.is_empty() => {
                let id = open.swap_remove(random.usize(..open.len()));
                assert!(table.remove(id));
                // The caller is gone: the slot may be another's by the time that the answer comes.
                old.push(id);
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!((answered + refused, table.len()), (calls, 0));
}

#[test]
fn no_answer_reaches_another_of_ten_million_calls() {
    simulate(10_000_000, 2);
}
