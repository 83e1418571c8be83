//! A service that does everything a test needs.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::expect_used, clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ms_register::{Memory, MsRegister};
use ms_rpc::{Blob, Client, Code, Context, RunningServer, Server, ServiceError};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: i64,
    pub name: String,
    pub tags: Vec<String>,
}

impl Item {
    pub fn of(id: i64) -> Self {
        Self { id, name: format!("item {id}"), tags: vec!["a".to_owned(), "b".to_owned()] }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum ShopError {
    #[error("no item {0}")]
    Missing(i64),
}

impl ServiceError for ShopError {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

#[ms_rpc::service(name = "shop")]
pub trait Shop {
    /// Ids above 1,000 are missing.
    #[idempotent]
    async fn find(&self, id: i64) -> Result<Item, ShopError>;
    async fn add(&self, a: i64, b: i64) -> i64;
    async fn echo(&self, blob: Blob) -> Blob;
    async fn text(&self, text: String) -> String;
    /// Waits until it is let go or dropped.
    async fn wait(&self) -> u32;
    /// Waits like `wait`, and may be executed twice.
    #[idempotent]
    async fn wait_idempotent(&self) -> u32;
    /// Waits like `wait`, and returns so many bytes.
    async fn large(&self, bytes: usize) -> Blob;
    async fn panic(&self) -> u32;
    #[compute]
    async fn thread(&self) -> String;
    async fn remaining_ms(&self, ctx: Context) -> u64;
    async fn metadata(&self, ctx: Context, key: String) -> Option<String>;
    async fn who(&self) -> String;
    /// The address that the call comes from.
    async fn peer(&self, ctx: Context) -> String;
    async fn nested(&self, nested: Nested) -> u32;
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nested(pub Option<Box<Self>>);

/// What the methods did, and what lets them go.
#[derive(Debug, Default)]
pub struct Probe {
    pub started: AtomicUsize,
    pub dropped: AtomicUsize,
    pub computing: AtomicUsize,
    pub most_computing: AtomicUsize,
    pub changed: Notify,
    pub go: Notify,
}

impl Probe {
    /// Calls that wait to be let go.
    pub fn waiting(&self) -> usize {
        self.started.load(Ordering::SeqCst) - self.dropped.load(Ordering::SeqCst)
    }

    pub async fn until(&self, what: impl Fn(&Self) -> bool) {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if what(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), reached).await.expect("it never came to that");
    }
}

#[derive(Clone, Debug, Default)]
pub struct TestShop {
    pub name: String,
    pub probe: Arc<Probe>,
}

struct Dropped<'a>(&'a Probe);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Shop for TestShop {
    async fn find(&self, id: i64) -> Result<Item, ShopError> {
        if id > 1000 { Err(ShopError::Missing(id)) } else { Ok(Item::of(id)) }
    }

    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn echo(&self, blob: Blob) -> Blob {
        blob
    }

    async fn text(&self, text: String) -> String {
        text
    }

    async fn wait(&self) -> u32 {
        let go = self.probe.go.notified();
        self.probe.started.fetch_add(1, Ordering::SeqCst);
        self.probe.changed.notify_waiters();
        let _dropped = Dropped(&self.probe);
        go.await;
        7
    }

    async fn wait_idempotent(&self) -> u32 {
        self.wait().await
    }

    async fn large(&self, bytes: usize) -> Blob {
        self.wait().await;
        vec![7; bytes].into()
    }

    async fn panic(&self) -> u32 {
        panic!("as asked");
    }

    async fn thread(&self) -> String {
        let computing = self.probe.computing.fetch_add(1, Ordering::SeqCst) + 1;
        self.probe.most_computing.fetch_max(computing, Ordering::SeqCst);
        std::thread::yield_now();
        self.probe.computing.fetch_sub(1, Ordering::SeqCst);
        format!("{:?}", std::thread::current().id())
    }

    async fn remaining_ms(&self, ctx: Context) -> u64 {
        ctx.remaining().as_millis() as u64
    }

    async fn metadata(&self, ctx: Context, key: String) -> Option<String> {
        ctx.metadata(&key).map(str::to_owned)
    }

    async fn who(&self) -> String {
        self.name.clone()
    }

    async fn peer(&self, ctx: Context) -> String {
        ctx.peer().address().map(|address| address.to_string()).unwrap_or_default()
    }

    async fn nested(&self, nested: Nested) -> u32 {
        std::iter::successors(Some(&nested), |nested| nested.0.as_deref()).count() as u32
    }
}

pub async fn server(shop: TestShop) -> RunningServer {
    Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(shop)).start().await.unwrap()
}

pub async fn registered(registry: &Arc<Memory>, name: &str) -> (RunningServer, Arc<Probe>) {
    server_with(registry, name, |server| server).await
}

/// The same with settings of its own.
pub async fn server_with(
    registry: &Arc<Memory>,
    name: &str,
    settings: impl FnOnce(Server) -> Server,
) -> (RunningServer, Arc<Probe>) {
    let shop = TestShop { name: name.to_owned(), ..TestShop::default() };
    let probe = shop.probe.clone();
    let registry: Arc<dyn MsRegister> = registry.clone();
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry).serve(ShopServer::new(shop));
    (settings(server).start().await.unwrap(), probe)
}

pub async fn client(server: &RunningServer) -> Client {
    Client::connect(&server.address().to_string()).await.unwrap()
}
