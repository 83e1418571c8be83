//! A service to call, and its server on loopback.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;

use ms_register::{Memory, MsRegister};
use ms_rpc::{Server, ServiceError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: i64,
    pub tags: Vec<String>,
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

#[ms_rpc::service(name = "shop")]
pub trait Shop {
    /// Ids below 0 are missing.
    async fn find(&self, id: i64) -> Result<Item, Missing>;
    async fn echo(&self, text: String) -> String;
}

pub struct TestShop;

impl Shop for TestShop {
    async fn find(&self, id: i64) -> Result<Item, Missing> {
        if id < 0 { Err(Missing(id)) } else { Ok(Item { id, tags: vec!["a".to_owned(); 3] }) }
    }

    async fn echo(&self, text: String) -> String {
        text
    }
}

/// A server of the shop on a port of its own, and a registry to list it in.
pub async fn server() -> (Server, Arc<dyn MsRegister>) {
    let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone());
    (server.serve(ShopServer::new(TestShop)), registry)
}
