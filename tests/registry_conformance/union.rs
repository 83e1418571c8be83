//! Several registries as one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ms_register::{Instance, Memory, MsRegister, RegisterError, ServiceName, Union};
use ms_register_conformance::{Fixture, ids, service, within};
use ms_rpc::RunningServer;
use ms_tests::{Data, Load, Server, ShopClient};

use crate::shop;

/// Two registries in this process; strangers write to the second.
pub(crate) struct UnionFixture(Arc<Memory>, Arc<Memory>);

impl Fixture for UnionFixture {
    const SETTLES: Duration = Duration::from_secs(1);
    const RECOVERS: Duration = Duration::from_secs(6);
    const NOTICES: Duration = Duration::from_secs(1);

    async fn start() -> Self {
        let (first, second) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        Self(first, second)
    }

    async fn connect(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Ok(Arc::new(Union::connect(vec![self.0.clone(), self.1.clone()]).await?))
    }

    async fn write(&self, service: &ServiceName, instance: &Instance) {
        self.1.insert(service, instance.clone());
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        self.1.remove(service, instance.id());
    }

    async fn down(&mut self) {
        self.0.set_down(true);
        self.1.set_down(true);
    }

    async fn up(&mut self) {
        self.0.set_down(false);
        self.1.set_down(false);
    }

    async fn up_without_data(&mut self) {
        self.0.wipe();
        self.1.wipe();
        self.up().await;
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_member_that_is_away_takes_nothing_out_of_service() {
    let (mut etcd, mut nacos) = (Server::etcd().await.unwrap(), Server::nacos().await.unwrap());
    nacos.kill();
    let url = format!("union:{}|{}", nacos.url(), etcd.url());
    let registry = within(SOON, "a start with one of them", ms_register::connect(&url)).await.unwrap();
    let nacos_url = format!("{}?namespace=&group=DEFAULT_GROUP", nacos.url());
    assert_eq!(registry.url(), format!("union:{nacos_url}|{}/ms-rpc", etcd.url()));
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    assert_eq!(ids(&registry.list(&goods).await.unwrap()), ["10.0.0.1:80"]);
    let unknown = registry.list(&service("orders")).await.unwrap_err();
    assert!(unknown.is_transient(), "the one that is away may have some: {unknown}");

    nacos.start(Data::Kept).await.unwrap();
    let alone = ms_register::connect(&nacos.url()).await.unwrap();
    let mut watch = alone.watch(&goods);
    within(SOON, "the instance in Nacos", watch.wait_for(|s| s.instances().len() == 1)).await.unwrap();
    etcd.kill();
    let heavier = Instance::new("10.0.0.1", 80).with_weight(3.0);
    registration.update(heavier.clone(), SOON).await.unwrap();
    within(SOON, "the weight in Nacos", watch.wait_for(|s| s.instances() == [heavier.clone()])).await.unwrap();
    etcd.start(Data::Kept).await.unwrap();
    registration.deregister(SOON).await.unwrap();
    for url in [etcd.url(), nacos.url()] {
        let alone = ms_register::connect(&url).await.unwrap();
        assert!(alone.list(&goods).await.unwrap().is_empty(), "{url}");
    }
    for (url, reason) in [("union:memory://", "two registries"), ("union:memory://|x", "no scheme")] {
        let error = ms_register::connect(url).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// The servers of the service, as one program would restart them: the new process, then the end of the old one.
async fn restart(servers: &mut Vec<RunningServer>, url: &str) {
    for _ in 0..servers.len() {
        let registry = ms_register::connect(url).await.unwrap();
        servers.push(shop::listed(&registry).await);
        servers.remove(0).shutdown().await;
    }
}

/// Servers and clients move from one registry to another, one by one and under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_from_one_registry_to_another_fails_no_call() {
    let (etcd, nacos) = (Server::etcd().await.unwrap(), Server::nacos().await.unwrap());
    let (old, new) = (nacos.url(), etcd.url());
    let both = format!("union:{old}|{new}");
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(shop::listed(&ms_register::connect(&old).await.unwrap()).await);
    }
    let connect = |url: String| async move {
        let client = shop::client(&ms_register::connect(&url).await.unwrap());
        // A program takes calls when it is ready.
        client.find(0).await.unwrap();
        client
    };
    let clients: [Arc<Mutex<ShopClient>>; 2] =
        [Arc::new(Mutex::new(connect(old.clone()).await)), Arc::new(Mutex::new(connect(old.clone()).await))];
    let loads = clients.clone().map(|client| {
        Load::start(500, move |number| {
            let client = client.lock().unwrap().clone();
            async move { client.find(number).await.map(|found| u64::from(found.port)) }
        })
    });
    for url in [&both, &new] {
        restart(&mut servers, url).await;
        for client in &clients {
            let next = connect(url.clone()).await;
            *client.lock().unwrap() = next;
        }
    }
    drop(nacos);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for load in loads {
        let tally = load.stop().await.unwrap();
        println!("{} calls, {} failed", tally.calls(), tally.failed().count());
        assert_eq!(tally.failed().count(), 0, "{}", tally.first_failures());
    }
    let left = ms_register::connect(&new).await.unwrap().list(&service("shop")).await.unwrap();
    assert_eq!(left.len(), 3);
}
