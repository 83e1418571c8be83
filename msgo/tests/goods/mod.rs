//! The service that the tests call.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

use std::{
    future::pending,
    process::{Child, Command, Stdio},
    thread,
};

use ms_msgo::Version1;
use ms_rpc::{RateLimit, Server, ServiceError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: i64,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing(pub i64);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no item {}", self.0)
    }
}

impl std::error::Error for Missing {}

impl ServiceError for Missing {}

#[ms_rpc::service(name = "goods")]
pub trait Goods {
    /// Ids below 0 are missing.
    async fn find(&self, id: i64) -> Result<Item, Missing>;
    async fn find_all(&self, count: u32) -> Vec<Item>;
    /// More than a double holds.
    async fn largest(&self) -> u64;
    #[blocking]
    async fn block(&self, id: i64) -> i64;
    async fn limited(&self);
    async fn stall(&self);
}

pub struct Shop;

fn item(id: i64) -> Item {
    Item { id, name: format!("item {id}") }
}

impl Goods for Shop {
    async fn find(&self, id: i64) -> Result<Item, Missing> {
        if id < 0 { Err(Missing(id)) } else { Ok(item(id)) }
    }

    async fn find_all(&self, count: u32) -> Vec<Item> {
        (0..count.into()).map(item).collect()
    }

    async fn largest(&self) -> u64 {
        (1 << 53) + 1
    }

    async fn block(&self, id: i64) -> i64 {
        // A thread of the runtime has its name.
        assert!(thread::current().name().is_none_or(|name| !name.starts_with("test")));
        id
    }

    async fn limited(&self) {}

    async fn stall(&self) {
        pending().await
    }
}

/// A server of both protocols, which allows one call of `limited`.
pub async fn server() -> Server {
    let limit = RateLimit::per_second(1).burst(1);
    let server = Server::bind("127.0.0.1:0").await.unwrap().protocol(Version1).serve(GoodsServer::new(Shop));
    server.limit_method("goods", "limited", limit)
}

/// A script of the folder `peers`, with its stdout and stdin here.
pub fn peer(script: &str, arguments: &[&str]) -> Child {
    let path = format!("{}/tests/peers/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}
