//! Entries as other programs leave them, and servers with more or fewer of everything.

use std::time::Duration;

use ms_register::{Freshness, Instance};
use ms_register_conformance::{Fixture, Warnings, ids, service, within};
use ms_tests::Server;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::{etcd::EtcdFixture, zookeeper::ZookeeperFixture};

const SOON: Duration = Duration::from_secs(10);

/// Entries under `<service>/<name>` that were seen, with other names and addresses, and the ids of those that can be called.
const IN_ETCD: &[(&str, &str)] = &[
    // etcd's naming package, by hand and by Go programs.
    ("10.0.0.1:80", r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":"v1"}"#),
    ("10.0.0.2:80", r#"{"Addr":"10.0.0.2:80"}"#),
    ("7587851", r#"{"Op":0,"Addr":"[fd00::3]:80","Metadata":{"weight":10,"zone":"b"}}"#),
    // Listeners instead of addresses.
    ("all", r#"{"Op":0,"Addr":"0.0.0.0:9112","Metadata":null}"#),
    ("all-6", r#"{"Op":0,"Addr":"[::]:9112","Metadata":null}"#),
    ("port", r#"{"Op":0,"Addr":":9112","Metadata":null}"#),
    // Other forms altogether.
    ("bare", "10.0.0.4:80"),
    ("query", "weight=1&state=active"),
    ("url", "tcp@10.0.0.5:80"),
    ("kratos", r#"{"id":"a","name":"goods","version":"","metadata":null,"endpoints":["grpc://10.0.0.6:80"]}"#),
    ("empty", ""),
];

#[tokio::test]
async fn entries_of_others_in_etcd() {
    let etcd = EtcdFixture::start().await;
    let warnings = Warnings::capture();
    for (name, value) in IN_ETCD {
        etcd.etcdctl(&["put", "--", &format!("ms-rpc/goods/{name}"), value]).await;
    }
    let registry = etcd.connect().await.unwrap();
    let found = registry.list(&service("goods")).await.unwrap();
    assert_eq!(ids(&found), ["10.0.0.1:80", "10.0.0.2:80", "7587851"]);
    assert_eq!((found[2].host(), found[2].weight()), ("fd00::3", 10.0));
    let seen = warnings.with("no instance to call");
    assert_eq!(seen.len(), IN_ETCD.len() - 3, "{seen:?}");
}

/// As in [`IN_ETCD`], of Java frameworks.
const IN_ZOOKEEPER: &[(&str, &str)] = &[
    (
        "3f2a",
        r#"{"name":"goods","id":"3f2a","address":"10.0.0.1","port":80,"sslPort":null,"payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"goods-1","name":"goods","metadata":{"instance_status":"UP","weight":"3"}},"registrationTimeUTC":1700000000123,"serviceType":"DYNAMIC","uriSpec":{"parts":[]}}"#,
    ),
    (
        "77c1",
        r#"{"name":"goods","id":"77c1","address":"goods-2.example","port":8443,"sslPort":8443,"payload":null,"registrationTimeUTC":1,"serviceType":"PERMANENT","uriSpec":null}"#,
    ),
    ("providers", ""),
    ("dubbo%3A%2F%2F10.0.0.3%3A20880%2Fgoods", ""),
    ("10.0.0.4:80", "10.0.0.4:80"),
    ("all", r#"{"name":"goods","id":"all","address":"0.0.0.0","port":80,"payload":null}"#),
    ("none", r#"{"name":"goods","id":"none","address":null,"port":80,"payload":null}"#),
    ("no-port", r#"{"name":"goods","id":"no-port","address":"10.0.0.5","port":null,"sslPort":8443,"payload":null}"#),
];

#[tokio::test]
async fn entries_of_others_in_zookeeper() {
    let zookeeper = ZookeeperFixture::start().await;
    let warnings = Warnings::capture();
    for (name, data) in IN_ZOOKEEPER {
        zookeeper.put(&format!("/ms-rpc/goods/{name}"), data.as_bytes(), CreateMode::Persistent).await;
    }
    let registry = zookeeper.connect().await.unwrap();
    let found = registry.list(&service("goods")).await.unwrap();
    assert_eq!(ids(&found), ["3f2a", "77c1"]);
    assert_eq!((found[0].weight(), found[1].address().as_str()), (3.0, "goods-2.example:8443"));
    let seen = warnings.with("no instance to call");
    assert_eq!(seen.len(), IN_ZOOKEEPER.len() - 2, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_nodes_are_listed_and_followed() {
    const NODES: u32 = 50_000;
    const TOGETHER: u32 = 500;
    let zookeeper = ZookeeperFixture::start().await;
    let client = Client::connect(&zookeeper.address().to_string()).await.unwrap();
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.mkdir("/ms-rpc/goods", &persistent).await.unwrap();
    for first in (0..NODES).step_by(TOGETHER as usize) {
        let mut writer = client.new_multi_writer();
        for number in first..first + TOGETHER {
            let host = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
            let data = format!(r#"{{"name":"goods","id":"n{number:05}","address":"{host}","port":80,"payload":null}}"#);
            writer.add_create(&format!("/ms-rpc/goods/n{number:05}"), data.as_bytes(), &persistent).unwrap();
        }
        writer.commit().await.unwrap();
    }
    let registry = zookeeper.connect().await.unwrap();
    let began = std::time::Instant::now();
    let found = within(6 * SOON, "the list", registry.list(&service("goods"))).await.unwrap();
    println!("{} instances listed in {:?}", found.len(), began.elapsed());
    assert_eq!(found.len(), NODES as usize);
    let mut watch = registry.watch(&service("goods"));
    let listed = watch.wait_for(|s| s.freshness() == Freshness::Live && s.instances().len() == NODES as usize);
    within(6 * SOON, "the first read", listed).await.unwrap();
    let registration = registry.register(&service("goods"), Instance::new("10.255.0.1", 80)).await.unwrap();
    let more = watch.wait_for(|s| s.instances().len() == NODES as usize + 1);
    within(SOON, "one more", more).await.unwrap();
    registration.deregister(SOON).await.unwrap();
}

/// All registrations, reads and watches of a client go over one connection; each campaign has one of its own.
#[tokio::test]
async fn few_connections_are_enough_and_too_few_are_named() {
    let zookeeper = Server::zookeeper_with_connections(2).await.unwrap();
    let registry = ms_register::connect(&zookeeper.url()).await.unwrap();
    let goods = service("goods");
    let mut kept = Vec::new();
    let mut watch = registry.watch(&goods);
    for port in 1..=20 {
        kept.push(registry.register(&goods, Instance::new("10.0.0.1", port)).await.unwrap());
    }
    within(SOON, "all of them", watch.wait_for(|s| s.instances().len() == 20)).await.unwrap();
    let election = registry.election().unwrap();
    let leader = election.campaign(&goods, Instance::new("10.0.0.1", 1), SOON).await.unwrap();
    let error = ms_register::connect(&format!("{}?timeout=1", zookeeper.url())).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("maxClientCnxns"), "{error}");
    leader.resign(SOON).await.unwrap();
    let again = async {
        while ms_register::connect(&zookeeper.url()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within(SOON, "a connection that came free", again).await;
    assert_eq!(registry.list(&goods).await.unwrap().len(), 20);
}
