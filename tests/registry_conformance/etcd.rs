//! etcd, and what only etcd can suffer.

use std::{sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, MsRegister, RegisterError, ServiceName};
use ms_tests::{Data, Server};
use serde_json::{Value, json};

use ms_register_conformance::{Fixture, Untidy, ids, service, within};

/// How long an owner may take to write its key again while etcd is up.
const REWRITTEN: Duration = Duration::from_secs(2);

pub(crate) struct EtcdFixture(Server);

impl EtcdFixture {
    pub(crate) async fn etcdctl(&self, arguments: &[&str]) -> String {
        self.0.etcdctl(arguments).await.unwrap()
    }
}

impl EtcdFixture {
    /// How many campaign for `goods`.
    pub(crate) async fn candidates(&self) -> usize {
        self.etcdctl(&["get", "--prefix", "ms-rpc/@election/goods/", "--keys-only"]).await.split_whitespace().count()
    }

    /// How often it was asked to read.
    pub(crate) async fn reads(&self) -> u64 {
        let metrics = ms_tests::request("GET", &self.0.address(), "/metrics").await.unwrap().body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("grpc_server_started_total") && line.contains("grpc_method=\"Range\""));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Fixture for EtcdFixture {
    const SETTLES: Duration = Duration::from_secs(2);
    const RECOVERS: Duration = Duration::from_secs(5);
    const NOTICES: Duration = Duration::from_secs(5);

    async fn start() -> Self {
        Self(Server::etcd().await.unwrap())
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.0.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let mut metadata = json!(instance.metadata());
        metadata["weight"] = json!(instance.weight());
        let value = json!({ "Op": 0, "Addr": instance.address(), "Metadata": metadata }).to_string();
        self.etcdctl(&["put", &format!("ms-rpc/{service}/{}", instance.id()), &value]).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        self.etcdctl(&["del", &format!("ms-rpc/{service}/{}", instance.id())]).await;
    }

    async fn contend(&self, count: usize) {
        while self.candidates().await < count {}
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

impl Untidy for EtcdFixture {
    async fn write_garbage(&self, service: &ServiceName) {
        self.etcdctl(&["put", &format!("ms-rpc/{service}/garbage"), "not JSON"]).await;
    }
}

#[tokio::test]
async fn the_stored_form_is_the_one_of_the_naming_package() {
    let etcd = EtcdFixture::start().await;
    let registry = ms_register::connect(&format!("{}/team/rpc?ttl=5", etcd.0.url())).await.unwrap();
    assert_eq!(registry.scope(), Some("etcd/team/rpc"));
    let instance = Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b");
    let registration = registry.register(&service("goods"), instance).await.unwrap();
    let found: Value =
        serde_json::from_str(&etcd.etcdctl(&["get", "team/rpc/goods/10.0.0.1:80", "--print-value-only"]).await)
            .unwrap();
    assert_eq!(found, json!({"Op": 0, "Addr": "10.0.0.1:80", "Metadata": {"weight": 2.5, "zone": "b"}}));

    registration.deregister(REWRITTEN).await.unwrap();
    assert_eq!(etcd.etcdctl(&["get", "", "--from-key"]).await, "", "nothing stays behind");
    assert!(etcd.etcdctl(&["lease", "list"]).await.contains("found 0 leases"));
}

#[tokio::test]
async fn a_delete_marker_and_other_prefixes_are_not_instances() {
    let etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    etcd.etcdctl(&["put", "ms-rpc/goods/a", r#"{"Op":1,"Addr":"10.0.0.1:80"}"#]).await;
    etcd.etcdctl(&["put", "ms-rpc/goods/b", r#"{"Op":0,"Addr":"10.0.0.2:80","Metadata":null}"#]).await;
    etcd.etcdctl(&["put", "ms-rpc-other/goods/c", r#"{"Op":0,"Addr":"10.0.0.3:80"}"#]).await;
    assert_eq!(ids(&registry.list(&service("goods")).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn a_revoked_lease_and_a_deleted_key_are_written_again() {
    let etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let mut sequence = 0;
    for round in 0..4 {
        let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
        sequence = within(REWRITTEN, "the instance", listed).await.unwrap().sequence();
        if round % 2 == 0 {
            let leases = etcd.etcdctl(&["lease", "list"]).await;
            etcd.etcdctl(&["lease", "revoke", leases.lines().last().unwrap()]).await;
        } else {
            etcd.etcdctl(&["del", "ms-rpc/goods/10.0.0.1:80"]).await;
        }
    }
    let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
    within(REWRITTEN, "the instance", listed).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
    assert_eq!(etcd.etcdctl(&["get", "", "--from-key"]).await, "", "nothing stays behind");
}

#[tokio::test]
async fn a_watch_survives_compaction_and_the_loss_of_all_data() {
    let mut etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    let goods = service("goods");
    let instances: Vec<_> = (1..=20).map(|port| Instance::new("10.0.0.1", port)).collect();
    let mut watch = registry.watch(&goods);
    for instance in &instances {
        etcd.write(&goods, instance).await;
    }
    let all = watch.wait_for(|s| s.instances().len() == instances.len());
    within(EtcdFixture::SETTLES, "all instances", all).await.unwrap();

    // The new etcd starts at revision 1: a watch that went on from the old revision would hear nothing for long.
    etcd.down().await;
    etcd.up_without_data().await;
    let empty = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().is_empty());
    within(EtcdFixture::RECOVERS, "the empty list", empty).await.unwrap();
    etcd.write(&goods, &instances[0]).await;
    etcd.etcdctl(&["compact", "2"]).await;
    etcd.write(&goods, &instances[1]).await;
    let two = watch.wait_for(|s| s.instances().len() == 2);
    within(EtcdFixture::SETTLES, "the new instances", two).await.unwrap();
}

#[tokio::test]
async fn a_frozen_etcd_is_a_timeout_and_then_all_is_back() {
    let etcd = EtcdFixture::start().await;
    let registry = ms_register::connect(&format!("{}?ttl=2&timeout=0.5", etcd.0.url())).await.unwrap();
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    etcd.0.freeze().unwrap();
    let error = registry.list(&goods).await.unwrap_err();
    assert!(matches!(error, RegisterError::Timeout { .. }), "{error}");
    let refused = ms_register::connect(&format!("{}?timeout=0.5", etcd.0.url())).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains(registry.url()), "{refused}");
    // The pause itself: longer than the lease, so etcd may end it as soon as it runs again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    etcd.0.thaw().unwrap();
    let mut watch = registry.watch(&goods);
    let listed = watch.wait_for(|s| s.instances().len() == 1);
    within(EtcdFixture::RECOVERS, "the instance", listed).await.unwrap();
    registration.deregister(EtcdFixture::RECOVERS).await.unwrap();
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

/// etcd answers a client that pings more often than it allows by closing the connection, at the latest after 12 s here.
#[tokio::test]
async fn an_idle_watch_is_left_alone() {
    let etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    let mut watch = registry.watch(&service("goods"));
    within(EtcdFixture::SETTLES, "the first read", watch.changed()).await.unwrap();
    let disturbed = tokio::time::timeout(Duration::from_secs(14), watch.changed()).await;
    assert!(disturbed.is_err(), "{disturbed:?}");
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_live_one_fails_no_call() {
    let etcd = EtcdFixture::start().await;
    let mut dead = Server::etcd().await.unwrap();
    dead.kill();
    let url = format!("etcd://{},{}", dead.address(), etcd.0.address());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    for port in 1..=10 {
        let registration = registry.register(&goods, Instance::new("10.0.0.1", port)).await.unwrap();
        assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
        let seen = watch.wait_for(|s| s.instances().len() == 1);
        within(EtcdFixture::SETTLES, "the instance", seen).await.unwrap();
        registration.deregister(REWRITTEN).await.unwrap();
    }
}

#[tokio::test]
async fn credentials_are_used_and_never_shown() {
    let etcd = EtcdFixture::start().await;
    etcd.etcdctl(&["user", "add", "root:secret-1"]).await;
    etcd.etcdctl(&["user", "grant-role", "root", "root"]).await;
    etcd.etcdctl(&["auth", "enable"]).await;
    for parameters in ["", "?username=root&password=secret-2"] {
        let refused = ms_register::connect(&format!("{}{parameters}", etcd.0.url())).await.unwrap_err();
        assert!(matches!(refused, RegisterError::Rejected { .. }), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    let url = format!("{}?username=root&password=secret-1", etcd.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    assert!(!format!("{registry:?}").contains("secret") && !registry.url().contains("secret"));
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let seen = watch.wait_for(|s| s.instances().len() == 1);
    within(EtcdFixture::SETTLES, "the instance", seen).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
}
