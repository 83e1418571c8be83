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

/// Go programs write keys such as `/services/goods/1`.
#[tokio::test]
async fn keys_that_begin_with_a_slash_are_read_and_written() {
    let etcd = EtcdFixture::start().await;
    let registry = ms_register::connect(&format!("{}//services", etcd.0.url())).await.unwrap();
    assert_eq!(registry.scope(), Some("etcd//services"));
    let goods = service("goods");
    etcd.etcdctl(&["put", "/services/goods/1", r#"{"Addr":"10.0.0.9:80"}"#]).await;
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["1"]);
    let _registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let keys = etcd.etcdctl(&["get", "--prefix", "/services/goods/", "--keys-only"]).await;
    assert_eq!(keys.split_whitespace().collect::<Vec<_>>(), ["/services/goods/1", "/services/goods/10.0.0.1:80"]);
    assert_eq!(registry.services().await.unwrap(), [goods]);
}

async fn with_user(etcd: &EtcdFixture) -> String {
    etcd.etcdctl(&["user", "add", "root:secret-1"]).await;
    etcd.etcdctl(&["user", "grant-role", "root", "root"]).await;
    etcd.etcdctl(&["auth", "enable"]).await;
    "?username=root&password=secret-1".to_owned()
}

/// One endpoint refuses, one accepts and says nothing, one serves: logging in is one of the requests that move on.
#[tokio::test]
async fn of_several_endpoints_one_that_serves_is_enough() {
    let etcd = EtcdFixture::start().await;
    let user = with_user(&etcd).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent, dead) = (silent.local_addr().unwrap(), {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        dead.local_addr().unwrap()
    });
    let url = format!("etcd://{dead},{silent},{}{user}", etcd.0.address());
    let goods = service("goods");
    for _ in 0..20 {
        let registry = within(Duration::from_secs(3), "a start", ms_register::connect(&url)).await.unwrap();
        // It stays with the endpoint that serves.
        let begin = std::time::Instant::now();
        registry.list(&goods).await.unwrap();
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    }
}

/// Its kernel accepts connections, and nobody answers.
#[tokio::test]
async fn an_endpoint_that_freezes_is_left_for_another() {
    let (etcd, frozen) = (EtcdFixture::start().await, Server::etcd().await.unwrap());
    // Both are asked for the same, and have it not: the frozen one is known by the other's answer.
    let registry = ms_register::connect(&format!("etcd://{},{}", frozen.address(), etcd.0.address())).await.unwrap();
    frozen.freeze().unwrap();
    let goods = service("goods");
    for _ in 0..20 {
        registry.list(&goods).await.unwrap();
    }
    frozen.thaw().unwrap();
}

/// Users and roles change while programs run: what they were given before is too old from then on.
#[tokio::test]
async fn a_change_of_users_fails_no_request() {
    let etcd = EtcdFixture::start().await;
    let user = with_user(&etcd).await;
    let registry = ms_register::connect(&format!("{}{user}", etcd.0.url())).await.unwrap();
    let goods = service("goods");
    for name in ["a", "b", "c"] {
        let root = "--user=root:secret-1";
        etcd.etcdctl(&[root, "user", "add", &format!("{name}:pw")]).await;
        etcd.etcdctl(&[root, "role", "add", name]).await;
        let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
        assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
        registration.deregister(REWRITTEN).await.unwrap();
    }
}

/// `etcdctl put` takes a key out of its lease: it would outlive the server.
#[tokio::test]
async fn a_key_without_a_lease_is_written_again_and_removed_at_the_end() {
    let etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    let (goods, instance) = (service("goods"), Instance::new("10.0.0.1", 80));
    let registration = registry.register(&goods, instance.clone()).await.unwrap();
    etcd.write(&goods, &instance.clone().with_weight(9.0)).await;
    let mut watch = registry.watch(&goods);
    let own = watch.wait_for(|s| s.instances() == [instance.clone()]);
    within(REWRITTEN, "its own value", own).await.unwrap();
    let found = etcd.etcdctl(&["get", "ms-rpc/goods/10.0.0.1:80", "-w", "json"]).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert!(found["kvs"][0]["lease"].as_i64().is_some_and(|lease| lease != 0), "{found}");

    // Right before the end there is hardly time to write it again.
    etcd.write(&goods, &instance).await;
    registration.deregister(REWRITTEN).await.unwrap();
    assert!(etcd.etcdctl(&["get", "--prefix", "ms-rpc/goods/"]).await.is_empty());
}

/// An answer of etcd above 4 MiB is refused by the client unless it is told otherwise.
#[tokio::test]
async fn lists_above_four_mebibytes_are_read() {
    let etcd = EtcdFixture::start().await;
    let registry = etcd.connect().await.unwrap();
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    let mut registrations = Vec::new();
    for port in 1..=80 {
        let large = Instance::new("10.0.0.1", port).with_metadata("note", "x".repeat(64 << 10));
        registrations.push(registry.register(&goods, large).await.unwrap());
    }
    assert_eq!(registry.list(&goods).await.unwrap().len(), 80);
    let all = watch.wait_for(|s| s.instances().len() == 80);
    within(EtcdFixture::SETTLES, "all of them", all).await.unwrap();
    let late = etcd.connect().await.unwrap();
    let mut watch = late.watch(&goods);
    let all = watch.wait_for(|s| s.instances().len() == 80);
    within(EtcdFixture::SETTLES, "all of them in one read", all).await.unwrap();
    registry.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn rights_for_one_service_suffice_for_it() {
    let etcd = EtcdFixture::start().await;
    etcd.etcdctl(&["role", "add", "goods"]).await;
    for prefix in ["ms-rpc/goods/", "ms-rpc/@election/goods/"] {
        etcd.etcdctl(&["role", "grant-permission", "goods", "readwrite", "--prefix=true", prefix]).await;
    }
    etcd.etcdctl(&["user", "add", "goods:secret-2"]).await;
    etcd.etcdctl(&["user", "grant-role", "goods", "goods"]).await;
    with_user(&etcd).await;
    let url = format!("{}?username=goods&password=secret-2", etcd.0.url());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let seen = watch.wait_for(|s| s.instances().len() == 1);
    within(EtcdFixture::SETTLES, "the instance", seen).await.unwrap();
    let election = registry.election().unwrap();
    let leader = election.campaign(&goods, Instance::new("10.0.0.1", 80), EtcdFixture::RECOVERS).await.unwrap();
    leader.resign(REWRITTEN).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
    let refused = registry.register(&service("orders"), Instance::new("10.0.0.1", 80)).await.unwrap_err();
    assert!(matches!(refused, RegisterError::Rejected { .. }), "{refused}");
}

#[tokio::test]
async fn the_layout_of_msgo_is_one_address_under_the_name() {
    let etcd = EtcdFixture::start().await;
    let registry = ms_register::connect(&format!("{}?layout=msgo", etcd.0.url())).await.unwrap();
    let goods = service("goods");
    // As msgo's servers write: without a lease.
    etcd.etcdctl(&["put", "goods", "10.0.0.1:80"]).await;
    etcd.etcdctl(&["put", "goods2", "10.0.0.2:80"]).await;
    etcd.etcdctl(&["put", "broken", "nowhere"]).await;
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
    assert!(registry.list(&service("broken")).await.unwrap().is_empty());
    assert!(matches!(registry.services().await, Err(RegisterError::Unsupported { .. })));
    assert!(matches!(registry.election(), Err(RegisterError::Unsupported { .. })));

    let own = Instance::new("10.0.0.3", 80);
    let refused = registry.register(&goods, own.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("`goods` is at 10.0.0.1:80 already"), "{refused}");
    assert_eq!(etcd.etcdctl(&["get", "goods", "--print-value-only"]).await.trim(), "10.0.0.1:80");

    let mut watch = registry.watch(&goods);
    etcd.etcdctl(&["del", "goods"]).await;
    within(REWRITTEN, "an empty list", watch.wait_for(|s| s.sequence() > 0 && s.instances().is_empty())).await.unwrap();
    let registration = registry.register(&goods, own).await.unwrap();
    within(REWRITTEN, "the instance", watch.wait_for(|s| !s.instances().is_empty())).await.unwrap();
    let stored: Value = serde_json::from_str(&etcd.etcdctl(&["get", "goods", "-w", "json"]).await).unwrap();
    assert!(stored["kvs"][0]["lease"].as_i64().is_some_and(|lease| lease != 0), "{stored}");
    registration.deregister(REWRITTEN).await.unwrap();
    within(REWRITTEN, "an empty list", watch.wait_for(|s| s.instances().is_empty())).await.unwrap();
}
