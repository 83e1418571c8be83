//! gregister, and what only gregister can suffer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, MsRegister, RegisterError, ServiceName};
use ms_tests::{Data, Response, Server, request, request_with};
use serde_json::{Value, json};

use ms_register_conformance::{Fixture, ids, service, within};

pub(crate) struct GregisterFixture(Server);

impl GregisterFixture {
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address().parse().unwrap()
    }

    pub(crate) fn freeze(&self) {
        self.0.freeze().unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.0.thaw().unwrap();
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request_with(method, &self.0.address(), target, &body).await.unwrap()
    }

    pub(crate) async fn read(&self, target: &str) -> Value {
        let answer = request("GET", &self.0.address(), target).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

fn body(instance: &Instance, ttl: u64) -> Value {
    json!({
        "host": instance.host(), "port": instance.port(), "weight": instance.weight(),
        "metadata": instance.metadata(), "ttl": ttl,
    })
}

impl Fixture for GregisterFixture {
    const SETTLES: Duration = Duration::from_secs(2);
    const RECOVERS: Duration = Duration::from_secs(6);
    const NOTICES: Duration = Duration::from_secs(5);

    async fn start() -> Self {
        Self(Server::gregister().await.unwrap())
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.0.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let target = format!("/v1/services/{service}/{}", instance.id());
        assert_eq!(self.ask("PUT", &target, &body(instance, 3_600)).await.status, 200);
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        let target = format!("/v1/services/{service}/{}", instance.id());
        assert_eq!(self.ask("DELETE", &target, &Value::Null).await.status, 200);
    }

    async fn down(&mut self) {
        self.0.kill();
    }

    async fn up(&mut self) {
        self.0.start(Data::Kept).await.unwrap();
    }

    async fn up_without_data(&mut self) {
        self.0.start(Data::Wiped).await.unwrap();
    }
}

#[tokio::test]
async fn store_revision_and_instances_outlive_a_kill_and_leases_begin_anew() {
    let mut gregister = GregisterFixture::start().await;
    let goods = service("goods");
    let stranger = Instance::new("10.0.0.1", 80).with_metadata("zone", "b");
    let target = "/v1/services/goods/10.0.0.1:80";
    assert_eq!(gregister.ask("PUT", target, &body(&stranger, 3)).await.status, 200);
    let before = gregister.read("/v1/services/goods").await;

    // It is away for longer than the lease.
    gregister.down().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    gregister.up().await;
    assert_eq!(gregister.read("/v1/services/goods").await, before);
    let registry = gregister.connect().await.unwrap();
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances() == [stranger.clone()]);
    within(GregisterFixture::SETTLES, "the instance", listed).await.unwrap();
    let ended = watch.wait_for(|s| s.instances().is_empty());
    within(Duration::from_secs(5), "the end of its lease", ended).await.unwrap();
    assert!(gregister.read("/v1/services/goods").await["revision"].as_u64() > before["revision"].as_u64());

    gregister.down().await;
    gregister.up_without_data().await;
    let after = gregister.read("/v1/services/goods").await;
    assert_ne!(after["store"], before["store"]);
    assert_eq!(after["revision"], 0);
}

/// The new store has come further than the old one when the watch returns: its revision alone would say nothing.
#[tokio::test]
async fn a_watch_that_meets_another_store_takes_a_full_list() {
    let mut gregister = GregisterFixture::start().await;
    let goods = service("goods");
    let registry = gregister.connect().await.unwrap();
    let mut watch = registry.watch(&goods);
    gregister.write(&goods, &Instance::new("10.0.0.1", 80)).await;
    let first = watch.wait_for(|s| s.instances().len() == 1);
    within(GregisterFixture::SETTLES, "the instance", first).await.unwrap();
    let old = gregister.read("/v1/services/goods").await;

    gregister.down().await;
    gregister.up_without_data().await;
    gregister.write(&goods, &Instance::new("10.0.0.2", 80)).await;
    for port in 1..=5 {
        gregister.write(&service("orders"), &Instance::new("10.0.0.3", port)).await;
    }
    let new = watch.wait_for(|s| ids(s.instances()) == ["10.0.0.2:80"]);
    within(GregisterFixture::RECOVERS, "the other instance", new).await.unwrap();

    let store = old["store"].as_str().unwrap();
    let at_once = gregister.read(&format!("/v1/services/goods?store={store}&revision=6&wait=30")).await;
    assert_eq!(at_once["instances"][0]["id"], "10.0.0.2:80");
    let store = at_once["store"].as_str().unwrap();
    let ahead = gregister.read(&format!("/v1/services/goods?store={store}&revision=1000&wait=30")).await;
    assert_eq!(ahead["instances"], at_once["instances"], "a revision that is yet to come is one of other data");
    let same = gregister.ask("GET", &format!("/v1/services/goods?store={store}&revision=6"), &Value::Null).await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
}

#[tokio::test]
async fn an_instance_that_is_removed_by_hand_is_written_again() {
    let gregister = GregisterFixture::start().await;
    let registry = gregister.connect().await.unwrap();
    let goods = service("goods");
    let instance = Instance::new("10.0.0.1", 80);
    let registration = registry.register(&goods, instance.clone()).await.unwrap();
    let mut watch = registry.watch(&goods);
    let mut sequence = 0;
    for _ in 0..3 {
        let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
        sequence = within(GregisterFixture::SETTLES, "the instance", listed).await.unwrap().sequence();
        gregister.remove(&goods, &instance).await;
    }
    let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
    within(GregisterFixture::SETTLES, "the instance", listed).await.unwrap();
    registration.deregister(GregisterFixture::SETTLES).await.unwrap();
    assert_eq!(gregister.read("/v1/services").await["services"], json!({}), "nothing stays behind");
}

#[tokio::test]
async fn a_frozen_node_is_a_timeout_and_its_pause_ends_no_lease() {
    let gregister = GregisterFixture::start().await;
    let registry = ms_register::connect(&format!("{}?ttl=2&timeout=0.5", gregister.0.url())).await.unwrap();
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(GregisterFixture::SETTLES, "the instance", listed).await.unwrap();
    gregister.0.freeze().unwrap();
    let error = registry.list(&goods).await.unwrap_err();
    assert!(matches!(error, RegisterError::Timeout { .. }), "{error}");
    let refused = ms_register::connect(&format!("{}?timeout=0.5", gregister.0.url())).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains(registry.url()), "{refused}");
    // Longer than the lease, and than it takes the watch to notice.
    let stale = watch.wait_for(|s| s.freshness() == Freshness::Stale);
    within(Duration::from_secs(10), "the pause", stale).await.unwrap();
    gregister.0.thaw().unwrap();
    let back = watch.wait_for(|s| s.freshness() == Freshness::Live);
    let back = within(GregisterFixture::RECOVERS, "the list", back).await.unwrap();
    assert_eq!(back.instances().len(), 1);
    registration.deregister(GregisterFixture::RECOVERS).await.unwrap();
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_words() {
    let gregister = GregisterFixture::start().await;
    for (method, target, body, status, said) in [
        ("PUT", "/v1/services/goods/a", json!({}), 400, "host"),
        ("PUT", "/v1/services/goods/a", json!({"host": "h", "port": 1, "ttl": 0.5}), 400, "ttl: give 1 to 86400"),
        ("PUT", "/v1/services/goods/a", json!({"host": "0.0.0.0", "port": 1}), 400, "cannot dial"),
        ("PUT", "/v1/services/go*ds/a", json!({"host": "h", "port": 1}), 400, "service name"),
        ("PUT", "/v1/services/goods/a", json!({"host": "h".repeat(70_000), "port": 1}), 413, ""),
        ("GET", "/v1/services/goods?revision=x", Value::Null, 400, "revision"),
        ("POST", "/v1/services/goods/a/renew", Value::Null, 404, "no such instance"),
        ("GET", "/v2/services", Value::Null, 404, "not found"),
        ("PUT", "/v1/elections/goods/c", json!({"id": "a"}), 400, "host"),
        ("PUT", "/v1/elections/goods/c", json!({"host": "h", "port": 1}), 400, "id"),
        ("PUT", "/v1/elections/goods/c", json!({"id": "a", "host": "h", "port": 1, "ttl": 0.5}), 400, "ttl: give 1"),
        ("PUT", "/v1/elections/goods/c", json!({"id": "a", "host": "0.0.0.0", "port": 1}), 400, "cannot dial"),
        ("PUT", "/v1/elections/goods/c*", json!({"id": "a", "host": "h", "port": 1}), 400, "candidate: give"),
        ("GET", "/v1/elections/go*ds", Value::Null, 400, "service name"),
        ("GET", "/v1/elections/goods/c?wait=30", Value::Null, 404, "no such candidate"),
        ("GET", "/v1/elections/goods/c?term=x", Value::Null, 400, "term"),
        ("POST", "/v1/elections/goods/c/renew", Value::Null, 404, "no such candidate"),
    ] {
        let answer = gregister.ask(method, target, &body).await;
        assert!(answer.status == status && answer.body.contains(said), "{method} {target}: {answer:?}");
    }
    assert_eq!(gregister.read("/v1/services").await["services"], json!({}));
}
