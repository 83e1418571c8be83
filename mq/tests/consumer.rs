//! Consumer: handlers that panic, take long, are cancelled, and whose nodes cannot be reached.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use common::{
    Running, client,
    logs::Logs,
    relay::{Net, Relay},
    soon, start,
};
use ms_mq::{Change, ConsumerOptions, Delivery, Engine, Look, MqClient, NODE_ID, Pop, Push, QueueName, Settings};
use ms_register::{Instance, Memory, Static};
use tokio::{
    sync::{Barrier, Notify, mpsc},
    time::{Instant, sleep},
};

/// Runs of each message, by its first byte.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<BTreeMap<u8, u32>>>);

impl Runs {
    fn count(&self, delivery: &Delivery) -> u32 {
        let mut runs = self.0.lock().unwrap();
        let run = runs.entry(delivery.body[0]).or_default();
        *run += 1;
        *run
    }

    fn all(&self) -> Vec<(u8, u32)> {
        self.0.lock().unwrap().iter().map(|(body, runs)| (*body, *runs)).collect()
    }
}

async fn one_node() -> (Running, MqClient) {
    let registry = Arc::new(Memory::new());
    let running = start(&registry, 1).await;
    let client = client(&registry);
    client.declare("t", "default").await.unwrap();
    (running, client)
}

async fn configure(running: &Running, ttr: u64, max_retries: u16) {
    let settings = Settings { ttr_ms: Some(ttr), max_retries: Some(max_retries), ..Settings::default() };
    running.node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
}

async fn push(running: &Running, bodies: impl IntoIterator<Item = u8>) {
    let pushes = bodies.into_iter().map(|body| Push::new("t", vec![body])).collect();
    running.node.push_batch(pushes).await.unwrap();
}

fn with(concurrency: usize) -> ConsumerOptions {
    ConsumerOptions { concurrency, backoff: Duration::from_millis(10), ..ConsumerOptions::default() }
}

#[tokio::test]
async fn a_panic_is_a_nack_with_its_text_and_the_slots_live() {
    let (logs, _guard) = Logs::collect();
    let (running, client) = one_node().await;
    configure(&running, 30_000, 1).await;
    let (runs, together) = (Runs::default(), Arc::new(Barrier::new(4)));
    let (seen, meeting) = (runs.clone(), together.clone());
    let consumer = client.consume("t", "default", with(4), move |delivery: Delivery| {
        seen.count(&delivery);
        let body = delivery.body[0];
        assert!(body != 200, "the call itself panics");
        let meeting = meeting.clone();
        async move {
            assert!(body < 100, "poison {body}");
            if body >= 50 {
                meeting.wait().await;
            }
            Ok::<_, String>(())
        }
    });
    push(&running, (100..116).chain([200])).await;
    running.until(|queue| queue.dead == 17 && queue.ready + queue.leased + queue.delayed == 0).await;
    assert_eq!(runs.all(), (100..116).chain([200]).map(|body| (body, 2)).collect::<Vec<_>>());
    let look = Look::List { queue: QueueName::new("t", "default"), after: ms_mq::MessageId(0), most: 100, dead: true };
    let letters = running.node.look(look).await.unwrap().messages();
    let reasons: Vec<_> = letters.into_iter().map(|letter| letter.reason.unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("the handler panicked: poison 107")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("the call itself panics")), "{reasons:?}");
    assert_eq!(logs.lines(&["ERROR", "the handler panicked: poison 107"]).len(), 2);
    // Four handlers that wait for each other need four slots.
    push(&running, 50..54).await;
    running.until(|queue| queue.ready + queue.leased == 0).await;
    soon(consumer.stop(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn a_handler_that_takes_ten_leases_runs_once() {
    let (running, client) = one_node().await;
    configure(&running, 300, 5).await;
    let runs = Runs::default();
    let seen = runs.clone();
    let consumer = client.consume("t", "default", with(3), move |delivery: Delivery| {
        seen.count(&delivery);
        async {
            sleep(Duration::from_secs(3)).await;
            Ok::<_, String>(())
        }
    });
    push(&running, 1..=6).await;
    running.until_empty().await;
    assert_eq!(runs.all(), (1..=6).map(|body| (body, 1)).collect::<Vec<_>>());
    soon(consumer.stop(Duration::from_secs(5))).await;
}

/// A node behind a relay.
async fn behind_a_relay() -> (Running, MqClient, Relay) {
    let running = start(&Arc::new(Memory::new()), 1).await;
    let relay = Relay::to(running.server.address()).await;
    let instance = Instance::from_address(&relay.address.to_string()).unwrap().with_metadata(NODE_ID, "1");
    let client = MqClient::new(Arc::new(Static::new(vec![instance]))).unwrap();
    client.declare("t", "default").await.unwrap();
    (running, client, relay)
}

#[tokio::test]
async fn a_connection_that_breaks_between_work_and_ack_loses_nothing_and_repeats_nothing() {
    let (running, client, relay) = behind_a_relay().await;
    let relay = Arc::new(relay);
    configure(&running, 5_000, 5).await;
    let runs = Runs::default();
    let (seen, network) = (runs.clone(), relay.clone());
    let consumer = client.consume("t", "default", with(2), move |delivery: Delivery| {
        seen.count(&delivery);
        let network = network.clone();
        async move {
            // Of some the ack cannot be sent, of others its answer does not come.
            let state = match delivery.body[0] % 10 {
                3 => Net::Down,
                7 => Net::Mute,
                _ => return Ok::<_, String>(()),
            };
            network.set(state);
            tokio::spawn(async move {
                sleep(Duration::from_millis(300)).await;
                network.set(Net::Down);
                sleep(Duration::from_millis(50)).await;
                network.set(Net::Up);
            });
            Ok(())
        }
    });
    push(&running, 0..40).await;
    running.until_empty().await;
    assert_eq!(runs.all(), (0..40).map(|body| (body, 1)).collect::<Vec<_>>());
    soon(consumer.stop(Duration::from_secs(5))).await;
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_handler_whose_lease_is_lost_is_cancelled() {
    let (logs, _guard) = Logs::collect();
    let (running, client, relay) = behind_a_relay().await;
    configure(&running, 400, 5).await;
    let (begun, dropped) = (Arc::new(Notify::new()), mpsc::channel(10));
    let (starts, drops) = (begun.clone(), dropped.0);
    let mut dropped = dropped.1;
    let consumer = client.consume("t", "default", with(1), move |_: Delivery| {
        starts.notify_one();
        let guard = Dropped(drops.clone());
        async move {
            pending::<()>().await;
            drop(guard);
            Ok::<_, String>(())
        }
    });
    push(&running, [1]).await;
    soon(begun.notified()).await;
    running.node.change(Change::Purge(QueueName::new("t", "default"))).await.unwrap();
    soon(dropped.recv()).await;
    // The slot is free again.
    push(&running, [2]).await;
    soon(begun.notified()).await;
    relay.set(Net::Down);
    let cut = Instant::now();
    soon(dropped.recv()).await;
    assert!(cut.elapsed() < Duration::from_secs(3), "{:?}", cut.elapsed());
    relay.set(Net::Up);
    soon(begun.notified()).await;
    assert_eq!(logs.lines(&["WARN", "its handler is cancelled"]).len(), 2);
    let stopped = soon(consumer.stop(Duration::ZERO)).await;
    assert_eq!((stopped.cut_off, stopped.unsettled), (1, 0));
}

#[tokio::test]
async fn a_stop_waits_for_handlers_and_gives_back_what_none_has_begun() {
    let (running, client) = one_node().await;
    let (release, begun) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (waits, starts) = (release.clone(), begun.clone());
    let consumer = client.consume("t", "default", with(2), move |delivery: Delivery| {
        let (waits, starts) = (waits.clone(), starts.clone());
        async move {
            // Fast ones first, so that messages are popped ahead.
            if delivery.body[0] > 0 {
                starts.fetch_add(1, Ordering::SeqCst);
                waits.notified().await;
            }
            Ok::<_, String>(())
        }
    });
    for _ in 0..5 {
        push(&running, [0; 200]).await;
    }
    push(&running, [1; 50]).await;
    running.until(|queue| queue.leased > 4 && queue.ready + queue.leased == 50).await;
    while begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let leased = running.queue().leased;
    let stop = tokio::spawn(consumer.stop(Duration::from_secs(20)));
    let back = running.until(|queue| queue.leased == 2).await;
    assert_eq!(back.ready, 48);
    release.notify_waiters();
    let stopped = soon(stop).await.unwrap();
    assert!(stopped.given_back >= leased as usize - 2, "{stopped:?} of {leased}");
    assert_eq!((stopped.cut_off, stopped.unsettled), (0, 0));
    let left = running.queue();
    assert_eq!((left.ready, left.leased, begun.load(Ordering::SeqCst)), (48, 0, 2));
    let pop = Pop { max_messages: 100, ..Pop::new("t", "default") };
    assert!(running.node.pop(&pop).await.unwrap().iter().all(|delivery| delivery.retries == 0));
}

#[tokio::test]
async fn a_stop_cuts_handlers_off_at_its_deadline() {
    let (running, client) = one_node().await;
    let begun = Arc::new(Notify::new());
    let starts = begun.clone();
    let consumer = client.consume("t", "default", with(1), move |_: Delivery| {
        starts.notify_one();
        pending::<Result<(), String>>()
    });
    push(&running, [1]).await;
    soon(begun.notified()).await;
    let began = Instant::now();
    let stopped = soon(consumer.stop(Duration::from_millis(400))).await;
    assert_eq!((stopped.cut_off, stopped.given_back, stopped.unsettled), (1, 0, 0));
    assert!((400..2_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let queue = running.queue();
    assert_eq!((queue.ready, queue.leased), (1, 0));
}

/// Panics when it is dropped.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test]
async fn a_handler_that_panics_while_it_is_cancelled_costs_neither_slot_nor_message() {
    let (running, client) = one_node().await;
    let begun = Arc::new(Notify::new());
    let starts = begun.clone();
    let consumer = client.consume("t", "default", with(1), move |_: Delivery| {
        starts.notify_one();
        async {
            let _explosive = Explosive;
            pending::<Result<(), String>>().await
        }
    });
    push(&running, [1]).await;
    soon(begun.notified()).await;
    let stopped = soon(consumer.stop(Duration::ZERO)).await;
    assert_eq!(stopped.unsettled, 0);
    running.until(|queue| queue.ready == 1 && queue.leased == 0).await;
}

#[tokio::test]
async fn a_dropped_consumer_says_so_and_keeps_nothing() {
    let (logs, _guard) = Logs::collect();
    let (running, client) = one_node().await;
    let begun = Arc::new(Notify::new());
    let starts = begun.clone();
    let consumer = client.consume("t", "default", with(1), move |_: Delivery| {
        starts.notify_one();
        pending::<Result<(), String>>()
    });
    push(&running, [1, 2]).await;
    soon(begun.notified()).await;
    drop(consumer);
    running.until(|queue| queue.ready == 2 && queue.leased == 0).await;
    assert_eq!(logs.lines(&["WARN", "a consumer of queue \"default\" of topic \"t\" was dropped"]).len(), 1);
}

#[tokio::test]
async fn errors_of_pops_are_said_once_and_a_topic_is_waited_for() {
    let (logs, _guard) = Logs::collect();
    let (running, client, relay) = behind_a_relay().await;
    running.node.change(Change::DeleteTopic("t".to_owned())).await.unwrap();
    let handled = Arc::new(Notify::new());
    let seen = handled.clone();
    let consumer = client.consume("t", "default", with(1), move |_: Delivery| {
        seen.notify_one();
        async { Ok::<_, String>(()) }
    });
    sleep(Duration::from_millis(1_800)).await;
    assert_eq!(logs.lines(&["WARN", "does not exist yet"]).len(), 1);
    push(&running, [1]).await;
    soon(handled.notified()).await;
    assert_eq!(logs.lines(&["INFO", "exists now"]).len(), 1);
    relay.set(Net::Down);
    sleep(Duration::from_millis(1_800)).await;
    let said = logs.lines(&["WARN", "cannot be popped from node"]);
    assert_eq!(said.len(), 1, "{said:?}");
    relay.set(Net::Up);
    push(&running, [1]).await;
    soon(handled.notified()).await;
    assert_eq!(logs.lines(&["INFO", "can be popped from node", "again"]).len(), 1);
    soon(consumer.stop(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn bytes_bound_what_is_popped_ahead() {
    let (running, client) = one_node().await;
    let (is_slow, release) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (slow, waits) = (is_slow.clone(), release.clone());
    let options = ConsumerOptions { prefetch_bytes: 100_000, ..with(1) };
    let consumer = client.consume("t", "default", options, move |_: Delivery| {
        let (slow, waits) = (slow.clone(), waits.clone());
        async move {
            if slow.load(Ordering::SeqCst) {
                waits.notified().await;
            }
            Ok::<_, String>(())
        }
    });
    for round in 0..8 {
        let bodies = (0..100).map(|_| Push::new("t", vec![7; 10_000])).collect();
        running.node.push_batch(bodies).await.unwrap();
        is_slow.store(round == 7, Ordering::SeqCst);
    }
    let mut most = 0;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(800) {
        most = most.max(running.queue().leased);
        tokio::task::yield_now().await;
    }
    assert!((2..=10).contains(&most), "{most} messages of 10 kB are held");
    soon(consumer.stop(Duration::ZERO)).await;
}

#[tokio::test]
async fn slow_handlers_have_nothing_popped_ahead_of_them() {
    let (running, client) = one_node().await;
    let runs = Runs::default();
    let seen = runs.clone();
    let consumer = client.consume("t", "default", with(2), move |delivery: Delivery| {
        seen.count(&delivery);
        async {
            sleep(Duration::from_millis(150)).await;
            Ok::<_, String>(())
        }
    });
    push(&running, 0..12).await;
    let mut most = 0;
    while runs.all().len() < 10 {
        most = most.max(running.queue().leased);
        tokio::task::yield_now().await;
    }
    // Two in handlers, and up to two whose acknowledgement is on its way.
    assert!(most <= 4, "{most}");
    running.until_empty().await;
    soon(consumer.stop(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn what_acks_by_itself_is_handled_even_when_the_consumer_stops() {
    let (running, client) = one_node().await;
    let settings = Settings { auto_ack: Some(true), ..Settings::default() };
    running.node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
    let runs = Runs::default();
    let seen = runs.clone();
    let consumer = client.consume("t", "default", with(3), move |delivery: Delivery| {
        seen.count(&delivery);
        async {
            sleep(Duration::from_millis(20)).await;
            Ok::<_, String>(())
        }
    });
    push(&running, 0..60).await;
    while runs.all().len() < 20 {
        sleep(Duration::from_millis(1)).await;
    }
    let stopped = soon(consumer.stop(Duration::from_secs(5))).await;
    assert_eq!((stopped.given_back, stopped.cut_off, stopped.unsettled), (0, 0, 0));
    let popped = running.queue().popped;
    assert_eq!(runs.all().len() as u64, popped, "each message that left the node is handled");
}

#[tokio::test]
async fn failures_come_again_and_success_is_acknowledged() {
    let (running, client) = one_node().await;
    let runs = Runs::default();
    let seen = runs.clone();
    let consumer = client.consume("t", "default", with(4), move |delivery: Delivery| {
        let run = seen.count(&delivery);
        async move { if delivery.body[0].is_multiple_of(3) && run == 1 { Err("not yet") } else { Ok(()) } }
    });
    push(&running, 0..30).await;
    running.until_empty().await;
    let wanted: HashMap<u8, u32> = (0..30u8).map(|body| (body, if body.is_multiple_of(3) { 2 } else { 1 })).collect();
    assert_eq!(runs.all().into_iter().collect::<HashMap<_, _>>(), wanted);
    soon(consumer.stop(Duration::from_secs(5))).await;
}
