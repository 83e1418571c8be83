use super::*;
use crate::{Extensions, NodeId};

const NODES: usize = 1;

fn options(concurrency: usize, prefetch: usize, prefetch_bytes: usize) -> ConsumerOptions {
    ConsumerOptions { concurrency, prefetch, prefetch_bytes, ..ConsumerOptions::default() }
}

fn delivery(id: u64, lease_ms: u64) -> Delivery {
    let node = NodeId::new(1).unwrap();
    let receipt = Receipt { node, store: 1, queue: 1, id: MessageId(id), lease: id };
    Delivery {
        id: MessageId(id),
        receipt: Some(receipt),
        body: vec![7; 100].into(),
        headers: Vec::new(),
        retries: 0,
        extensions: Extensions::lease(lease_ms),
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn start(held: &mut Held, now: Instant) -> Started {
    match held.start(now) {
        Next::Start(started) => *started,
        other => panic!("{other:?}"),
    }
}

/// Runs rounds of pops whose handlers take so long; returns what each pop asked for.
fn rounds(held: &mut Held, handler: Duration, rounds: u64) -> Vec<u32> {
    let (mut now, mut asked) = (Instant::now(), Vec::new());
    for round in 0..rounds {
        let Some((messages, _)) = held.room(NODES) else { panic!("no room: {held:?}") };
        asked.push(messages);
        held.add((0..u64::from(messages)).map(|n| delivery(round * 1000 + n, 30_000)).collect(), messages, now);
        while let Next::Start(started) = held.start(now) {
            now += handler;
            assert!(held.ended(started.delivery.receipt, started.bytes, handler));
            held.settled(&started.delivery.receipt.unwrap());
        }
    }
    asked
}

#[test]
fn fast_handlers_have_more_popped_ahead_and_slow_ones_nothing() {
    let mut held = Held::new(&options(4, 100, 1 << 20));
    assert_eq!(rounds(&mut held, ms(0), 8), [4, 4, 8, 16, 32, 64, 100, 100]);
    let shrinks = rounds(&mut held, ms(150), 6);
    assert_eq!(shrinks.last(), Some(&4), "{shrinks:?}");
    assert_eq!(rounds(&mut Held::new(&options(4, 100, 1 << 20)), ms(150), 4), [4; 4]);
    assert_eq!(rounds(&mut Held::new(&options(1, 1, 1 << 20)), ms(0), 4), [1; 4]);
}

#[test]
fn unsettled_messages_and_bytes_take_room() {
    let now = Instant::now();
    let mut held = Held::new(&options(2, 2, 1 << 20));
    held.add(vec![delivery(1, 1000), delivery(2, 1000)], 2, now);
    assert_eq!(held.room(NODES), None);
    let started = start(&mut held, now);
    held.ended(started.delivery.receipt, started.bytes, ms(0));
    assert_eq!(held.room(NODES), None, "it is not acknowledged yet");
    held.settled(&started.delivery.receipt.unwrap());
    assert_eq!(held.room(NODES).unwrap().0, 1);

    let mut held = Held::new(&options(10, 10, 1000));
    assert_eq!(held.room(2), Some((5, 250)));
    held.add((0..6).map(|n| delivery(n, 1000)).collect(), 6, now);
    assert_eq!(held.room(2), None, "600 of 1,000 bytes are held, and 500 may be asked for");
}

#[test]
fn leases_are_renewed_at_half_and_over_at_their_end() {
    let now = Instant::now();
    let mut held = Held::new(&options(1, 10, 1 << 20));
    held.add(vec![delivery(1, 1000), delivery(2, 1000)], 2, now);
    let mut started = start(&mut held, now);
    assert_eq!(held.due(now).next, Some(now + ms(500)));
    let due = held.due(now + ms(500));
    assert_eq!((due.renewals.len(), due.lost.len()), (2, 0));
    assert!(held.due(now + ms(510)).renewals.is_empty(), "they are being renewed");
    held.renewed(&due.renewals[0], now + ms(500));
    held.not_renewed(&due.renewals[1], now + ms(520));
    let [renewed, failed] = [due.renewals[0].receipt, due.renewals[1].receipt];
    assert_eq!(held.due(now + ms(600)).renewals, [due.renewals[1]], "it is tried again");
    assert!(held.is_leased(&failed, now + ms(999)) && !held.is_leased(&failed, now + ms(1000)));
    let due = held.due(now + ms(1000));
    assert_eq!((due.lost, due.renewals.len()), (vec![failed.id()], 1));
    assert_eq!(due.renewals[0].receipt, renewed);
    // The handler of a lost message is cancelled, and a lost message that no handler has begun is gone.
    let is_running_lost = started.delivery.receipt == Some(failed);
    let lost = started.lost.as_mut().unwrap();
    assert_eq!(lost.try_recv() == Err(oneshot::error::TryRecvError::Closed), is_running_lost);
    assert_eq!(!held.ended(started.delivery.receipt, started.bytes, ms(1)), is_running_lost);
}

#[test]
fn what_waits_too_long_for_a_slot_is_taken_back_and_the_rest_when_it_stops() {
    let now = Instant::now();
    let mut held = Held::new(&options(1, 10, 1 << 20));
    held.add((1..=4).map(|n| delivery(n, 60_000)).collect(), 4, now);
    let started = start(&mut held, now);
    assert_eq!(held.take_stale(now + ms(999)), None);
    assert_eq!(held.take_stale(now + ms(1000)).unwrap().id(), MessageId(2));
    assert_eq!(held.take_ready().len(), 2);
    held.fetch_ended();
    assert!(matches!(held.start(now), Next::Wait));
    held.ended(started.delivery.receipt, started.bytes, ms(0));
    assert!(matches!(held.start(now), Next::Done));
    assert_eq!(held.stopped(), Stopped { given_back: 2, cut_off: 0, unsettled: 4 });
}

#[test]
fn messages_without_a_lease_are_not_popped_ahead() {
    let now = Instant::now();
    let mut held = Held::new(&options(2, 100, 1 << 20));
    let delivery = |n| Delivery { receipt: None, extensions: Extensions::default(), ..delivery(n, 0) };
    for n in 0..20 {
        let (messages, _) = held.room(NODES).unwrap();
        assert!(messages <= 2, "{messages}");
        held.add((0..u64::from(messages)).map(|at| delivery(n * 2 + at)).collect(), messages, now);
        assert!(held.take_ready().is_empty(), "nothing could be given back");
        while let Next::Start(started) = held.start(now) {
            assert!(!held.ended(None, started.bytes, ms(0)));
        }
    }
    assert_eq!(held.stopped(), Stopped::default());
}
