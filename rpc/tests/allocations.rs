//! What a call allocates once everything is warm, counted on each side's own thread.

#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
};

use allocation_counter::measure;
use ms_register::{Instance, Static};
use ms_rpc::{ClientProxy, RateLimit, Server};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinSet,
};

/// Calls before the count begins, and calls that are counted.
const CALLS: usize = 6_400;

/// Allocations a call, beyond those of the user's own types, on each side.
const GOAL: f64 = 2.0;

/// What is not done once a call, such as a tick of the clock or a grown table, is small change over all calls.
const CHANGE: f64 = 0.05;

#[ms_rpc::service(name = "goods")]
trait Goods {
    #[idempotent]
    async fn find(&self, id: i64) -> Item;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: i64,
    name: String,
    price: f64,
    tags: Vec<String>,
}

impl Item {
    fn of(id: i64) -> Self {
        let tags = ["new", "oak", "home"].map(str::to_owned);
        Self { id, name: "walnut armchair.".to_owned(), price: 129.5, tags: tags.into() }
    }

    /// What an item allocates, whoever makes it: the name, the list, three tags. The argument, a number, takes nothing.
    fn allocations() -> f64 {
        let made = measure(|| drop(std::hint::black_box(Self::of(1))));
        assert_eq!(made.count_total, 5);
        made.count_total as f64
    }
}

#[derive(Debug)]
struct Shop;

impl Goods for Shop {
    async fn find(&self, id: i64) -> Item {
        Item::of(id)
    }
}

/// The two moments at which both sides must agree on what is counted.
struct Turns {
    warm: oneshot::Receiver<()>,
    counting: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Serves until the client is done; returns what was allocated on this thread while the client counted.
fn serve(address: &mpsc::Sender<SocketAddr>, turns: Turns) -> u64 {
    let runtime = runtime();
    let _running = runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await.unwrap().limit(RateLimit::per_second(100_000_000));
        let running = server.serve(GoodsServer::new(Shop)).start().await.unwrap();
        address.send(running.address()).unwrap();
        turns.warm.await.unwrap();
        running
    });
    let counted = measure(|| {
        runtime.block_on(async {
            turns.counting.send(()).unwrap();
            turns.done.await.unwrap();
        });
    });
    counted.count_total
}

async fn call(goods: &GoodsClient, in_flight: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let goods = goods.clone();
        tasks.spawn(async move {
            for id in 0..(CALLS / in_flight) as i64 {
                assert_eq!(goods.find(id).await.unwrap().id, id);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Allocations a call on the server and on the client, without those of the items.
fn counted(connections: usize, in_flight: usize) -> [f64; 2] {
    let (address, listening) = mpsc::channel();
    let (warm, is_warm) = oneshot::channel();
    let (is_counting, counting) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let turns = Turns { warm: is_warm, counting: is_counting, done: is_done };
    let server = thread::spawn(move || serve(&address, turns));

    let runtime = runtime();
    let instance = Instance::from_address(&listening.recv().unwrap().to_string()).unwrap();
    let proxy = ClientProxy::builder(Arc::new(Static::new(vec![instance])))
        .connections_per_instance(connections)
        .build()
        .unwrap();
    let goods = GoodsClient::new(proxy);
    runtime.block_on(async {
        call(&goods, in_flight).await;
        warm.send(()).unwrap();
        counting.await.unwrap();
    });
    let client = measure(|| runtime.block_on(call(&goods, in_flight))).count_total;
    done.send(()).unwrap();
    let server = server.join().unwrap();
    [server, client].map(|total| total as f64 / CALLS as f64 - Item::allocations())
}

#[test]
fn a_call_allocates_at_most_twice_a_side() {
    for (connections, in_flight) in [(1, 1), (1, 64), (4, 64)] {
        let [server, client] = counted(connections, in_flight);
        println!("{connections} x {in_flight}: server {server:.2}, client {client:.2} allocations a call");
        assert!(server <= GOAL + CHANGE, "the server allocates {server:.2} times a call");
        assert!(client <= GOAL + CHANGE, "the client allocates {client:.2} times a call");
    }
}
