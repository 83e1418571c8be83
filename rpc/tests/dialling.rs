//! Dialling of instances, in paused time over pipes: pauses between dials, scopes, addresses, subsets of many instances.

#![allow(clippy::unwrap_used)]

mod logs;
mod raw;
mod shop;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use logs::Log;
use ms_register::{Instance, Memory, MsRegister, ServiceName};
use ms_rpc::{Balancer, CallOptions, Client, ClientProxy, Code, Dial, Peer, Target, Transport};
use raw::{hello, server_hello};
use shop::{ShopClient, registered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

/// Server at the other end of a pipe: it says this HELLO and closes.
#[derive(Clone, Debug)]
struct HelloAndClose {
    hello: Vec<u8>,
    /// Addresses that were dialled.
    dials: Arc<Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl Dial for HelloAndClose {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        self.dials.lock().unwrap().push(target.address.to_owned());
        let (near, mut far) = tokio::io::duplex(4096);
        let hello = self.hello.clone();
        tokio::spawn(async move {
            far.write_all(&hello).await.unwrap();
            far.read_u8().await.unwrap();
        });
        Ok((Box::new(near), Peer::new()))
    }
}

impl HelloAndClose {
    fn new(hello: Vec<u8>) -> Self {
        Self { hello, dials: Arc::default() }
    }

    fn dials(&self) -> usize {
        self.dials.lock().unwrap().len()
    }

    fn dials_of(&self, address: &str) -> usize {
        self.dials.lock().unwrap().iter().filter(|dialled| *dialled == address).count()
    }
}

fn listed(instances: impl IntoIterator<Item = Instance>) -> Arc<Memory> {
    let registry = Arc::new(Memory::new());
    instances.into_iter().for_each(|instance| registry.insert(&service(), instance));
    registry
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_hello_and_closes_is_dialled_ever_more_seldom() {
    let dial = HelloAndClose::new(server_hello());
    let proxy = ClientProxy::builder(listed([Instance::new("a", 1)])).dialer(dial.clone()).build().unwrap();
    let shop = ShopClient::new(&proxy).with(CallOptions::new().deadline(Duration::from_millis(100)));
    shop.who().await.unwrap_err();
    sleep(Duration::from_secs(600)).await;
    // Once it is dialled in 5 s on average; every 0.45 s would be 1,300 times.
    assert!((60..250).contains(&dial.dials()), "{} dials", dial.dials());
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_scope_waits_for_the_list_to_change() {
    let (log, _guard) = Log::start(tracing::Level::WARN);
    let mut entries = vec![(3, b"etcd/elsewhere".as_slice())];
    let (frame, in_flight) = ((4u32 << 20).to_be_bytes(), 1024u32.to_be_bytes());
    entries.extend([(4, frame.as_slice()), (5, in_flight.as_slice())]);
    let dial = HelloAndClose::new(hello(&entries));
    let registry = listed([Instance::new("a", 1)]);
    let scope = registry.scope().unwrap().to_owned();
    let proxy = ClientProxy::builder(registry.clone()).dialer(dial.clone()).build().unwrap();
    let shop = ShopClient::new(&proxy).with(CallOptions::new().deadline(Duration::from_secs(5)));
    let error = shop.who().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("etcd/elsewhere") && error.message().contains(&scope), "{error}");
    assert_eq!(dial.dials(), 1, "even while a call waits");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(dial.dials(), 1, "without calls");

    shop.who().await.unwrap_err();
    assert_eq!(dial.dials(), 2, "the longest pause is over");
    registry.insert(&service(), Instance::new("b", 1));
    tokio::task::yield_now().await;
    shop.who().await.unwrap_err();
    assert_eq!(dial.dials(), 4, "both, as the list has changed");
    let warnings = log.lines_with("registered in etcd/elsewhere, not in");
    assert_eq!(warnings.len(), 2, "one for each instance: {warnings:?}");
    assert!(warnings[0].contains(&scope), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_lost_is_one_warning_and_one_line_when_it_is_back() {
    let (log, _guard) = Log::start(tracing::Level::INFO);
    let registry = listed([Instance::new("a", 1)]);
    let proxy = ClientProxy::new(registry.clone());
    let mut watch = registry.watch(&service());
    proxy.instances("shop").unwrap();
    for _ in 0..2 {
        registry.set_down(true);
        watch.wait_for(|snapshot| snapshot.is_failing()).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        registry.set_down(false);
        watch.wait_for(|snapshot| !snapshot.is_failing()).await.unwrap();
        sleep(Duration::from_secs(30)).await;
    }
    let lost = log.lines_with("`shop` is called by the last list");
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost[0].contains("WARN") && lost[0].contains("the registry memory:// is unreadable for"), "{lost:?}");
    let back = log.lines_with("the registry memory:// is back: it lists 1 instances of `shop`");
    assert_eq!(back.len(), 2, "{back:?}");
}

#[tokio::test]
async fn gauges_follow_the_connections_and_tell_servers_apart() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    // A snapshot sets the recorder's gauges back to 0: those that are counted up and down add up over all snapshots.
    let open = Mutex::new(std::collections::HashMap::new());
    let gauge = |name: &str, label: &str| {
        let mut found = f64::NAN;
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let metrics_util::debugging::DebugValue::Gauge(value) = value else { continue };
            let labelled = key.key().labels().next().map(|pair| pair.value().to_owned()).unwrap_or_default();
            if key.key().name() == "ms_rpc_server_connections" {
                *open.lock().unwrap().entry(labelled).or_default() += value.into_inner();
            } else if key.key().name() == name && labelled == label {
                found = value.into_inner();
            }
        }
        if name == "ms_rpc_server_connections" { open.lock().unwrap()[label] } else { found }
    };
    let until = async |name: &str, label: &str, value: f64| {
        let start = std::time::Instant::now();
        while gauge(name, label) != value {
            assert!(start.elapsed() < Duration::from_secs(5), "{name} {label}: {}", gauge(name, label));
            tokio::task::yield_now().await;
        }
    };
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let (b, _) = registered(&registry, "b").await;
    let (a_address, b_address) = (a.address().to_string(), b.address().to_string());
    let shop = ShopClient::new(ClientProxy::new(registry.clone()));
    let mut calls = 0;
    while gauge("ms_rpc_instances_live", "shop") != 2.0 {
        shop.add(1, 2).await.unwrap();
        calls += 1;
        assert!(calls < 10_000, "{} are live", gauge("ms_rpc_instances_live", "shop"));
    }
    until("ms_rpc_server_connections", &a_address, 1.0).await;
    until("ms_rpc_server_connections", &b_address, 1.0).await;
    registry.set_down(true);
    drop(a);
    until("ms_rpc_instances_live", "shop", 1.0).await;
    until("ms_rpc_server_connections", &a_address, 0.0).await;
    assert_eq!(gauge("ms_rpc_server_connections", &b_address), 1.0);
}

/// Dialler that notes what it is asked for, and connects nowhere.
#[derive(Clone, Debug, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl Dial for Noted {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        let zone = target.instance.and_then(|instance| instance.metadata().get("zone").cloned());
        self.0.lock().unwrap().push(format!("{:?} {zone:?} {}", target.service, target.address));
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialler_sees_the_service_and_the_instance() {
    let noted = Noted::default();
    let instance = Instance::new("a", 1).with_id("number one").with_metadata("zone", "eu");
    let proxy = ClientProxy::builder(listed([instance])).dialer(noted.clone()).build().unwrap();
    let short = CallOptions::new().deadline(Duration::from_millis(10));
    ShopClient::new(&proxy).with(short).who().await.unwrap_err();
    Client::builder().dialer(noted.clone()).connect("b:2").await.unwrap_err();
    assert_eq!(*noted.0.lock().unwrap(), ["Some(\"shop\") Some(\"eu\") a:1", "None None b:2"]);
}

#[tokio::test]
async fn credentials_come_from_their_source_at_each_dial() {
    let registry = Arc::new(Memory::new());
    let (server, _) = registered(&registry, "a").await;
    let address = server.address().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let builder = Client::builder().connect_timeout(Duration::from_millis(700)).credentials_with(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 => Ok(b"token".to_vec()),
                1 => Ok(vec![0; 65_536]),
                2 => Err("the issuer is away".into()),
                _ => std::future::pending().await,
            }
        }
    });
    builder.clone().connect(&address).await.unwrap();
    for (reason, code) in [("65536 bytes", 1), ("the issuer is away", 2), ("within 700ms", 3)] {
        let error = builder.clone().connect(&address).await.unwrap_err();
        assert!(error.code() == Code::Unavailable && error.message().contains(reason), "{code}: {error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn settings_out_of_their_range_are_named() {
    let builder = || ClientProxy::builder(Arc::new(Memory::new()));
    let long = || "x".repeat(65_536);
    for (builder, field, reason) in [
        (builder().name(long()), "name", "65536 bytes"),
        (builder().credentials(long()), "credentials", "65536 bytes"),
        (builder().max_frame(1), "max_frame", "use 1024 to"),
        (builder().retry(|retry| retry.attempts = 0), "retry.attempts", "use 1 to 10"),
        (builder().retry(|retry| retry.budget_per_call = f64::NAN), "retry.budget_per_call", "use 0.0 to 1.0"),
        (builder().redial(|redial| redial.first = Duration::from_secs(60)), "redial.first", "use 10ms to 10s"),
        (builder().hold(|hold| hold.expiries = 101), "hold.expiries", "use 0 to 100"),
        (builder().keepalive(|keepalive| keepalive.idle = Duration::ZERO), "keepalive.idle", "use 2s to"),
        (builder().connections_per_instance(0), "discovery.connections_per_instance", "use 1 to 64"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = Client::builder().name(long()).connect("nowhere:1").await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.message().contains("`name` is 65536 bytes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn of_a_long_list_each_client_connects_a_subset() {
    let (log, _guard) = Log::start(tracing::Level::WARN);
    let registry = listed((1..=20).map(|port| Instance::new("a", port)));
    let mut all = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let noted = Noted::default();
        let builder = ClientProxy::builder(registry.clone()).dialer(noted.clone());
        let proxy = builder.discovery(|bounds| bounds.instances_per_service = 3).build().unwrap();
        ShopClient::new(&proxy).with(CallOptions::new().deadline(Duration::from_secs(30))).who().await.unwrap_err();
        let dialled: std::collections::BTreeSet<_> = noted.0.lock().unwrap().drain(..).collect();
        assert_eq!(dialled.len(), 3, "{dialled:?}");
        all.extend(dialled);
    }
    assert!(all.len() > 15, "together they connect nearly all: {all:?}");
    let warnings = log.lines_with("`shop` has 20 instances: this client connects 3 of them");
    assert_eq!(warnings.len(), 40, "one for each client");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_drops_out_of_the_subset_is_not_dialled_again() {
    let dial = HelloAndClose::new(server_hello());
    let registry = listed([Instance::new("a", 1)]);
    let builder = ClientProxy::builder(registry.clone()).dialer(dial.clone()).balancer(Balancer::P2c.near("eu"));
    let proxy = builder.discovery(|bounds| bounds.instances_per_service = 1).build().unwrap();
    let shop = ShopClient::new(&proxy).with(CallOptions::new().deadline(Duration::from_millis(100)));
    shop.who().await.unwrap_err();
    assert!(dial.dials_of("a:1") > 0);
    registry.insert(&service(), Instance::new("b", 1).with_metadata("zone", "eu"));
    while proxy.instances("shop").unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let before = dial.dials_of("a:1");
    shop.who().await.unwrap_err();
    sleep(Duration::from_secs(600)).await;
    assert!(dial.dials_of("b:1") > 50, "the one that takes its place is");
    assert_eq!(dial.dials_of("a:1"), before);
}

#[tokio::test(start_paused = true)]
async fn of_a_long_list_the_instance_of_a_key_is_dialled_on_demand() {
    let registry = listed((1..=20).map(|port| Instance::new("a", port)));
    let dialled = async |key: &str| {
        let noted = Noted::default();
        let builder = ClientProxy::builder(registry.clone()).dialer(noted.clone()).balancer(Balancer::KeyHash);
        let proxy = builder.discovery(|bounds| bounds.instances_per_service = 3).build().unwrap();
        let options = CallOptions::new().key(key).deadline(Duration::from_secs(5));
        ShopClient::new(&proxy).with(options).who().await.unwrap_err();
        let dialled = noted.0.lock().unwrap();
        assert!(dialled.len() > 1, "another one serves if the first cannot be reached");
        dialled[0].clone()
    };
    let first = dialled("one").await;
    assert_eq!(first, dialled("one").await, "whichever client asks");
    assert_ne!(first, dialled("two").await);
}
