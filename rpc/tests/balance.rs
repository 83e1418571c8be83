//! Which instance gets a call, over real connections: exact shares, long calls, keys, zones, versions, refusals.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ms_register::{Instance, Memory, MsRegister, ServiceName};
use ms_rpc::{Balancer, Balancing, CallOptions, ClientProxy, Code, NoInstance, RateLimit, RunningServer, Server};
use serde_json::json;
use shop::{Probe, ShopClient, registered, server_with};

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

/// A proxy with a connection to each of so many instances.
async fn connected(registry: &Arc<Memory>, instances: usize, balancing: impl Into<Balancing>) -> ClientProxy {
    let proxy = ClientProxy::builder(registry.clone()).balancer(balancing).build().unwrap();
    let answers = proxy.broadcast("shop", "who", &json!([])).await.unwrap();
    assert_eq!(answers.iter().filter(|(_, answer)| answer.is_ok()).count(), instances, "{answers:?}");
    proxy
}

async fn asked(shop: &ShopClient, calls: usize) -> HashMap<String, usize> {
    let mut answers = HashMap::new();
    for _ in 0..calls {
        *answers.entry(shop.who().await.unwrap()).or_default() += 1;
    }
    answers
}

async fn several(registry: &Arc<Memory>, names: &[&str]) -> Vec<(RunningServer, Arc<Probe>)> {
    let mut servers = Vec::new();
    for name in names {
        servers.push(registered(registry, name).await);
    }
    servers
}

fn counts<const N: usize>(counts: [(&str, usize); N]) -> HashMap<String, usize> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test]
async fn weights_are_kept_to_the_call() {
    let registry = Arc::new(Memory::new());
    let _a = server_with(&registry, "a", |server| server.weight(3.0)).await;
    let _b = server_with(&registry, "b", |server| server.weight(1.0)).await;
    let shop = ShopClient::new(connected(&registry, 2, Balancer::WeightedRoundRobin).await);
    assert_eq!(asked(&shop, 400).await, counts([("a", 300), ("b", 100)]));
}

#[tokio::test]
async fn a_weight_that_is_set_later_moves_the_shares() {
    let registry = Arc::new(Memory::new());
    let (a, _) = server_with(&registry, "a", |server| server.weight(3.0)).await;
    let _b = registered(&registry, "b").await;
    let shop = ShopClient::new(connected(&registry, 2, Balancer::WeightedRoundRobin).await);
    assert_eq!(asked(&shop, 40).await, counts([("a", 30), ("b", 10)]));
    a.set_weight(1.0).await.unwrap();
    assert!(registry.list(&service()).await.unwrap().iter().all(|instance| instance.weight() == 1.0));
    let even = async { while asked(&shop, 40).await != counts([("a", 20), ("b", 20)]) {} };
    tokio::time::timeout(Duration::from_secs(5), even).await.unwrap();
    for bad in [0.0, -1.0, f64::NAN] {
        let refused = a.set_weight(bad).await.unwrap_err().to_string();
        assert!(refused.contains("give a number above 0"), "{refused}");
    }
    a.update(|instance| instance.with_metadata("zone", "b")).await.unwrap();
    let is_near = |instance: &Instance| instance.metadata().get("zone").is_some_and(|zone| zone == "b");
    assert_eq!(registry.list(&service()).await.unwrap().iter().filter(|instance| is_near(instance)).count(), 1);
}

#[tokio::test]
async fn while_one_instance_holds_a_long_call_the_next_five_go_elsewhere() {
    let registry = Arc::new(Memory::new());
    let servers = several(&registry, &["a", "b", "c"]).await;
    let shop = ShopClient::new(connected(&registry, 3, Balancer::LeastConnections).await);
    for _ in 0..5 {
        let long = tokio::spawn({
            let shop = shop.clone();
            async move { shop.wait().await }
        });
        let busy = async {
            let started = servers.iter().map(|(_, probe)| Box::pin(probe.until(|probe| probe.waiting() == 1)));
            futures_util::future::select_all(started).await.1
        };
        let busy = ["a", "b", "c"][busy.await];
        let next = asked(&shop, 5).await;
        assert!(!next.contains_key(busy), "{busy} is busy: {next:?}");
        servers.iter().for_each(|(_, probe)| probe.go.notify_waiters());
        long.await.unwrap().unwrap();
        // The call is counted down: all are equal again.
        assert!(asked(&shop, 200).await.contains_key(busy));
    }
}

#[tokio::test]
async fn a_key_has_one_instance_whoever_asks() {
    let registry = Arc::new(Memory::new());
    let servers = several(&registry, &["a", "b", "c"]).await;
    let names: HashMap<_, _> =
        servers.iter().zip(["a", "b", "c"]).map(|((server, _), name)| (server.address().to_string(), name)).collect();
    let listed = registry.list(&service()).await.unwrap();
    for balancer in [Balancer::IpHash, Balancer::KeyHash, Balancer::ConsistentHash, Balancer::BoundedHash(125)] {
        // Two clients, as two processes are, or one before and after its restart.
        let clients = [(); 2].map(|()| connected(&registry, 3, balancer));
        let [one, other] = clients.map(|proxy| async { ShopClient::new(proxy.await) });
        let (one, other) = (one.await, other.await);
        for key in 0..50 {
            let key = format!("10.0.0.{key}");
            let options = CallOptions::new().key(&key);
            let owner = one.with(options.clone()).who().await.unwrap();
            assert_eq!(asked(&other.with(options), 3).await, counts([(&owner, 3)]), "{balancer}");
            if matches!(balancer, Balancer::IpHash | Balancer::KeyHash) {
                let index = crc32fast::hash(key.as_bytes()) as usize % 3;
                assert_eq!(owner, names[&listed[index].address()]);
            }
        }
    }
}

#[tokio::test]
async fn an_address_is_that_of_whoever_called_the_caller() {
    #[ms_rpc::service(name = "relay")]
    trait Relay {
        async fn who(&self) -> String;
    }
    struct Forward(ShopClient);
    impl Relay for Forward {
        async fn who(&self) -> String {
            self.0.who().await.unwrap()
        }
    }
    let registry = Arc::new(Memory::new());
    let servers = several(&registry, &["a", "b", "c"]).await;
    let listed = registry.list(&service()).await.unwrap();
    let owner = &listed[crc32fast::hash(b"127.0.0.1") as usize % 3];
    let at = servers.iter().position(|(server, _)| server.address().to_string() == owner.id()).unwrap();
    let shop = ShopClient::new(connected(&registry, 3, Balancer::IpHash).await);
    let relay = Server::bind("127.0.0.1:0").await.unwrap().serve(RelayServer::new(Forward(shop.clone())));
    let relay = relay.start().await.unwrap();
    let caller = RelayClient::new(shop::client(&relay).await);
    for _ in 0..10 {
        assert_eq!(caller.who().await.unwrap(), ["a", "b", "c"][at]);
    }
    assert_eq!(asked(&shop, 9).await, counts([("a", 3), ("b", 3), ("c", 3)]), "without an address in turn");
}

#[tokio::test]
async fn the_own_zone_comes_first_and_the_others_when_it_is_gone() {
    let registry = Arc::new(Memory::new());
    let (a, _) = server_with(&registry, "a", |server| server.metadata("zone", "eu-1")).await;
    let (b, _) = server_with(&registry, "b", |server| server.metadata("zone", "eu-1")).await;
    let _c = server_with(&registry, "c", |server| server.metadata("zone", "us-1")).await;
    let shop = ShopClient::new(connected(&registry, 3, Balancer::RoundRobin.near("eu-1")).await);
    assert_eq!(asked(&shop, 20).await, counts([("a", 10), ("b", 10)]));
    a.shutdown().await;
    assert_eq!(asked(&shop, 10).await, counts([("b", 10)]));
    b.shutdown().await;
    assert_eq!(asked(&shop, 10).await, counts([("c", 10)]));
    let nowhere = ShopClient::new(connected(&registry, 1, Balancer::P2c.near("mars")).await);
    assert_eq!(asked(&nowhere, 10).await, counts([("c", 10)]));
}

#[tokio::test]
async fn only_the_version_that_is_asked_for_is_called() {
    let registry = Arc::new(Memory::new());
    let _a = server_with(&registry, "a", |server| server.metadata("version", "v1")).await;
    let _b = server_with(&registry, "b", |server| server.metadata("version", "v2")).await;
    for balancer in Balancer::ALL {
        let balancing: Balancing = format!("{balancer},version=v2").parse().unwrap();
        let shop = ShopClient::new(connected(&registry, 1, balancing).await);
        assert_eq!(asked(&shop, 10).await, counts([("b", 10)]), "{balancer}");
    }
}

#[tokio::test]
async fn why_there_is_no_instance_is_told_apart() {
    let registry = Arc::new(Memory::new());
    let proxy = |balancing: Balancing| ClientProxy::builder(registry.clone()).balancer(balancing).build().unwrap();
    let error = |balancing: Balancing| async {
        let status = ShopClient::new(proxy(balancing)).who().await.unwrap_err();
        (status.no_instance().unwrap(), status.code(), status.message().to_owned())
    };
    let unknown = error(Balancing::default()).await;
    let message = "no instance of `shop`: the registry memory:// is live and lists none";
    assert_eq!(unknown, (NoInstance::NoneListed, Code::Unavailable, message.to_owned()));

    registry.insert(&service(), Instance::new("127.0.0.1", 1).with_weight(0.0).with_metadata("version", "v1"));
    let message = "all 1 instances of `shop` in memory:// have weight 0";
    let weightless = (NoInstance::AllWeightZero, Code::FailedPrecondition, message.to_owned());
    for balancer in Balancer::ALL {
        assert_eq!(error(balancer.into()).await, weightless, "{balancer}");
    }
    let message = "none of the 1 instances of `shop` in memory:// has version=v2";
    let unselected = (NoInstance::NoneSelected, Code::Unavailable, message.to_owned());
    assert_eq!(error(Balancer::P2c.only("version", "v2")).await, unselected);
}

#[tokio::test]
async fn an_instance_that_refuses_fast_is_not_favoured() {
    let registry = Arc::new(Memory::new());
    let _a = registered(&registry, "a").await;
    let limited = |server: Server| server.limit_method("shop", "find", RateLimit::per_second(1).burst(1));
    let _b = server_with(&registry, "b", limited).await;
    let shop = ShopClient::new(connected(&registry, 2, Balancer::P2c).await);
    let mut refused = 0;
    for id in 0..500 {
        match shop.find(id).await {
            Ok(item) => assert_eq!(item.id, id),
            Err(error) => {
                assert!(error.to_string().contains("rate limit"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused <= 20, "{refused} of 500 calls went where they are refused");
}

#[tokio::test]
async fn a_slow_instance_gets_few_calls_and_one_that_does_not_answer_too() {
    let registry = Arc::new(Memory::new());
    let _a = registered(&registry, "a").await;
    let slow = RateLimit::per_second(2).burst(1).wait_up_to(Duration::from_secs(5));
    let _b = server_with(&registry, "b", |server| server.limit_method("shop", "who", slow)).await;
    let shop = ShopClient::new(connected(&registry, 2, Balancing::default()).await);
    let shop = shop.with(CallOptions::new().deadline(Duration::from_secs(10)));
    let answers = asked(&shop, 500).await;
    assert!(answers["a"] >= 480, "each call of b takes 500 ms: {answers:?}");

    // The fast one keeps a caller waiting until it gives up: then the slow one is the faster.
    let hurried = shop.with(CallOptions::new().deadline(Duration::from_secs(2)));
    assert_eq!(hurried.wait().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(asked(&shop, 2).await, counts([("b", 2)]));
}

#[tokio::test]
async fn many_connections_of_an_instance_count_as_one() {
    let registry = Arc::new(Memory::new());
    let (_a, a) = registered(&registry, "a").await;
    let (_b, b) = registered(&registry, "b").await;
    let builder = ClientProxy::builder(registry.clone()).balancer(Balancer::LeastConnections);
    let shop = ShopClient::new(builder.connections_per_instance(4).build().unwrap());
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    let all = |probe: &Probe| probe.started.load(Ordering::SeqCst);
    // Those that were made before the second one was connected went to the first.
    let started = || all(&a) + all(&b) == 200;
    futures_util::future::select(Box::pin(a.until(|_| started())), Box::pin(b.until(|_| started()))).await;
    let early = all(&a).abs_diff(all(&b));
    let later: Vec<_> = (0..early)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    let even = || all(&a) == all(&b) && all(&a) + all(&b) == 200 + early;
    futures_util::future::select(Box::pin(a.until(|_| even())), Box::pin(b.until(|_| even()))).await;
    a.go.notify_waiters();
    b.go.notify_waiters();
    for call in calls.into_iter().chain(later) {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
}
