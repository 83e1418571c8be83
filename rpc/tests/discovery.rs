//! Names that a proxy follows: forgotten when nothing is listed and nothing called, bounded in number, and followed on when a
//! caller's runtime goes.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ms_register::{
    Election, Instance, Memory, MsRegister, RegisterError, Registration, ServiceName, ServicesWatch, SnapshotWatch,
    Static,
};
use ms_rpc::{CallOptions, ClientProxy, Code, Outcome};
use serde_json::json;
use shop::{ShopClient, registered};
use tokio::{runtime, time::sleep};

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_name_that_lists_nothing_is_forgotten_and_found_again_by_a_stub() {
    let registry = Arc::new(Memory::new());
    let proxy =
        ClientProxy::builder(registry.clone()).discovery(|bounds| bounds.unlisted_services = 1).build().unwrap();
    let shop = ShopClient::new(&proxy);
    let none = shop.who().await.unwrap_err();
    assert_eq!(none.code(), Code::Unavailable);

    let other = proxy.call("other", "x", &json!([])).await.unwrap_err();
    assert_eq!((other.code(), other.outcome()), (Code::ResourceExhausted, Outcome::NotSent), "{other}");
    assert!(other.message().contains("`discovery.unlisted_services`"), "{other}");
    // A call now and then keeps the name.
    for _ in 0..5 {
        sleep(Duration::from_secs(40)).await;
        shop.who().await.unwrap_err();
        assert_eq!(proxy.call("other", "x", &json!([])).await.unwrap_err().code(), Code::ResourceExhausted);
    }
    sleep(Duration::from_secs(61)).await;
    assert_eq!(proxy.call("other", "x", &json!([])).await.unwrap_err().code(), Code::Unavailable, "there is room now");
    sleep(Duration::from_secs(61)).await;
    registry.insert(&service(), Instance::new("127.0.0.1", 1));
    let found = shop.with(CallOptions::new().deadline(Duration::from_millis(100))).who().await.unwrap_err();
    assert!(found.message().contains("none of the 1 instances"), "the stub has found it again: {found}");
    // Listed, it does not count, and is never forgotten.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(proxy.call("other", "x", &json!([])).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(proxy.instances("shop").unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_from_a_url_are_bounded() {
    let proxy = ClientProxy::new(Arc::new(Memory::new()));
    for number in 0..1000 {
        let none = proxy.call(&format!("name-{number}"), "x", &json!([])).await.unwrap_err();
        assert_eq!(none.code(), Code::Unavailable, "{none}");
    }
    let tasks = runtime::Handle::current().metrics().num_alive_tasks();
    let refused = proxy.call("one-more", "x", &json!([])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("1000 names"), "{refused}");
    sleep(Duration::from_secs(62)).await;
    let after = runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks >= 1000 && after == 0, "{tasks} tasks, then {after}");
}

/// Registry that calls back into the proxy when a service is watched.
#[derive(Debug, Default)]
struct Reentrant {
    memory: Memory,
    proxy: std::sync::OnceLock<ClientProxy>,
    watches: AtomicUsize,
}

#[async_trait]
impl MsRegister for Reentrant {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        self.memory.register(service, instance).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        self.memory.list(service).await
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        if self.watches.fetch_add(1, Ordering::SeqCst) < 3 {
            let name = format!("{}-more", service.as_str());
            self.proxy.get().unwrap().instances(&name).unwrap();
        }
        self.memory.watch(service)
    }

    fn url(&self) -> &str {
        self.memory.url()
    }

    fn scope(&self) -> Option<&str> {
        self.memory.scope()
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        self.memory.services().await
    }

    fn watch_services(&self) -> Result<ServicesWatch, RegisterError> {
        self.memory.watch_services()
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        self.memory.close(deadline).await
    }

    fn expiry(&self) -> Duration {
        self.memory.expiry()
    }

    fn propagation(&self) -> Duration {
        self.memory.propagation()
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        self.memory.election()
    }
}

#[tokio::test]
async fn the_registrys_code_does_not_run_under_a_lock() {
    let registry = Arc::new(Reentrant::default());
    let proxy = ClientProxy::new(registry.clone());
    registry.proxy.set(proxy.clone()).unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    let runtime = runtime::Handle::current();
    std::thread::spawn(move || {
        let _entered = runtime.enter();
        proxy.instances("shop").unwrap();
        done.send(()).unwrap();
    });
    let finished = tokio::task::spawn_blocking(move || finished.recv_timeout(Duration::from_secs(5)));
    finished.await.unwrap().unwrap();
    assert_eq!(registry.watches.load(Ordering::SeqCst), 4);
}

fn new_runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A registry with one server on a runtime of its own thread, for as long as the sender lives.
fn served() -> (Arc<Memory>, std::sync::mpsc::Sender<()>) {
    let registry = Arc::new(Memory::new());
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let to_register = registry.clone();
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _server = runtime.block_on(registered(&to_register, "a"));
        ready.send(()).unwrap();
        // Until the test ends.
        ended.recv().unwrap_err();
    });
    is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
    (registry, end)
}

async fn until_listed(proxy: &ClientProxy, instances: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while proxy.instances("shop").unwrap().len() != instances {
        assert!(tokio::time::Instant::now() < deadline, "the list never changes");
        let _ = ShopClient::new(proxy).add(1, 2).await;
        tokio::task::yield_now().await;
    }
}

#[test]
fn calls_and_lists_go_on_when_the_first_callers_runtime_ends() {
    let (registry, _end) = served();
    let proxy = ClientProxy::new(registry.clone());
    let shop = ShopClient::new(&proxy);
    let first = new_runtime();
    assert_eq!(first.block_on(shop.add(1, 2)).unwrap(), 3);
    drop(first);
    new_runtime().block_on(async {
        assert_eq!(shop.add(1, 2).await.unwrap(), 3);
        registry.insert(&service(), Instance::new("127.0.0.1", 1));
        until_listed(&proxy, 2).await;
    });
}

#[test]
fn calls_and_lists_go_on_when_the_first_callers_runtime_is_not_driven() {
    let (registry, _end) = served();
    let proxy = ClientProxy::new(registry.clone());
    let shop = ShopClient::new(&proxy);
    let first = new_runtime();
    assert_eq!(first.block_on(shop.add(1, 2)).unwrap(), 3);
    // `first` is kept, and nothing runs on it any more.
    new_runtime().block_on(async {
        let began = std::time::Instant::now();
        let short = shop.with(CallOptions::new().deadline(Duration::from_millis(200)));
        let call = tokio::time::timeout(Duration::from_secs(5), short.add(1, 2));
        let late = call.await.expect("the call has a deadline of its own").unwrap_err();
        assert_eq!((late.code(), late.outcome()), (Code::DeadlineExceeded, Outcome::Unknown), "{late}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let spawned = tokio::spawn({
            let shop = shop.clone();
            async move { while shop.add(1, 2).await.is_err() {} }
        });
        tokio::time::timeout(Duration::from_secs(5), spawned).await.expect("a new connection is made").unwrap();
        registry.insert(&service(), Instance::new("127.0.0.1", 1));
        until_listed(&proxy, 2).await;
    });
    drop(first);
}

#[test]
fn a_dial_on_a_runtime_that_is_not_driven_keeps_nobody_waiting() {
    let (registry, _end) = served();
    let listed = registry.watch(&service()).current().instances().to_vec();
    let proxy = ClientProxy::new(Arc::new(Static::new(listed)));
    let shop = ShopClient::new(&proxy);
    let first = new_runtime();
    first.block_on(async {
        // Begins to follow and to dial, and is left at that.
        let _ = tokio::time::timeout(Duration::from_micros(1), shop.add(1, 2)).await;
    });
    new_runtime().block_on(async {
        let patient = shop.with(CallOptions::new().deadline(Duration::from_secs(3)));
        assert_eq!(patient.add(1, 2).await.unwrap(), 3);
    });
    drop(first);
}
