//! Servers of msgo, called from here: a Python program that behaves as they do.

#![allow(clippy::unwrap_used)]

mod goods;

use std::{
    io::{BufRead, BufReader},
    process::Child,
    sync::Arc,
    time::Duration,
};

use goods::{GoodsClient, Item, peer};
use ms_msgo::MsgoClient;
use ms_register::{Instance, Static};
use ms_rpc::{CallOptions, Code, Outcome};
use serde_json::json;

/// A server, until it is dropped.
struct Peer {
    process: Child,
    port: u16,
}

impl Peer {
    fn start() -> Self {
        let mut process = peer("msgo_server.py", &[]);
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn a_server_of_msgo_is_called_by_typed_clients() {
    let peer = Peer::start();
    let goods = GoodsClient::new(MsgoClient::to(format!("127.0.0.1:{}", peer.port)).channel());
    // It closes after each answer.
    for id in 0..20 {
        assert_eq!(goods.find(id).await.unwrap(), Item { id, name: format!("item {id}") });
    }
    // A list is an empty object in its answer, which is no list.
    assert_eq!(goods.find_all(2).await.unwrap_err().code(), Code::Internal);
    assert_eq!(goods.find(-3).await.unwrap_err().status().unwrap().message(), "no item -3");
    let limited = goods.limited().await.unwrap_err();
    assert_eq!((limited.code(), limited.outcome()), (Code::ResourceExhausted, Outcome::Refused));
    let limit = limited.message().to_owned();
    assert_eq!(limit, "rate: Wait(n=1) would exceed context deadline");
    let unknown = goods.largest().await.unwrap_err();
    assert_eq!((unknown.code(), unknown.outcome()), (Code::Unavailable, Outcome::Unknown), "{unknown}");
    assert!(unknown.to_string().contains("as servers of msgo do for an unknown method"), "{unknown}");
    let channel = MsgoClient::to(format!("127.0.0.1:{}", peer.port)).channel();
    let unknown = channel.call("bads", "find", &json!([5])).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.outcome()), (Code::Unimplemented, Outcome::Refused), "{unknown}");
}

#[tokio::test]
async fn servers_in_a_registry_are_called_by_turns_and_the_dead_are_passed_over() {
    let (one, two) = (Peer::start(), Peer::start());
    let instances = [one.port, two.port].map(|port| Instance::new("127.0.0.1", port));
    let registry = Arc::new(Static::new(instances.to_vec()));
    let goods = GoodsClient::new(MsgoClient::through(registry).channel());
    for id in 0..10 {
        assert_eq!(goods.find(id).await.unwrap().id, id);
    }
    drop(one);
    for id in 0..20 {
        assert_eq!(goods.find(id).await.unwrap().id, id);
    }
    drop(two);
    let error = goods.find(1).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent), "{error}");
}

#[tokio::test]
async fn a_silent_address_costs_no_more_than_the_deadline() {
    // A listener that never accepts: connections stand, and nothing answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let channel = MsgoClient::to(listener.local_addr().unwrap().to_string()).channel();
    let goods = GoodsClient::new(channel.with(CallOptions::new().deadline(Duration::from_millis(200))));
    let error = goods.find(1).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::Unknown), "{error}");
}
