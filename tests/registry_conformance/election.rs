//! Elections: what only one kind of registry can suffer.

use std::time::Duration;

use ms_register::{Instance, RegisterError};
use ms_register_conformance::{
    Fixture,
    candidates::{DEADLINE, campaign, elected, election, instance},
    service, within,
};
use ms_tests::{Fault, Relay, Server};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{etcd::EtcdFixture, normal::NormalFixture, zookeeper::ZookeeperFixture};

#[tokio::test]
async fn registries_without_elections_say_what_to_use() {
    let nacos = Server::nacos().await.unwrap();
    for url in ["static://10.0.0.1:80", &nacos.url()] {
        let registry = ms_register::connect(url).await.unwrap();
        let error = registry.election().unwrap_err();
        assert!(matches!(error, RegisterError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("etcd://"), "{error}");
    }
}

#[tokio::test]
async fn in_etcd_the_token_is_the_create_revision() {
    let etcd = EtcdFixture::start().await;
    let leader = elected(&election(&etcd).await, 80).await;
    let found = etcd.etcdctl(&["get", "--prefix", "ms-rpc/@election/goods/", "-w", "json"]).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["kvs"].as_array().unwrap().len(), 1);
    assert_eq!(found["kvs"][0]["create_revision"], json!(leader.token()));
    etcd.etcdctl(&["del", "--prefix", "ms-rpc/@election/goods/"]).await;
    within(EtcdFixture::SETTLES, "the end of the term", leader.lost()).await;
}

/// The end of a term is read about by who is next, not by all who wait.
#[tokio::test]
async fn in_etcd_an_end_wakes_one_candidate() {
    const WAITING: u16 = 8;
    let etcd = EtcdFixture::start().await;
    let election = election(&etcd).await;
    let mut leader = elected(&election, 1).await;
    let mut waiting = Vec::new();
    for port in 2..2 + WAITING {
        waiting.push(campaign(&election, port));
        within(DEADLINE, "the candidate", async { while etcd.candidates().await < usize::from(port) {} }).await;
    }
    let before = etcd.reads().await;
    for next in waiting {
        leader.resign(DEADLINE).await.unwrap();
        leader = within(DEADLINE, "the next master", next).await.unwrap();
    }
    let reads = etcd.reads().await - before;
    // Two by who is next to learn its place, one of it to watch its own key. If all that wait read, it would be 72 in all.
    assert!(reads <= 4 * u64::from(WAITING), "{reads} reads");
}

#[tokio::test]
async fn in_zookeeper_each_watches_the_one_before_it() {
    let zookeeper = ZookeeperFixture::start().await;
    let election = election(&zookeeper).await;
    let _leader = elected(&election, 1).await;
    let waiting: Vec<_> = (2..7).map(|port| campaign(&election, port)).collect();
    let watched = within(DEADLINE, "the watches", async {
        loop {
            let watched = zookeeper.watched("/ms-rpc@election/goods").await;
            if watched.len() >= waiting.len() && watched.values().sum::<usize>() > waiting.len() {
                return watched;
            }
        }
    })
    .await;
    assert!(!watched.contains_key("/ms-rpc@election/goods"), "{watched:?}");
    // The first one's node is watched by itself too.
    let mut watchers: Vec<_> = watched.values().copied().collect();
    watchers.sort_unstable();
    assert_eq!(watchers, [1, 1, 1, 1, 2], "{watched:?}");
    waiting.iter().for_each(JoinHandle::abort);
}

/// By the clock of a session of 30 s it would go on for 20 s.
#[tokio::test]
async fn in_zookeeper_a_lost_connection_ends_a_term() {
    let zookeeper = ZookeeperFixture::start().await;
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let registry = ms_register::connect(&format!("zookeeper://{}?session=30", relay.address())).await.unwrap();
    let leader = elected(&registry.election().unwrap(), 80).await;
    assert!(leader.is_leader());
    let names = zookeeper.names("/ms-rpc@election/goods").await;
    let (_, stat) = zookeeper.stranger().get_data(&format!("/ms-rpc@election/goods/{}", names[0])).await.unwrap();
    assert_eq!(stat.czxid.unsigned_abs(), leader.token());
    relay.set(Fault::Drop);
    within(Duration::from_secs(3), "the end of the term", leader.lost()).await;
    assert!(!leader.is_leader());
}

/// The server has made the node, and its answer is lost with the connection: made again, it would be there twice, and wait for
/// itself.
#[tokio::test]
async fn in_zookeeper_the_own_node_is_found_after_a_lost_answer() {
    let zookeeper = ZookeeperFixture::start().await;
    let directory = "/ms-rpc@election/goods";
    elected(&election(&zookeeper).await, 1).await.resign(DEADLINE).await.unwrap();
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let registry = ms_register::connect(&format!("zookeeper://{}?session=5", relay.address())).await.unwrap();
    relay.set(Fault::Delay(Duration::from_millis(150)));
    let campaign = campaign(&registry.election().unwrap(), 80);
    within(DEADLINE, "the node", async {
        loop {
            let (names, change) = zookeeper.stranger().list_and_watch_children(directory).await.unwrap();
            if !names.is_empty() {
                return;
            }
            change.changed().await;
        }
    })
    .await;
    // The answer is on its way.
    relay.cut().await;
    let leader = within(DEADLINE, "the election", campaign).await.unwrap();
    assert_eq!(zookeeper.names(directory).await.len(), 1, "it is there once");
    leader.resign(DEADLINE).await.unwrap();
    assert!(zookeeper.names(directory).await.is_empty());
}

/// A session without a connection gives way to another one after 5 s, and what it has in the queue stays there until it ends: up
/// to 30 s here, or until its client is connected again. Whoever stands behind that would wait for nobody.
#[tokio::test]
async fn in_zookeeper_a_candidate_with_a_new_session_leaves_none_behind() {
    let zookeeper = ZookeeperFixture::start().await;
    let leader = elected(&election(&zookeeper).await, 1).await;
    let relay = Relay::to(zookeeper.address()).await.unwrap();
    let registry = ms_register::connect(&format!("zookeeper://{}?session=30", relay.address())).await.unwrap();
    let second = registry.election().unwrap();
    let waiting = tokio::spawn(async move { second.campaign(&service("goods"), instance(2), Duration::MAX).await });
    let owners = async || {
        let mut owners = Vec::new();
        for name in zookeeper.names("/ms-rpc@election/goods").await {
            let path = format!("/ms-rpc@election/goods/{name}");
            // One that is gone went in between.
            let stat = zookeeper.stranger().check_stat(&path).await.unwrap();
            owners.extend(stat.map(|stat| stat.ephemeral_owner).filter(|_| name.contains("10.0.0.1:2-")));
        }
        owners
    };
    within(DEADLINE, "the second", async { while owners().await.len() != 1 {} }).await;
    let before = owners().await[0];
    let new = async {
        loop {
            let found = owners().await;
            if found.iter().any(|owner| *owner != before) {
                return found;
            }
        }
    };
    let new = async {
        let mut new = std::pin::pin!(new);
        loop {
            relay.set(Fault::Drop);
            tokio::time::sleep(Duration::from_millis(5_500)).await;
            relay.set(Fault::None);
            // It may be the old one that comes back first.
            if let Ok(found) = tokio::time::timeout(Duration::from_secs(3), &mut new).await {
                return found;
            }
        }
    };
    let found = within(Duration::from_secs(60), "another session", new).await;
    assert!(!found.contains(&before), "{found:x?}");
    leader.resign(DEADLINE).await.unwrap();
    within(DEADLINE, "the second", waiting).await.unwrap().unwrap().resign(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn in_master_normal_a_campaign_contends_for_the_master_with_its_peers() {
    let zookeeper = NormalFixture::start().await;
    let election = election(&zookeeper).await;
    let goods = service("goods");
    let mut watch = election.observe(&goods);
    zookeeper.put_master(&goods, &Instance::new("10.0.0.9", 9).with_id("peer")).await;
    let peer = watch.wait_for(|seen| seen.master().is_some_and(|master| master.instance.port() == 9));
    let peer = within(NormalFixture::SETTLES, "the peer", peer).await.unwrap().master().cloned().unwrap();
    assert_eq!(peer.instance.id(), "peer");
    let waiting = campaign(&election, 80);
    let refused = election.campaign(&goods, instance(99), Duration::from_millis(300)).await;
    assert!(matches!(refused, Err(RegisterError::Timeout { .. })), "{refused:?}");
    zookeeper.remove_master(&goods).await;
    let leader = within(DEADLINE, "the campaign", waiting).await.unwrap();
    assert!(leader.token() > peer.token);
    let found = zookeeper.master(&goods).await;
    assert_eq!(
        found,
        json!({"serverip": "10.0.0.1", "serverport": 80, "username": "", "userpwd": "",
               "serveruniquecode": "10.0.0.1:80", "weight": 1, "unlisted": true}),
        "peers take no notice of the last field"
    );
    leader.resign(DEADLINE).await.unwrap();
    assert!(matches!(election.master(&goods).await, Err(RegisterError::NoMaster { .. })));
}

/// Left by another program, or written by hand: they end with nothing, and nobody after them would ever be elected.
#[tokio::test]
async fn candidates_without_an_owner_are_passed_over() {
    let zookeeper = ZookeeperFixture::start().await;
    let left = "/ms-rpc@election/goods/0123456789abcdef-left-0000000000";
    let data = br#"{"address":"10.0.0.9","port":9}"#;
    zookeeper.put(left, data, zookeeper_client::CreateMode::Persistent).await;
    let etcd = EtcdFixture::start().await;
    for key in ["0123456789abcdef/a", "0123456789abcdef/b"] {
        etcd.etcdctl(&["put", &format!("ms-rpc/@election/goods/{key}"), r#"{"Addr":"10.0.0.9:9"}"#]).await;
    }
    for election in [election(&zookeeper).await, election(&etcd).await] {
        assert!(matches!(election.master(&service("goods")).await, Err(RegisterError::NoMaster { .. })));
        let leader = elected(&election, 1).await;
        assert_eq!(election.master(&service("goods")).await.unwrap(), *leader.master());
        let next = campaign(&election, 2);
        leader.resign(DEADLINE).await.unwrap();
        let leader = within(DEADLINE, "the next master", next).await.unwrap();
        leader.resign(DEADLINE).await.unwrap();
    }
}
