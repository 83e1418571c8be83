//! Registries that others write: files, and the DNS.

use std::{fs, path::Path, time::Duration};

use ms_register::{Freshness, Instance, RegistrationState};
use ms_register_conformance::{ids, service, within};
use ms_tests::Dnsmasq;

const SOON: Duration = Duration::from_secs(5);

/// As a deployment does that replaces a file under its readers.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.toml");
    let url = format!("file://{}", path.display());
    let missing = ms_register::connect(&url).await.unwrap_err();
    assert!(missing.is_transient() && missing.to_string().contains("No such file"), "{missing}");

    replace(
        &path,
        "[services]\ngoods = ['10.0.0.1:80', { address = '10.0.0.2:80', weight = 2.5 }]\norders = ['10.0.0.3:80']",
    );
    let registry = ms_register::connect(&url).await.unwrap();
    let (goods, orders) = (service("goods"), service("orders"));
    let (mut watch, mut names) = (registry.watch(&goods), registry.watch_services().unwrap());
    let listed = within(SOON, "the file", watch.wait_for(|s| s.instances().len() == 2)).await.unwrap();
    assert_eq!(listed.instances()[1], Instance::new("10.0.0.2", 80).with_weight(2.5));
    assert_eq!(registry.services().await.unwrap(), [goods.clone(), orders.clone()]);

    replace(&path, "[services]\ngoods = ['10.0.0.9:80']\n");
    let changed = within(SOON, "the change", watch.wait_for(|s| ids(s.instances()) == ["10.0.0.9:80"])).await.unwrap();
    assert_eq!(changed.freshness(), Freshness::Live);
    within(SOON, "the names", names.wait_for(|s| s.services() == [goods.clone()])).await.unwrap();
    assert!(registry.list(&orders).await.unwrap().is_empty());

    for broken in ["[services]\ngoods = [", ""] {
        replace(&path, broken);
        let stale = watch.wait_for(|s| s.freshness() == Freshness::Stale);
        let stale = within(SOON, "the error", stale).await.unwrap();
        assert_eq!(ids(stale.instances()), ["10.0.0.9:80"], "the last list stays");
        assert!(stale.state(std::time::Instant::now()).to_string().contains("does not parse"), "{stale:?}");
        replace(&path, "[services]\ngoods = ['10.0.0.9:80']\n");
        within(SOON, "the return", watch.wait_for(|s| s.freshness() == Freshness::Live)).await.unwrap();
    }

    let registration = registry.register(&goods, Instance::new("10.0.0.7", 80)).await.unwrap();
    assert_eq!(*registration.state().borrow(), RegistrationState::Listed);
    assert_eq!(registry.list(&goods).await.unwrap().len(), 1, "nothing is published");
}

#[tokio::test]
async fn a_cluster_file_is_read_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dinx.json");
    let text = r#"{
        // group: gates and back ends
        "lobby": [{"ID": 1, "Name": "gate-1", "Type": 1, "IP": "10.0.0.1", "Port": 8999},
                  {"ID": 2, "Name": "back-2", "Type": 2, "IP": "10.0.0.2", "Port": 9001}],
        "rooms": [{"ID": 3, "Name": "back-3", "Type": 2, "IP": "10.0.0.3", "Port": 9002}]}"#;
    fs::write(&path, text).unwrap();
    let registry = ms_register::connect(&format!("file://{}", path.display())).await.unwrap();
    assert_eq!(ids(&registry.list(&service("lobby")).await.unwrap()), ["10.0.0.1:9001", "10.0.0.2:9001"]);
    assert_eq!(registry.list(&service("rooms")).await.unwrap()[0].metadata()["dinx.id"], "3");
    assert_eq!(registry.services().await.unwrap(), [service("lobby"), service("rooms")]);
}

#[tokio::test]
async fn static_lists_are_per_service() {
    let registry =
        ms_register::connect("static://10.0.0.9:80?goods=10.0.0.1:80,10.0.0.2:80&orders=[::1]:81").await.unwrap();
    for (name, listed) in
        [("goods", &["10.0.0.1:80", "10.0.0.2:80"][..]), ("orders", &["::1:81"]), ("x", &["10.0.0.9:80"])]
    {
        assert_eq!(ids(&registry.list(&service(name)).await.unwrap()), listed);
        assert_eq!(ids(registry.watch(&service(name)).current().instances()), listed);
    }
    assert!(registry.services().await.is_err(), "a list for every service names none");
    let registry = ms_register::connect("static://?goods=10.0.0.1:80").await.unwrap();
    assert_eq!(registry.services().await.unwrap(), [service("goods")]);
    assert!(registry.list(&service("orders")).await.unwrap().is_empty());
    for (url, reason) in [("static://?goods=x", "goods=x"), ("static://?a%2Fb=h:1", "a/b")] {
        let error = ms_register::connect(url).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn addresses_of_a_name_are_followed_by_their_time_to_live() {
    let mut dns = Dnsmasq::start(&[]).await.unwrap();
    let url = format!("dns://{{service}}.example:9112?server={}&timeout=1", dns.address());
    let registry = ms_register::connect(&url).await.unwrap();
    let goods = service("goods");
    assert!(registry.list(&goods).await.unwrap().is_empty(), "no such name");
    dns.hosts(&[("10.0.0.1", "goods.example"), ("10.0.0.2", "goods.example"), ("fd00::1", "goods.example")]).unwrap();
    let mut watch = registry.watch(&goods);
    let listed = within(SOON, "the addresses", watch.wait_for(|s| s.instances().len() == 3)).await.unwrap();
    assert_eq!(ids(listed.instances()), ["10.0.0.1:9112", "10.0.0.2:9112", "fd00::1:9112"]);

    dns.hosts(&[("10.0.0.2", "goods.example"), ("10.0.0.3", "goods.example")]).unwrap();
    let changed = watch.wait_for(|s| ids(s.instances()) == ["10.0.0.2:9112", "10.0.0.3:9112"]);
    within(SOON, "the change", changed).await.unwrap();
    dns.down();
    let stale = within(SOON, "the outage", watch.wait_for(|s| s.freshness() == Freshness::Stale)).await.unwrap();
    assert_eq!(stale.instances().len(), 2, "the last list stays");
    assert!(registry.list(&goods).await.unwrap_err().is_transient());
    dns.up().await.unwrap();
    within(SOON, "the return", watch.wait_for(|s| s.freshness() == Freshness::Live)).await.unwrap();
    // An empty answer is an answer.
    dns.hosts(&[]).unwrap();
    within(SOON, "the end", watch.wait_for(|s| s.instances().is_empty())).await.unwrap();
    let unsupported = registry.services().await.unwrap_err().to_string();
    assert!(unsupported.contains("no list of services"), "{unsupported}");
    assert!(registry.watch_services().is_err());
    let refused = registry.list(&service("goods:v2")).await.unwrap_err().to_string();
    assert!(refused.contains("no colon"), "{refused}");
}

#[tokio::test]
async fn srv_records_give_ports_weights_and_preference() {
    let record = |target: &str, port: u16, priority: u16, weight: u16| {
        format!("--srv-host=_goods._tcp.example,{target},{port},{priority},{weight}")
    };
    let first =
        [record("a.example", 9112, 10, 60), record("b.example", 9113, 10, 20), record("c.example", 9114, 20, 99)];
    let mut dns = Dnsmasq::start(&first.each_ref().map(String::as_str)).await.unwrap();
    let hosts =
        [("10.0.0.1", "a.example"), ("10.0.0.2", "b.example"), ("10.0.0.3", "b.example"), ("10.0.0.4", "c.example")];
    dns.hosts(&hosts).unwrap();
    let url = format!("dns://_goods._tcp.example?server={}&timeout=1", dns.address());
    let registry = ms_register::connect(&url).await.unwrap();
    let mut watch = registry.watch(&service("goods"));
    let listed = within(SOON, "the records", watch.wait_for(|s| s.instances().len() == 3)).await.unwrap();
    let shown: Vec<_> = listed.instances().iter().map(|one| (one.id(), one.weight())).collect();
    assert_eq!(shown, [("10.0.0.1:9112", 60.0), ("10.0.0.2:9113", 10.0), ("10.0.0.3:9113", 10.0)]);

    // Instances of the next priority, when the first are gone. Weights of 0 alone are equal.
    let second = [record("c.example", 9114, 20, 0), record("a.example", 9112, 20, 0), record("b.example", 1, 30, 5)];
    dns.restart(&second.each_ref().map(String::as_str)).await.unwrap();
    let changed = watch.wait_for(|s| ids(s.instances()) == ["10.0.0.1:9112", "10.0.0.4:9114"]);
    let changed = within(SOON, "the change", changed).await.unwrap();
    assert!(changed.instances().iter().all(|one| one.weight() == 1.0), "{changed:?}");
}
