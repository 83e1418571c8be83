//! What keeps a service up: the hold, ejection, keepalive, load shedding, health.

#![allow(clippy::unwrap_used)]

mod raw;
mod shop;

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use ms_register::{Instance, Memory, MsRegister, ServiceName};
use ms_rpc::{
    Balancer, CallOptions, Client, ClientProxy, Code, HealthClient, HealthState, Outcome, RunningServer, Server,
    ServiceHealth, layers::Timeout,
};
use raw::{Raw, RawServer, Request, server_hello};
use shop::{Probe, ShopClient, ShopServer, TestShop, registered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

/// Calls every instance, however slow it is.
fn in_turn(registry: &Arc<Memory>) -> ClientProxy {
    ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin).build().unwrap()
}

/// A server that is in no registry: tests list it by hand.
async fn unregistered(name: &str) -> (RunningServer, Arc<Probe>, Instance) {
    let shop = TestShop { name: name.to_owned(), ..TestShop::default() };
    let probe = shop.probe.clone();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(shop)).start().await.unwrap();
    let instance = Instance::new("127.0.0.1", server.address().port());
    (server, probe, instance)
}

/// Two servers that are listed by hand, and a proxy that has called both.
struct Pair {
    registry: Arc<Memory>,
    a: Option<RunningServer>,
    _b: RunningServer,
    instances: [Instance; 2],
    proxy: ClientProxy,
    shop: ShopClient,
}

impl Pair {
    async fn called() -> Self {
        let registry = Arc::new(Memory::new());
        let (a, _, first) = unregistered("a").await;
        let (_b, _, second) = unregistered("b").await;
        let instances = [first, second];
        for instance in &instances {
            registry.insert(&service(), instance.clone());
        }
        let proxy = in_turn(&registry);
        let shop = ShopClient::new(&proxy);
        warm(&shop, &["a", "b"]).await;
        Self { registry, a: Some(a), _b, instances, proxy, shop }
    }

    fn listed(&self) -> Vec<Instance> {
        self.proxy.instances("shop").unwrap()
    }
}

/// Waits until something that other tasks do is true.
async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came to that");
        tokio::task::yield_now().await;
    }
}

async fn warm(shop: &ShopClient, names: &[&str]) {
    let mut seen = HashSet::new();
    while !names.iter().all(|name| seen.contains(*name)) {
        seen.insert(shop.who().await.unwrap());
    }
}

#[tokio::test]
async fn an_emptied_registry_takes_nobody_away_but_who_is_gone() {
    let mut pair = Pair::called().await;
    let mut watch = pair.registry.watch(&service());
    pair.registry.wipe();
    watch.wait_for(|snapshot| snapshot.instances().is_empty()).await.unwrap();
    tokio::task::yield_now().await;
    warm(&pair.shop, &["a", "b"]).await;
    assert_eq!(pair.listed().len(), 2);

    drop(pair.a.take());
    // The dead one refuses connections; the other is called on.
    while pair.listed() != pair.instances[1..] {
        assert_eq!(pair.shop.find(1).await.unwrap().id, 1);
    }
    warm(&pair.shop, &["b"]).await;
}

#[tokio::test]
async fn a_held_instance_that_says_goaway_is_left() {
    let mut pair = Pair::called().await;
    let (registry, [a, b]) = (&pair.registry, &pair.instances);
    registry.set_down(true);
    registry.set_down(false);
    registry.remove(&service(), a.id());
    let mut watch = registry.watch(&service());
    watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
    // The proxy knows by the time that a later change shows.
    registry.insert(&service(), b.clone().with_metadata("seen", "yes"));
    until(|| pair.listed().iter().any(|instance| instance.metadata().contains_key("seen"))).await;
    assert_eq!(pair.listed().len(), 2);
    warm(&pair.shop, &["a", "b"]).await;
    pair.a.take().unwrap().shutdown().await;
    until(|| pair.listed().len() == 1).await;
}

/// Says HELLO and reads, and never answers.
async fn silent() -> (Instance, tokio::task::JoinHandle<()>) {
    let server = RawServer::bind().await;
    let instance = Instance::new("127.0.0.1", server.address().port());
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = server.listener.accept().await {
            let mut raw = Raw { stream };
            raw.send(&server_hello()).await;
            connections.spawn(async move { while raw.next_within().await.is_some() {} });
        }
    });
    (instance, task)
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_ejected() {
    let registry = Arc::new(Memory::new());
    let (_good, _, good) = unregistered("good").await;
    let (dead, _task) = silent().await;
    for instance in [&good, &dead] {
        registry.insert(&service(), instance.clone());
    }
    let proxy = in_turn(&registry);
    let shop = ShopClient::new(&proxy).with(CallOptions::new().deadline(Duration::from_millis(20)));
    let mut timeouts = 0;
    while timeouts < 5 {
        if let Err(status) = shop.who().await {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
            timeouts += 1;
        }
    }
    for _ in 0..100 {
        assert_eq!(shop.who().await.unwrap(), "good");
    }
}

/// Calls whose deadline no server could hold say nothing about the server: it answers.
#[tokio::test]
async fn an_instance_that_answers_deadline_exceeded_is_not_ejected() {
    let registry = Arc::new(Memory::new());
    let (_good, _, good) = unregistered("good").await;
    let shop = TestShop { name: "hurried".to_owned(), ..TestShop::default() };
    let server = Server::bind("127.0.0.1:0").await.unwrap().layer(Timeout::new(Duration::from_millis(1)));
    let server = server.serve(ShopServer::new(shop)).start().await.unwrap();
    let hurried = Instance::new("127.0.0.1", server.address().port());
    for instance in [&good, &hurried] {
        registry.insert(&service(), instance.clone());
    }
    let shop = ShopClient::new(in_turn(&registry)).with(CallOptions::new().deadline(Duration::from_secs(10)));
    warm(&shop, &["good", "hurried"]).await;
    let hopeless = shop.with(CallOptions::new().instance(hurried.id()));
    for _ in 0..20 {
        let status = hopeless.wait().await.unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::Unknown), "{status}");
        assert!(status.message().contains("took longer than 1ms"), "the server answered: {status}");
    }
    let names = [shop.who().await.unwrap(), shop.who().await.unwrap()];
    assert_ne!(names[0], names[1], "both are called in turn");
}

#[tokio::test]
async fn ejection_keeps_to_its_settings() {
    let registry = Arc::new(Memory::new());
    let (_good, _, good) = unregistered("good").await;
    let (dead, _task) = silent().await;
    for instance in [&good, &dead] {
        registry.insert(&service(), instance.clone());
    }
    let builder = || ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin);
    let hurried = CallOptions::new().deadline(Duration::from_millis(20));
    let touchy = builder().ejection(|ejection| ejection.consecutive_failures = 1).build().unwrap();
    let shop = ShopClient::new(&touchy).with(hurried.clone());
    while shop.who().await.is_ok() {}
    for _ in 0..20 {
        assert_eq!(shop.who().await.unwrap(), "good", "one lost call is enough");
    }
    let wrong = builder().ejection(|ejection| ejection.max_share = 2.0).build().unwrap_err();
    assert_eq!(wrong.to_string(), "`ejection.max_share` is 2.0: use 0.0 to 1.0");
}

#[tokio::test]
async fn a_silent_server_is_noticed() {
    let (dead, _task) = silent().await;
    let shop = ShopClient::new(Client::connect(&dead.address()).await.unwrap());
    let patient = shop.with(CallOptions::new().deadline(Duration::from_secs(60)));
    let start = Instant::now();
    let status = patient.add(1, 2).await.unwrap_err();
    let noticed = start.elapsed();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::Unknown));
    assert!(status.message().contains("it was silent for 3"), "{status}");
    assert!(noticed < Duration::from_millis(3500), "{noticed:?}");
}

#[tokio::test]
async fn a_full_server_refuses_and_says_when_to_come_back() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = Server::bind("127.0.0.1:0")
        .await
        .unwrap()
        .limits(|limits| limits.max_in_flight_total = 2)
        .serve(ShopServer::new(shop));
    let server = server.start().await.unwrap();
    let address = server.address().to_string();
    let clients: Vec<_> = [
        Client::connect(&address).await.unwrap(),
        Client::connect(&address).await.unwrap(),
        Client::connect(&address).await.unwrap(),
    ]
    .into();
    let waiting: Vec<_> = clients[..2]
        .iter()
        .map(|client| {
            let shop = ShopClient::new(client.clone());
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 2).await;

    let refused = ShopClient::new(clients[2].clone()).add(1, 2).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), (Code::Unavailable, Outcome::Refused));
    assert!(refused.message().contains("on this server") && refused.retry_after().is_some(), "{refused:?}");
    let health = HealthClient::new(clients[2].clone());
    assert_eq!(health.service("shop".to_owned()).await.unwrap(), Some(HealthState::Serving));

    probe.go.notify_waiters();
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
    assert_eq!(ShopClient::new(clients[2].clone()).add(1, 2).await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_tells_how_far_it_is_in_its_life() {
    let registry = Arc::new(Memory::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (ready, wait) = tokio::sync::oneshot::channel::<()>();
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = Server::from_listener(TcpListener::from_std(listener).unwrap())
        .unwrap()
        .register_with(registry.clone())
        .ready_when(async { wait.await.unwrap() })
        .serve(ShopServer::new(shop));
    let starting = tokio::spawn(server.start());
    let client = Client::connect(&address).await.unwrap();
    let health = HealthClient::new(client.clone());
    let state = |state| vec![ServiceHealth { name: "shop".to_owned(), state }];
    assert_eq!(health.services().await.unwrap(), state(HealthState::Starting));
    assert!(registry.list(&service()).await.unwrap().is_empty());
    ready.send(()).unwrap();
    let server = starting.await.unwrap().unwrap();
    assert_eq!(health.services().await.unwrap(), state(HealthState::Serving));
    assert_eq!(health.service("other".to_owned()).await.unwrap(), None);
    assert_eq!(registry.list(&service()).await.unwrap().len(), 1);

    // The registry cannot confirm: until then the server serves, and says that it drains.
    registry.set_down(true);
    let call = tokio::spawn({
        let shop = ShopClient::new(client).with(CallOptions::new().deadline(Duration::from_secs(20)));
        async move { shop.wait().await }
    });
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1).await;
    let stopping = tokio::spawn(server.shutdown());
    while health.services().await.unwrap() != state(HealthState::Draining) {
        tokio::task::yield_now().await;
    }
    registry.set_down(false);
    probe.go.notify_waiters();
    assert_eq!(call.await.unwrap().unwrap(), 7);
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_happens_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // This test's runtime has this one thread.
    let _local = metrics::set_default_local_recorder(&recorder);
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let (_b, _) = registered(&registry, "b").await;
    let shop = ShopClient::new(in_turn(&registry));
    warm(&shop, &["a", "b"]).await;
    registry.set_down(true);
    drop(a);
    // The first call on the lost connection may fail.
    while shop.who().await.is_err() {}
    assert_eq!(shop.panic().await.unwrap_err().code(), Code::Internal);

    let counted: std::collections::HashMap<_, _> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| (key.key().name().to_owned(), value))
        .collect();
    let gauge = |name: &str| match counted.get(name) {
        Some(DebugValue::Gauge(value)) => value.into_inner(),
        other => panic!("{name}: {other:?} of {counted:?}"),
    };
    let counter = |name: &str| match counted.get(name) {
        Some(DebugValue::Counter(value)) => *value,
        other => panic!("{name}: {other:?} of {counted:?}"),
    };
    assert_eq!(gauge("ms_rpc_instances"), 2.0);
    assert_eq!(gauge("ms_rpc_snapshot_freshness"), 1.0);
    assert_eq!(counter("ms_rpc_connections_lost_total"), 1);
    assert_eq!(counter("ms_rpc_panics_total"), 1);
    assert!(counter("ms_rpc_dials_total") >= 1);
}

/// A request that comes a byte at a time is given up.
#[tokio::test]
async fn a_client_that_trickles_is_closed() {
    let (server, _, _) = unregistered("a").await;
    let raw = Raw::client(server.address()).await;
    let request = Request::json(1 << 20, "add", 2, "[1,2]").bytes();
    let (mut read, mut write) = raw.stream.into_split();
    let start = Instant::now();
    let trickle = async {
        for byte in request.chunks(1) {
            // The server may have closed it by then.
            let _ = write.write_all(byte).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let mut byte = [0];
    tokio::select! {
        () = trickle => panic!("it was served"),
        ended = read.read(&mut byte) => assert!(ended.is_err() || ended.unwrap() == 0),
    }
    let lasted = start.elapsed();
    assert!((9..15).contains(&lasted.as_secs()), "{lasted:?}");
}
