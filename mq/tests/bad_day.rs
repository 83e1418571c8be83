//! Everything at once: handlers that panic or outlive their leases, and connections that break at any moment.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    Running,
    relay::{Net, Relay},
    soon, start,
};
use ms_mq::{Change, ConsumerOptions, Delivery, Engine, MqClient, NODE_ID, Push, Settings};
use ms_register::{Instance, Memory, Static};
use tokio::{sync::Barrier, time::sleep};

const NODES: u16 = 3;
const MESSAGES: u32 = 240;
const SLOTS: usize = 8;
/// A lost connection is dialled again within 0.9 s, and once more within 1.5 s.
const LEASE: Duration = Duration::from_secs(4);
/// Body of messages that wait for each other at the end.
const MEETING: u32 = u32::MAX;

/// Runs and successes of each message.
type Seen = Arc<Mutex<BTreeMap<u32, (u32, u32)>>>;

async fn handle(delivery: Delivery, seen: Seen, meeting: Arc<Barrier>) -> Result<(), String> {
    let number = u32::from_le_bytes(delivery.body[..4].try_into().unwrap());
    if number == MEETING {
        meeting.wait().await;
        return Ok(());
    }
    let run = {
        let mut seen = seen.lock().unwrap();
        let (runs, _) = seen.entry(number).or_default();
        *runs += 1;
        *runs
    };
    match number % 12 {
        1 => assert!(run > 1, "panics once"),
        2 if run == 1 => return Err("fails once".to_owned()),
        3 if number < 30 => sleep(3 * LEASE).await,
        _ => sleep(Duration::from_millis(50)).await,
    }
    seen.lock().unwrap().entry(number).or_default().1 += 1;
    Ok(())
}

/// Breaks the connections to one node after the other, for a fraction of a lease.
async fn disturb(relays: Arc<Vec<Relay>>) {
    for relay in relays.iter().cycle() {
        sleep(Duration::from_millis(600)).await;
        if fastrand::bool() {
            relay.set(Net::Mute);
            sleep(Duration::from_millis(fastrand::u64(0..150))).await;
        }
        relay.set(Net::Down);
        sleep(Duration::from_millis(fastrand::u64(0..150))).await;
        relay.set(Net::Up);
    }
}

fn message(number: u32) -> Push {
    Push::new("t", number.to_le_bytes().to_vec())
}

async fn start_nodes() -> (Vec<Running>, Vec<Relay>, MqClient) {
    let (mut nodes, mut relays, mut instances) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=NODES {
        let running = start(&Arc::new(Memory::new()), id).await;
        let settings =
            Settings { ttr_ms: Some(LEASE.as_millis() as u64), max_retries: Some(100), ..Settings::default() };
        running.node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
        let relay = Relay::to(running.server.address()).await;
        let instance = Instance::from_address(&relay.address.to_string()).unwrap();
        instances.push(instance.with_metadata(NODE_ID, id.to_string()));
        nodes.push(running);
        relays.push(relay);
    }
    (nodes, relays, MqClient::new(Arc::new(Static::new(instances))).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_and_the_slots_stay() {
    let (nodes, relays, client) = start_nodes().await;
    for number in 0..MESSAGES {
        nodes[number as usize % nodes.len()].node.push(message(number)).await.unwrap();
    }
    let (seen, meeting) = (Seen::default(), Arc::new(Barrier::new(SLOTS)));
    let options =
        ConsumerOptions { concurrency: SLOTS, backoff: Duration::from_millis(20), ..ConsumerOptions::default() };
    let (shared, place) = (seen.clone(), meeting.clone());
    let consumer =
        client.consume("t", "default", options, move |delivery| handle(delivery, shared.clone(), place.clone()));
    let relays = Arc::new(relays);
    let trouble = tokio::spawn(disturb(relays.clone()));
    for running in &nodes {
        running.until_empty().await;
    }
    trouble.abort();
    let _ = trouble.await;
    let seen: Vec<_> = seen.lock().unwrap().iter().map(|(number, (_, done))| (*number, *done)).collect();
    assert_eq!(seen, (0..MESSAGES).map(|number| (number, 1)).collect::<Vec<_>>(), "messages and successes");
    relays.iter().for_each(|relay| relay.set(Net::Up));
    // As many handlers that wait for each other need all slots.
    for _ in 0..30 {
        let bodies = (0..SLOTS).map(|_| message(MEETING)).collect();
        nodes[0].node.push_batch(bodies).await.unwrap();
        nodes[0].until_empty().await;
    }
    let stopped = soon(consumer.stop(Duration::from_secs(5))).await;
    assert_eq!((stopped.given_back, stopped.cut_off, stopped.unsettled), (0, 0, 0));
}
