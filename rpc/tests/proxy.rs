//! Calls through a registry: found, balanced, retried, and what happens when instances and registries go.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ms_register::{Freshness, Instance, Memory, MsRegister, ServiceName, Static};
use ms_rpc::{Balancer, CallOptions, ClientProxy, Code, Outcome, RateLimit, Server, ServerError};
use shop::{Item, ShopClient, ShopServer, TestShop, registered};

/// In turn, so that a test knows who is asked.
fn proxy(registry: &Arc<Memory>) -> ClientProxy {
    ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin).build().unwrap()
}

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

async fn asked(shop: &ShopClient, calls: usize) -> HashMap<String, usize> {
    let mut answers = HashMap::new();
    for _ in 0..calls {
        *answers.entry(shop.who().await.unwrap()).or_default() += 1;
    }
    answers
}

/// Until every instance has a connection, calls go to those that have.
async fn warm(shop: &ShopClient, instances: usize) {
    let start = Instant::now();
    while asked(shop, 2 * instances).await.len() < instances {
        assert!(start.elapsed() < Duration::from_secs(5), "not all of {instances} instances are called");
    }
}

#[tokio::test]
async fn calls_are_spread_over_the_instances() {
    let registry = Arc::new(Memory::new());
    let (_a, _) = registered(&registry, "a").await;
    let (_b, _) = registered(&registry, "b").await;
    let shop = ShopClient::new(proxy(&registry));
    assert_eq!(shop.find(5).await.unwrap(), Item::of(5));
    warm(&shop, 2).await;
    assert_eq!(asked(&shop, 100).await, HashMap::from([("a".to_owned(), 50), ("b".to_owned(), 50)]));
}

#[tokio::test]
async fn weights_from_the_registry_count() {
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let (_b, _) = registered(&registry, "b").await;
    let shop =
        ShopClient::new(ClientProxy::builder(registry.clone()).balancer(Balancer::WeightedRandom).build().unwrap());
    warm(&shop, 2).await;
    let mut watch = registry.watch(&service());
    registry.insert(&service(), a.registrations()[0].instance().with_weight(0.0));
    watch.changed().await.unwrap();
    let start = Instant::now();
    while asked(&shop, 20).await.contains_key("a") {
        assert!(start.elapsed() < Duration::from_secs(5), "weight 0 is still picked");
    }
    assert_eq!(asked(&shop, 100).await.len(), 1);
}

#[tokio::test]
async fn who_cannot_be_called_is_said_and_why() {
    let registry = Arc::new(Memory::new());
    let shop = ShopClient::new(proxy(&registry));
    let nobody = shop.who().await.unwrap_err();
    assert_eq!((nobody.code(), nobody.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(nobody.message().contains("no instance of `shop`: the registry memory:// is live"), "{nobody}");

    registry.insert(&service(), Instance::new("127.0.0.1", 1).with_weight(0.0));
    let mut watch = registry.watch(&service());
    watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
    let weightless = loop {
        tokio::task::yield_now().await;
        let error = shop.who().await.unwrap_err();
        if error.code() != Code::Unavailable {
            break error;
        }
    };
    assert!(weightless.message().contains("all 1 instances of `shop` in memory:// have weight 0"), "{weightless}");

    let down = Arc::new(Memory::new());
    down.set_down(true);
    let error = ShopClient::new(proxy(&down)).who().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("the registry memory:// is not readable yet ("), "{error}");

    let refused = Arc::new(Static::new(vec![Instance::new("127.0.0.1", 1)]));
    let shop = ShopClient::new(ClientProxy::new(refused)).with(CallOptions::new().deadline(Duration::from_millis(200)));
    let error = shop.who().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(error.message().contains("none of the 1 instances of `shop` is connected: 127.0.0.1:1"), "{error}");
    assert_eq!(proxy(&down).call("a/b", "x", &serde_json::json!([])).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stale_list_goes_on_serving() {
    let registry = Arc::new(Memory::new());
    let (_a, _) = registered(&registry, "a").await;
    let shop = ShopClient::new(proxy(&registry));
    shop.who().await.unwrap();
    registry.set_down(true);
    assert_eq!(registry.watch(&service()).current().freshness(), Freshness::Stale);
    assert_eq!(asked(&shop, 50).await.len(), 1);
}

#[tokio::test]
async fn a_graceful_shutdown_fails_no_call() {
    let registry = Arc::new(Memory::new());
    let (a, probe) = registered(&registry, "a").await;
    let (_b, b_probe) = registered(&registry, "b").await;
    let shop = ShopClient::new(proxy(&registry));
    warm(&shop, 2).await;

    let patient = shop.with(CallOptions::new().deadline(Duration::from_secs(10)));
    // In turn: one call waits on each.
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let shop = patient.clone();
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    b_probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1).await;
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1).await;

    let stopping = tokio::spawn(a.shutdown());
    let busy = tokio::spawn({
        let shop = shop.clone();
        async move {
            let mut last = String::new();
            for _ in 0..500 {
                last = shop.who().await.unwrap();
            }
            last
        }
    });
    assert_eq!(busy.await.unwrap(), "b");
    assert!(!stopping.is_finished(), "it waits for the call in flight");
    probe.go.notify_waiters();
    b_probe.go.notify_waiters();
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
    stopping.await.unwrap();
    assert!(registry.list(&service()).await.unwrap().len() == 1);
}

#[tokio::test]
async fn an_instance_that_dies_fails_over_for_what_may_be_executed_twice() {
    let registry = Arc::new(Memory::new());
    let (a, a_probe) = registered(&registry, "a").await;
    let (_b, b_probe) = registered(&registry, "b").await;
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(10)));
    warm(&shop, 2).await;

    let call = |idempotent: bool| {
        let shop = shop.clone();
        tokio::spawn(async move { if idempotent { shop.wait_idempotent().await } else { shop.wait().await } })
    };
    // One of each kind on each instance.
    let calls: Vec<_> = [false, false, true, true].into_iter().map(|kind| (kind, call(kind))).collect();
    for probe in [&a_probe, &b_probe] {
        probe.until(|probe| probe.started.load(Ordering::SeqCst) == 2).await;
    }
    drop(a);
    b_probe.until(|probe| probe.started.load(Ordering::SeqCst) == 3).await;
    b_probe.go.notify_waiters();
    let mut lost = 0;
    for (idempotent, call) in calls {
        match call.await.unwrap() {
            Ok(value) => assert_eq!(value, 7),
            Err(status) => {
                assert!(!idempotent, "{status}");
                assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::Unknown));
                assert!(status.message().contains("ended before the answer came"), "{status}");
                lost += 1;
            }
        }
    }
    assert_eq!(lost, 1);
    assert_eq!(asked(&shop, 50).await, HashMap::from([("b".to_owned(), 50)]));
}

#[tokio::test]
async fn a_server_of_another_scope_is_never_called() {
    let (registry, other) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    let (stranger, probe) = registered(&other, "stranger").await;
    registry.insert(&service(), Instance::new("127.0.0.1", stranger.address().port()));
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_millis(300)));
    let error = shop.wait().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(error.message().contains("is registered in memory/"), "{error}");
    assert_eq!(probe.started.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_that_comes_back_on_its_port_is_found_again() {
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let address = a.address();
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(10)));
    shop.who().await.unwrap();
    // It vanishes without a word, and the registry cannot tell anybody.
    registry.set_down(true);
    drop(a);
    let call = tokio::spawn({
        let shop = shop.clone();
        async move { shop.find(1).await }
    });
    let again = loop {
        // The old listener closes when its task is gone.
        match Server::bind(&address.to_string()).await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let again = again.serve(ShopServer::new(TestShop::default()));
    let _again = again.start().await.unwrap();
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_thousand_calls_share_one_connection_per_instance() {
    let registry = Arc::new(Memory::new());
    let (_a, probe) = registered(&registry, "a").await;
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(20)));
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1000).await;
    let mut peers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let shop = shop.clone();
        peers.spawn(async move { shop.peer().await.unwrap() });
    }
    let peers: HashSet<_> = peers.join_all().await.into_iter().collect();
    assert_eq!(peers.len(), 1, "{peers:?}");
    probe.go.notify_waiters();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
}

#[tokio::test]
async fn limits_reject_at_once_or_wait() {
    let start = |limit: RateLimit| async move {
        let server = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(TestShop::default()));
        let server = server.limit_method("shop", "who", limit).limit(RateLimit::per_second(1_000_000));
        server.start().await.unwrap()
    };
    let shop = |server: &ms_rpc::RunningServer| {
        let instance = Instance::new("127.0.0.1", server.address().port());
        ShopClient::new(ClientProxy::new(Arc::new(Static::new(vec![instance]))))
    };
    let at_once = start(RateLimit::per_second(10).burst(5)).await;
    let limited = shop(&at_once);
    let mut granted = 0;
    for _ in 0..20 {
        match limited.who().await {
            Ok(_) => granted += 1,
            Err(status) => {
                assert_eq!((status.code(), status.outcome()), (Code::ResourceExhausted, Outcome::Refused));
                assert!(status.message().contains("the rate limit of `shop.who` is reached"), "{status}");
                let after = status.retry_after().unwrap();
                assert!(after <= Duration::from_millis(101), "{after:?}");
            }
        }
    }
    assert!((5..=7).contains(&granted), "{granted} of 20 at 10/s with a burst of 5");
    limited.add(1, 2).await.unwrap();

    let patient = start(RateLimit::per_second(100).burst(1).wait_up_to(Duration::from_secs(1))).await;
    let waiting = shop(&patient);
    let begin = Instant::now();
    for _ in 0..6 {
        waiting.who().await.unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn each_level_of_limits_holds_and_says_which_it_was() {
    let two = RateLimit::per_second(1).burst(2);
    type Limit = fn(Server, RateLimit) -> Server;
    let limited: [(Limit, &str); 3] = [
        (|server, limit| server.limit(limit), "the rate limit of the server"),
        (|server, limit| server.limit_service("shop", limit), "the rate limit of `shop`"),
        (|server, limit| server.limit_method("shop", "who", limit), "the rate limit of `shop.who`"),
    ];
    for (limit, message) in limited {
        let server = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(TestShop::default()));
        let server = limit(server, two).start().await.unwrap();
        let shop = ShopClient::new(shop::client(&server).await);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let shop = shop.clone();
            calls.spawn(async move { shop.who().await });
        }
        let answers = calls.join_all().await;
        let rejected: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!((7..=8).contains(&rejected.len()), "{} of 10 at 1/s with a burst of 2", rejected.len());
        assert!(rejected.iter().all(|status| status.message().starts_with(message)), "{rejected:?}");
    }
}

#[tokio::test]
async fn nested_calls_inherit_the_deadline() {
    #[ms_rpc::service(name = "outer")]
    trait Outer {
        async fn remaining_ms(&self) -> u64;
    }
    struct Relay(ShopClient);
    impl Outer for Relay {
        async fn remaining_ms(&self) -> u64 {
            // Asks for an hour; gets what the caller has left.
            let patient = self.0.with(CallOptions::new().deadline(Duration::from_secs(3600)));
            patient.remaining_ms().await.unwrap_or(u64::MAX)
        }
    }
    let registry = Arc::new(Memory::new());
    let (_inner, _) = registered(&registry, "inner").await;
    let relay = Relay(ShopClient::new(proxy(&registry)));
    let memory: Arc<dyn MsRegister> = registry.clone();
    let outer = Server::bind("127.0.0.1:0").await.unwrap().register_with(memory).serve(OuterServer::new(relay));
    let _outer = outer.start().await.unwrap();
    let outer = OuterClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(5)));
    let remaining = outer.remaining_ms().await.unwrap();
    assert!((1..=5000).contains(&remaining), "{remaining}");
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let server = || async { Server::bind("127.0.0.1:0").await.unwrap() };
    let shop = || ShopServer::new(TestShop::default());
    let taken = server().await;
    let error = Server::bind(&taken.address().to_string()).await.unwrap_err().to_string();
    assert!(error.contains("is another process using the port?"), "{error}");
    let error = |server: Server| async move { server.start().await.unwrap_err() };
    assert!(matches!(error(server().await.serve(shop()).serve(shop())).await, ServerError::Service { .. }));
    assert!(matches!(error(server().await.serve_as("ms.mine", shop())).await, ServerError::Service { .. }));
    assert!(matches!(error(server().await.serve_as("a/b", shop())).await, ServerError::Register(_)));
    let limit = RateLimit::per_second(1);
    for server in [
        server().await.serve(shop()).limit_service("shoe", limit),
        server().await.serve(shop()).limit_method("shop", "find_all", limit),
        server().await.serve(shop()).limit_method("shoe", "find", limit),
    ] {
        assert!(error(server).await.to_string().contains("correct the name"));
    }
    let registry: Arc<dyn MsRegister> = Arc::new(Memory::new());
    for (wrong, word) in [(0.0, "weight is 0"), (f64::NAN, "weight is NaN")] {
        let server = server().await.register_with(registry.clone()).weight(wrong).serve(shop());
        assert!(error(server).await.to_string().contains(word));
    }
    let advertised = server().await.register_with(registry.clone()).advertise("0.0.0.0:9112").serve(shop());
    assert!(error(advertised).await.to_string().contains("peers cannot dial 0.0.0.0"));
    assert!(registry.list(&service()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_instance_that_is_gone_leaves_the_others_their_even_shares() {
    let registry = Arc::new(Memory::new());
    let (_a, _) = registered(&registry, "a").await;
    let (_b, _) = registered(&registry, "b").await;
    // Between them by id, and nobody listens.
    registry.insert(&service(), Instance::new("127.0.0.1", 1).with_id("127.0.0.1:2"));
    registry.insert(&service(), Instance::new("127.0.0.1", 2).with_id("127.0.0.1:9"));
    let shop = ShopClient::new(proxy(&registry));
    warm(&shop, 2).await;
    assert_eq!(asked(&shop, 100).await, HashMap::from([("a".to_owned(), 50), ("b".to_owned(), 50)]));
}

#[tokio::test]
async fn an_instance_that_never_answers_does_not_keep_a_first_call_from_the_others() {
    // Connections are taken, and nothing is ever said on them.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    for balancer in Balancer::ALL {
        let registry = Arc::new(Memory::new());
        let (_a, _) = registered(&registry, "a").await;
        for id in ["0:0", "z:0"] {
            registry.insert(&service(), Instance::new("127.0.0.1", silent).with_id(id));
        }
        let shop = ShopClient::new(ClientProxy::builder(registry.clone()).balancer(balancer).build().unwrap());
        assert_eq!(shop.who().await.unwrap(), "a", "{balancer}");
    }
}

#[tokio::test]
async fn a_call_that_waited_for_its_connection_sends_the_time_that_is_left() {
    let registry = Arc::new(Memory::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    registry.insert(&service(), Instance::new("127.0.0.1", listener.local_addr().unwrap().port()));
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(10)));
    let call = tokio::spawn(async move { shop.remaining_ms().await });
    // The call begins before the 300 ms do.
    tokio::task::yield_now().await;
    // The server takes its time to say HELLO.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let server = Server::from_listener(listener).unwrap().serve(ShopServer::new(TestShop::default()));
    let _server = server.start().await.unwrap();
    let remaining = call.await.unwrap().unwrap();
    assert!(remaining <= 9_700, "{remaining} ms of 10 s are left after 300 ms");
}

#[tokio::test]
async fn one_instance_of_several_can_be_called() {
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let (_b, _) = registered(&registry, "b").await;
    let shop = ShopClient::new(proxy(&registry));
    let only = shop.with(CallOptions::new().instance(a.address().to_string()));
    assert_eq!(asked(&only, 50).await, HashMap::from([("a".to_owned(), 50)]));
    let nobody = shop.with(CallOptions::new().instance("127.0.0.1:1")).who().await.unwrap_err();
    assert_eq!((nobody.code(), nobody.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(nobody.message().contains("no instance \"127.0.0.1:1\" of `shop`"), "{nobody}");
}
