//! ZooKeeper in the layout of go-micro-service: the suite but for what speaks of metadata, and what only this layout has.

use std::{sync::Arc, time::Duration};

use ms_register::{Instance, MsRegister, RegisterError, ServiceName};
use ms_register_conformance::{Fixture, Untidy, ids, service, within};
use ms_tests::{Fault, Relay};
use serde_json::{Value, json};
use zookeeper_client::CreateMode;

use crate::zookeeper::ZookeeperFixture;

pub(crate) struct NormalFixture(ZookeeperFixture);

/// What a peer writes of itself.
fn peer(code: &str, host: &str, port: u16) -> Vec<u8> {
    let data = json!({
        "serverip": host, "serverport": port, "username": "", "userpwd": "", "serveruniquecode": code, "weight": 1,
    });
    data.to_string().into_bytes()
}

impl NormalFixture {
    fn url(&self) -> String {
        format!("{}/micro-service?layout=master-normal", self.0.url())
    }

    /// Leads the way a peer does.
    pub(crate) async fn put_master(&self, service: &ServiceName, instance: &Instance) {
        let data = peer(instance.id(), instance.host(), instance.port());
        self.0.put(&format!("/micro-service/{service}/master"), &data, CreateMode::Ephemeral).await;
    }

    pub(crate) async fn remove_master(&self, service: &ServiceName) {
        self.0.stranger().delete(&format!("/micro-service/{service}/master"), None).await.unwrap();
    }

    /// What is written of who leads.
    pub(crate) async fn master(&self, service: &ServiceName) -> Value {
        let (data, _) = self.0.stranger().get_data(&format!("/micro-service/{service}/master")).await.unwrap();
        serde_json::from_slice(&data).unwrap()
    }
}

impl Fixture for NormalFixture {
    const SETTLES: Duration = ZookeeperFixture::SETTLES;
    const RECOVERS: Duration = ZookeeperFixture::RECOVERS;
    const NOTICES: Duration = ZookeeperFixture::NOTICES;

    async fn start() -> Self {
        Self(ZookeeperFixture::start().await)
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        ms_register::connect(&self.url()).await
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        let path = format!("/micro-service/{service}/normal");
        let data = peer(instance.id(), instance.host(), instance.port());
        self.0.put(&path, &data, CreateMode::EphemeralSequential).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        let directory = format!("/micro-service/{service}");
        for name in self.0.names(&directory).await {
            let path = format!("{directory}/{name}");
            let (data, _) = self.0.stranger().get_data(&path).await.unwrap();
            let found: Value = serde_json::from_slice(&data).unwrap_or_default();
            if found["serveruniquecode"] == json!(instance.id()) {
                self.0.stranger().delete(&path, None).await.unwrap();
            }
        }
    }

    /// Each watches the one node, the master too.
    async fn contend(&self, count: usize) {
        while self.0.watched("/micro-service/goods").await.values().sum::<usize>() < count {}
    }

    async fn down(&mut self) {
        self.0.down().await;
    }

    async fn up(&mut self) {
        self.0.up().await;
    }

    async fn up_without_data(&mut self) {
        self.0.up_without_data().await;
    }
}

impl Untidy for NormalFixture {
    async fn write_garbage(&self, service: &ServiceName) {
        self.0.put(&format!("/micro-service/{service}/normal0000009999"), b"not JSON", CreateMode::Persistent).await;
    }
}

#[tokio::test]
async fn normals_are_written_and_listed_and_masters_are_not() {
    let zookeeper = NormalFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    assert_eq!(registry.scope(), Some("zookeeper/micro-service"));
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    let registration = registry.register(&goods, Instance::new("127.0.0.1", 50000).with_id("uc")).await.unwrap();
    let names = zookeeper.0.names("/micro-service/goods").await;
    assert_eq!(names, ["normal0000000000"]);
    let (data, stat) = zookeeper.0.stranger().get_data("/micro-service/goods/normal0000000000").await.unwrap();
    let found: Value = serde_json::from_slice(&data).unwrap();
    assert_ne!(stat.ephemeral_owner, 0);
    assert_eq!(
        found,
        json!({"serverip": "127.0.0.1", "serverport": 50000, "username": "", "userpwd": "", "serveruniquecode": "uc",
               "weight": 1})
    );

    zookeeper.0.put("/micro-service/goods/master", &peer("m", "10.0.0.9", 9), CreateMode::Ephemeral).await;
    let stranger = Instance::new("10.0.0.2", 80).with_id("other");
    zookeeper.write(&goods, &stranger).await;
    let both = watch.wait_for(|s| ids(s.instances()) == ["other", "uc"]);
    within(NormalFixture::SETTLES, "both normals", both).await.unwrap();
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["other", "uc"]);
    zookeeper.remove(&goods, &stranger).await;
    let one = watch.wait_for(|s| ids(s.instances()) == ["uc"]);
    within(NormalFixture::SETTLES, "the end of the stranger", one).await.unwrap();
    registration.deregister(NormalFixture::SETTLES).await.unwrap();
    assert_eq!(zookeeper.0.names("/micro-service/goods").await, ["master"], "which is not ours");
}

/// A server of go-micro-service that stands alone is `master`, and no `normal`.
#[tokio::test]
async fn a_lone_master_is_found() {
    let zookeeper = NormalFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    zookeeper.0.put("/micro-service/goods/master", &peer("m", "10.0.0.9", 9), CreateMode::Ephemeral).await;
    let master = watch.wait_for(|s| ids(s.instances()) == ["m"]);
    within(NormalFixture::SETTLES, "the master", master).await.unwrap();
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["m"]);
    let normal = Instance::new("10.0.0.2", 80).with_id("n");
    zookeeper.write(&goods, &normal).await;
    let normals = watch.wait_for(|s| ids(s.instances()) == ["n"]);
    within(NormalFixture::SETTLES, "the normal", normals).await.unwrap();
    // It is promoted, or ends.
    zookeeper.remove(&goods, &normal).await;
    let master = watch.wait_for(|s| ids(s.instances()) == ["m"]);
    within(NormalFixture::SETTLES, "the master again", master).await.unwrap();
}

#[tokio::test]
async fn what_the_layout_cannot_hold_is_refused() {
    let zookeeper = NormalFixture::start().await;
    let registry = zookeeper.connect().await.unwrap();
    let good = Instance::new("10.0.0.1", 80);
    for bad in [good.clone().with_metadata("zone", "b"), good.with_weight(2.5)] {
        let refused = registry.register(&service("goods"), bad).await;
        assert!(matches!(refused, Err(RegisterError::InvalidInstance { .. })), "{refused:?}");
    }
}

/// The server has written the node and its answer is lost with the connection: written again, it would be there twice.
#[tokio::test]
async fn after_a_lost_answer_the_own_node_is_found() {
    let zookeeper = NormalFixture::start().await;
    let relay = Relay::to(zookeeper.0.address()).await.unwrap();
    let url = format!("zookeeper://{}/micro-service?layout=master-normal&session=5", relay.address());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    // The parents are there, so that one request makes the node.
    registry
        .register(&goods, Instance::new("10.0.0.1", 1))
        .await
        .unwrap()
        .deregister(NormalFixture::SETTLES)
        .await
        .unwrap();
    relay.set(Fault::Mute);
    let instance = Instance::new("10.0.0.1", 80);
    let registering = tokio::spawn({
        let (registry, goods) = (registry.clone(), goods.clone());
        async move { registry.register(&goods, instance).await }
    });
    let directory = "/micro-service/goods";
    within(NormalFixture::SETTLES, "the node", async {
        loop {
            let (names, change) = zookeeper.0.stranger().list_and_watch_children(directory).await.unwrap();
            if !names.is_empty() {
                return;
            }
            change.changed().await;
        }
    })
    .await;
    relay.cut().await;
    let registration = registering.await.unwrap().unwrap();
    assert_eq!(zookeeper.0.names(directory).await.len(), 1, "it is there once");
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
    registration.deregister(NormalFixture::RECOVERS).await.unwrap();
    assert!(zookeeper.0.names(directory).await.is_empty());
}
