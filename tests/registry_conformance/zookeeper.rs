//! ZooKeeper, and what only ZooKeeper can suffer.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, MsRegister, RegisterError, RegistrationState, ServiceName};
use ms_tests::{Data, Fault, NodeOptions, NodeProgram, Relay, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zookeeper_client::{Acls, Client, CreateMode, Error};

use ms_register_conformance::{Fixture, Untidy, ids, service, within};

/// How long an owner may take to write its node again while ZooKeeper is up.
const REWRITTEN: Duration = Duration::from_secs(2);

pub(crate) struct ZookeeperFixture {
    server: Server,
    /// A stranger's session, which lasts as long as what is written in it must.
    stranger: Option<Client>,
}

impl ZookeeperFixture {
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address().parse().unwrap()
    }

    pub(crate) fn stranger(&self) -> &Client {
        self.stranger.as_ref().unwrap()
    }

    /// Writes a node the way a stranger would, over one that is there.
    pub(crate) async fn put(&self, path: &str, data: &[u8], mode: CreateMode) {
        let parent = path.rsplit_once('/').unwrap().0;
        // As Curator does: such parents vanish some time after their last child.
        self.stranger().mkdir(parent, &CreateMode::Container.with_acls(Acls::anyone_all())).await.unwrap();
        match self.stranger().create(path, data, &mode.with_acls(Acls::anyone_all())).await {
            Err(Error::NodeExists) => drop(self.stranger().set_data(path, data, None).await.unwrap()),
            created => drop(created.unwrap()),
        }
    }

    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let mut names = self.stranger().list_children(path).await.unwrap();
        names.sort();
        names
    }

    /// By how many sessions each node under this one, itself included, is watched.
    pub(crate) async fn watched(&self, under: &str) -> BTreeMap<String, usize> {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream.write_all(b"wchp").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (mut watched, mut node) = (BTreeMap::new(), String::new());
        for line in text.lines() {
            match line.strip_prefix('\t') {
                Some(_) if node.starts_with(under) => *watched.entry(node.clone()).or_default() += 1,
                Some(_) => {}
                None => line.clone_into(&mut node),
            }
        }
        watched
    }

    async fn introduce_stranger(&mut self) {
        self.stranger = Some(Client::connect(&self.server.address()).await.unwrap());
    }
}

impl Fixture for ZookeeperFixture {
    const SETTLES: Duration = Duration::from_secs(2);
    /// While a session lasts, the pauses between two tries to connect double.
    const RECOVERS: Duration = Duration::from_secs(8);
    const NOTICES: Duration = Duration::from_secs(5);

    async fn start() -> Self {
        let mut fixture = Self { server: Server::zookeeper().await.unwrap(), stranger: None };
        fixture.introduce_stranger().await;
        fixture
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let mut metadata = json!(instance.metadata());
        metadata["weight"] = json!(instance.weight().to_string());
        let data = json!({
            "name": service.as_str(), "id": instance.id(), "address": instance.host(), "port": instance.port(),
            "sslPort": null, "payload": { "@class": "com.example.Payload", "metadata": metadata },
            "registrationTimeUTC": 1, "serviceType": "DYNAMIC", "uriSpec": null, "enabled": true,
        });
        let path = format!("/ms-rpc/{service}/{}", instance.id());
        self.put(&path, data.to_string().as_bytes(), CreateMode::Ephemeral).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        self.stranger().delete(&format!("/ms-rpc/{service}/{}", instance.id()), None).await.unwrap();
    }

    async fn contend(&self, count: usize) {
        while self.names("/ms-rpc@election/goods").await.len() < count {}
    }

    async fn down(&mut self) {
        self.stranger = None;
        self.server.kill();
    }

    async fn up(&mut self) {
        self.server.start(Data::Kept).await.unwrap();
        self.introduce_stranger().await;
    }

    async fn up_without_data(&mut self) {
        self.server.start(Data::Wiped).await.unwrap();
        self.introduce_stranger().await;
    }
}

impl Untidy for ZookeeperFixture {
    async fn write_garbage(&self, service: &ServiceName) {
        self.put(&format!("/ms-rpc/{service}/garbage"), b"not JSON", CreateMode::Persistent).await;
    }
}

#[tokio::test]
async fn the_stored_form_is_the_one_of_curator() {
    let zookeeper = ZookeeperFixture::start().await;
    for (payload, class) in
        [("spring", json!("org.springframework.cloud.zookeeper.discovery.ZookeeperInstance")), ("map", Value::Null)]
    {
        let url = format!("{}/team/rpc?session=5&payload={payload}", zookeeper.url());
        let registry = ms_register::connect(&url).await.unwrap();
        assert_eq!(registry.scope(), Some("zookeeper/team/rpc"));
        assert_eq!(registry.expiry(), Duration::from_secs(5));
        let instance = Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b");
        let registration = registry.register(&service("goods"), instance).await.unwrap();
        let (data, stat) = zookeeper.stranger().get_data("/team/rpc/goods/10.0.0.1:80").await.unwrap();
        let found: Value = serde_json::from_slice(&data).unwrap();
        assert_ne!(stat.ephemeral_owner, 0);
        assert_eq!((&found["address"], &found["port"]), (&json!("10.0.0.1"), &json!(80)));
        assert_eq!(found["payload"]["metadata"], json!({"weight": "2.5", "zone": "b"}));
        assert_eq!((&found["payload"]["@class"], found.get("enabled")), (&class, None));
        registration.deregister(REWRITTEN).await.unwrap();
        assert!(zookeeper.names("/team/rpc/goods").await.is_empty(), "nothing stays behind");
    }
}

#[tokio::test]
async fn what_is_disabled_secret_or_elsewhere_is_not_listed() {
    let zookeeper = ZookeeperFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let enabled = br#"{"address":"10.0.0.1","port":80}"#;
    zookeeper.put("/ms-rpc/goods/a", enabled, CreateMode::Persistent).await;
    zookeeper.put("/ms-rpc/goods/a/b", enabled, CreateMode::Persistent).await;
    zookeeper.put("/ms-rpc-other/goods/c", enabled, CreateMode::Persistent).await;
    let disabled = br#"{"address":"10.0.0.2","port":80,"enabled":false}"#;
    zookeeper.put("/ms-rpc/goods/d", disabled, CreateMode::Persistent).await;
    zookeeper.stranger().auth("digest", b"somebody:else").await.unwrap();
    let secret = CreateMode::Persistent.with_acls(Acls::creator_all());
    zookeeper.stranger().create("/ms-rpc/goods/secret", enabled, &secret).await.unwrap();
    assert_eq!(ids(&registry.list(&service("goods")).await.unwrap()), ["a"]);
    for impossible in [".", ".."] {
        let goods = service("goods");
        let refused = registry.register(&goods, Instance::new("10.0.0.1", 80).with_id(impossible)).await;
        assert!(matches!(refused, Err(RegisterError::InvalidInstance { .. })), "{refused:?}");
        assert!(matches!(ServiceName::new(impossible), Err(RegisterError::InvalidName { .. })));
    }
}

#[tokio::test]
async fn a_deleted_node_and_deleted_parents_are_written_again() {
    let zookeeper = ZookeeperFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    let mut sequence = 0;
    for round in 0..4 {
        let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
        sequence = within(REWRITTEN, "the instance", listed).await.unwrap().sequence();
        let mut writer = zookeeper.stranger().new_multi_writer();
        writer.add_delete("/ms-rpc/goods/10.0.0.1:80", None).unwrap();
        if round % 2 == 1 {
            writer.add_delete("/ms-rpc/goods", None).unwrap();
            writer.add_delete("/ms-rpc", None).unwrap();
        }
        writer.commit().await.unwrap();
    }
    let listed = watch.wait_for(|s| s.sequence() > sequence && s.instances().len() == 1);
    within(REWRITTEN, "the instance", listed).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
    assert!(zookeeper.names("/ms-rpc/goods").await.is_empty(), "nothing stays behind");
}

#[tokio::test]
async fn parents_that_vanish_when_they_are_empty_are_made_again() {
    let zookeeper = ZookeeperFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let (goods, first) = (service("goods"), Instance::new("10.0.0.1", 80));
    zookeeper.write(&goods, &first).await;
    let mut watch = registry.watch(&goods);
    let seen = watch.wait_for(|s| s.instances().len() == 1);
    within(ZookeeperFixture::SETTLES, "the stranger", seen).await.unwrap();
    zookeeper.remove(&goods, &first).await;
    // What the server does to a container in its own time.
    zookeeper.stranger().delete("/ms-rpc/goods", None).await.unwrap();
    let registration = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap();
    let seen = watch.wait_for(|s| ids(s.instances()) == ["10.0.0.2:80"]);
    within(ZookeeperFixture::SETTLES, "the instance", seen).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
}

/// It is made, and gone again before the node is in it: as a server does with one that is empty.
#[tokio::test]
async fn a_parent_that_vanishes_at_once_is_made_again() {
    let zookeeper = ZookeeperFixture::start().await;
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let registry = ms_register::connect(&format!("zookeeper://{}?timeout=8", relay.address())).await.unwrap();
    zookeeper.write(&service("orders"), &Instance::new("10.0.0.9", 80)).await;
    let (stat, made) = zookeeper.stranger().check_and_watch_stat("/ms-rpc/goods").await.unwrap();
    assert!(stat.is_none());
    // The node is asked for when the answer of the parent has arrived: there is time to remove that.
    relay.set(Fault::Delay(Duration::from_millis(200)));
    let registering = tokio::spawn({
        let (registry, goods) = (registry.clone(), service("goods"));
        async move { registry.register(&goods, Instance::new("10.0.0.1", 80)).await }
    });
    within(Duration::from_secs(8), "the parent", made.changed()).await;
    zookeeper.stranger().delete("/ms-rpc/goods", None).await.unwrap();
    let registration = registering.await.unwrap().unwrap();
    assert_eq!(zookeeper.names("/ms-rpc/goods").await, ["10.0.0.1:80"]);
    relay.set(Fault::None);
    registration.deregister(REWRITTEN).await.unwrap();
}

#[tokio::test]
async fn of_two_that_hold_one_id_the_last_is_listed_and_none_fights() {
    let zookeeper = ZookeeperFixture::start().await;
    let (one, other) = (zookeeper.connect().await.unwrap(), zookeeper.connect().await.unwrap());
    let (goods, light) = (service("goods"), Instance::new("10.0.0.1", 80));
    let heavy = light.clone().with_weight(2.0);
    let first = one.register(&goods, light.clone()).await.unwrap();
    let mut watch = other.watch(&goods);
    let seen = watch.wait_for(|s| s.instances() == [light.clone()]);
    within(ZookeeperFixture::SETTLES, "the first", seen).await.unwrap();
    let second = other.register(&goods, heavy.clone()).await.unwrap();
    let seen = watch.wait_for(|s| s.instances() == [heavy.clone()]);
    let sequence = within(ZookeeperFixture::SETTLES, "the second", seen).await.unwrap().sequence();
    // Its end takes nothing that is another's.
    first.deregister(REWRITTEN).await.unwrap();
    assert_eq!(one.list(&goods).await.unwrap(), std::slice::from_ref(&heavy));
    assert_eq!(watch.current().sequence(), sequence, "it was there all the time");
    assert_eq!(*second.state().borrow(), RegistrationState::Listed);
    second.deregister(REWRITTEN).await.unwrap();
    assert!(one.list(&goods).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_frozen_zookeeper_is_a_timeout_and_then_all_is_back() {
    let zookeeper = ZookeeperFixture::start().await;
    let registry = ms_register::connect(&format!("{}?session=4&timeout=1.5", zookeeper.url())).await.unwrap();
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let (_, before) = zookeeper.stranger().get_data("/ms-rpc/goods/10.0.0.1:80").await.unwrap();
    let mut state = registration.state();
    zookeeper.server.freeze().unwrap();
    let error = registry.list(&goods).await.unwrap_err();
    assert!(matches!(error, RegisterError::Timeout { .. }), "{error}");
    let late = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    let refused = ms_register::connect(&format!("{}?timeout=1.5", zookeeper.url())).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains(registry.url()), "{refused}");
    // Longer than the session: it ends.
    within(Duration::from_secs(10), "the loss", state.wait_for(|state| *state == RegistrationState::Lost))
        .await
        .unwrap();
    zookeeper.server.thaw().unwrap();
    within(ZookeeperFixture::RECOVERS, "the registration", state.wait_for(|state| *state == RegistrationState::Listed))
        .await
        .unwrap();
    let mut watch = registry.watch(&goods);
    // The one that came too late is taken back.
    let listed = watch.wait_for(|s| s.freshness() == Freshness::Live && ids(s.instances()) == ["10.0.0.1:80"]);
    within(ZookeeperFixture::RECOVERS, "the instance alone", listed).await.unwrap();
    let stranger = Client::connect(&zookeeper.server.address()).await.unwrap();
    let (_, after) = stranger.get_data("/ms-rpc/goods/10.0.0.1:80").await.unwrap();
    assert_ne!(after.ephemeral_owner, before.ephemeral_owner, "another session holds it");
    registration.deregister(ZookeeperFixture::RECOVERS).await.unwrap();
    assert!(registry.list(&goods).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_given_up_during_a_pause_leaves_nothing_behind() {
    let zookeeper = ZookeeperFixture::start().await;
    // The session outlives the pause: what was asked for meanwhile is done after it.
    let registry = ms_register::connect(&format!("{}?session=20&timeout=1.5", zookeeper.url())).await.unwrap();
    let goods = service("goods");
    let listed = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let kept = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap();
    zookeeper.server.freeze().unwrap();
    let late = registry.register(&goods, Instance::new("10.0.0.3", 80)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    let late = listed.deregister(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(late, RegisterError::Timeout { .. }), "{late}");
    zookeeper.server.thaw().unwrap();
    // It is taken back before its id is free again, and the other one is gone before too.
    let again = ["10.0.0.1", "10.0.0.3"].map(|host| registry.register(&goods, Instance::new(host, 80)));
    for registered in futures_util::future::join_all(again).await {
        registered.unwrap().deregister(ZookeeperFixture::RECOVERS).await.unwrap();
    }
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.2:80"]);
    assert_eq!(*kept.state().borrow(), RegistrationState::Listed);
    registry.close(ZookeeperFixture::RECOVERS).await.unwrap();
    assert!(zookeeper.names("/ms-rpc/goods").await.is_empty());
}

#[tokio::test]
async fn a_frozen_owner_is_forgotten_and_comes_back_under_a_new_session() {
    let zookeeper = ZookeeperFixture::start().await;
    let url = format!("{}?session=4", zookeeper.url());
    let program = NodeProgram::new(env!("CARGO_BIN_EXE_node"), &[]);
    let node = program.start(NodeOptions { registry: Some(url), ..NodeOptions::default() }).await.unwrap();
    let path = format!("/ms-rpc/shop/{}", node.address());
    let (_, before, gone) = zookeeper.stranger().get_and_watch_data(&path).await.unwrap();
    node.freeze().unwrap();
    within(Duration::from_secs(10), "its end", gone.changed()).await;
    let (stat, back) = zookeeper.stranger().check_and_watch_stat(&path).await.unwrap();
    assert!(stat.is_none());
    node.thaw().unwrap();
    within(ZookeeperFixture::RECOVERS, "its return", back.changed()).await;
    let (_, after) = zookeeper.stranger().get_data(&path).await.unwrap();
    assert_ne!(after.ephemeral_owner, before.ephemeral_owner);
}

#[tokio::test]
async fn a_short_outage_keeps_the_session_and_the_node() {
    let zookeeper = ZookeeperFixture::start().await;
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let registry = ms_register::connect(&format!("zookeeper://{}", relay.address())).await.unwrap();
    let (goods, path) = (service("goods"), "/ms-rpc/goods/10.0.0.1:80");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let (_, before) = zookeeper.stranger().get_data(path).await.unwrap();
    let mut watch = registry.watch(&goods);
    let seen = watch.wait_for(|s| s.instances().len() == 1);
    within(ZookeeperFixture::SETTLES, "the instance", seen).await.unwrap();
    relay.set(Fault::Drop);
    within(ZookeeperFixture::NOTICES, "the outage", watch.wait_for(|s| s.freshness() == Freshness::Stale))
        .await
        .unwrap();
    assert_eq!(ids(watch.current().instances()), ["10.0.0.1:80"]);
    // What happens meanwhile is seen afterwards, though no event tells of it.
    let other = Instance::new("10.0.0.2", 80);
    zookeeper.write(&goods, &other).await;
    // Its client tries ever more rarely, and the session is asked for without it: that takes nothing from it.
    let tried = relay.accepted().len() + 6;
    let asked = async {
        while relay.accepted().len() < tried {
            tokio::time::sleep(Duration::from_millis(10)).await
        }
    };
    within(ZookeeperFixture::NOTICES, "six tries", asked).await;
    relay.set(Fault::None);
    let live = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().len() == 2);
    within(ZookeeperFixture::RECOVERS, "the list again", live).await.unwrap();
    let (_, after) = zookeeper.stranger().get_data(path).await.unwrap();
    assert_eq!((after.ephemeral_owner, after.czxid), (before.ephemeral_owner, before.czxid));
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
    registration.deregister(REWRITTEN).await.unwrap();
}

/// ZooKeeper refuses, without a word, who has seen more than it has: if the client did not find out otherwise that its session is
/// gone, these calls would fail, since no session is given up for its age before 5 s.
#[tokio::test]
async fn after_the_loss_of_all_data_the_first_calls_succeed() {
    let mut zookeeper = ZookeeperFixture::start().await;
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let url = format!("zookeeper://{}?session=60&timeout=4", relay.address());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    // Of more than a new ZooKeeper writes for its first sessions.
    for port in 1..20 {
        let registration = registry.register(&goods, Instance::new("10.0.0.1", port)).await.unwrap();
        registration.deregister(ZookeeperFixture::RECOVERS).await.unwrap();
    }
    // It learns of nothing before all is there again.
    relay.set(Fault::BlackHole);
    zookeeper.down().await;
    zookeeper.up_without_data().await;
    zookeeper.write(&goods, &Instance::new("10.0.0.2", 80)).await;
    relay.cut().await;
    let election = registry.election().unwrap();
    let register = registry.register(&goods, Instance::new("10.0.0.3", 80));
    let (listed, registered, master) = tokio::join!(registry.list(&goods), register, election.master(&goods));
    assert!(ids(&listed.unwrap()).contains(&"10.0.0.2:80"));
    let registered = registered.unwrap();
    assert!(matches!(master, Err(RegisterError::NoMaster { .. })), "{master:?}");
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.2:80", "10.0.0.3:80"]);
    registered.deregister(ZookeeperFixture::RECOVERS).await.unwrap();
}

#[tokio::test]
async fn close_ends_the_session() {
    let zookeeper = ZookeeperFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let goods = service("goods");
    // Nobody deregisters it: it ends with the session.
    let session_owned = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let (_, stat, gone) = zookeeper.stranger().get_and_watch_data("/ms-rpc/goods/10.0.0.1:80").await.unwrap();
    let data = br#"{"address":"10.0.0.2","port":80}"#;
    zookeeper.put("/ms-rpc/goods/other", data, CreateMode::Persistent).await;
    registry.close(REWRITTEN).await.unwrap();
    within(REWRITTEN, "its end", gone.changed()).await;
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(zookeeper.names("/ms-rpc/goods").await, ["other"]);
    drop(session_owned);
}

#[tokio::test]
async fn a_dead_server_beside_a_live_one_fails_no_call() {
    let zookeeper = ZookeeperFixture::start().await;
    let mut dead = Server::zookeeper().await.unwrap();
    dead.kill();
    let url = format!("zookeeper://{},{}", dead.address(), zookeeper.server.address());
    let goods = service("goods");
    for port in 1..=10 {
        let registry = ms_register::connect(&url).await.unwrap();
        let mut watch = registry.watch(&goods);
        let registration = registry.register(&goods, Instance::new("10.0.0.1", port)).await.unwrap();
        assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
        let seen = watch.wait_for(|s| s.instances().len() == 1);
        within(ZookeeperFixture::SETTLES, "the instance", seen).await.unwrap();
        registration.deregister(REWRITTEN).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_beside_a_live_one_is_left_for_it() {
    let zookeeper = ZookeeperFixture::start().await;
    let silent = Server::zookeeper().await.unwrap();
    silent.freeze().unwrap();
    let url = format!("zookeeper://{},{}", silent.address(), zookeeper.server.address());
    // Each tries the two in an order of its own.
    for _ in 0..4 {
        let registry = ms_register::connect(&url).await.unwrap();
        assert!(registry.list(&service("goods")).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn with_a_user_others_read_and_do_not_write() {
    let zookeeper = ZookeeperFixture::start().await;
    let url = format!("{}?username=shop&password=secret-1", zookeeper.url());
    let registry = ms_register::connect(&url).await.unwrap();
    assert!(!format!("{registry:?}").contains("secret") && !registry.url().contains("secret"));
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let stranger = zookeeper.connect().await.unwrap();
    assert_eq!(ids(&stranger.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
    let refused = stranger.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap_err();
    assert!(matches!(refused, RegisterError::Rejected { .. }), "{refused}");
    assert!(refused.to_string().contains("may not write below /ms-rpc/goods"), "{refused}");
    // Services of others have room beside it.
    let orders = service("orders");
    let other = format!("{}?username=other&password=secret-2", zookeeper.url());
    for other in [zookeeper.connect().await.unwrap(), ms_register::connect(&other).await.unwrap()] {
        let registration = other.register(&orders, Instance::new("10.0.0.3", 80)).await.unwrap();
        registration.deregister(REWRITTEN).await.unwrap();
    }
    let again = ms_register::connect(&url).await.unwrap();
    let second = again.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap();
    second.deregister(REWRITTEN).await.unwrap();
    registration.deregister(REWRITTEN).await.unwrap();
}
