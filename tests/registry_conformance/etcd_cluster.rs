//! Three members of etcd, of which one is ill.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::{Instance, MsRegister, RegisterError, Registration, RegistrationState};
use ms_register_conformance::{Warnings, ids, service, within};
use ms_tests::{EtcdCluster, Fault, Load};

use crate::{authority::Authority, shop};

const SOON: Duration = Duration::from_secs(10);

/// Fault of one member.
#[derive(Clone, Copy, Debug)]
enum Illness {
    Frozen,
    Killed,
    CutOff,
    BlackHoled,
}

impl Illness {
    async fn befall(self, cluster: &mut EtcdCluster, index: usize) {
        match self {
            Self::Frozen => cluster.freeze(index).unwrap(),
            Self::Killed => cluster.kill(index),
            Self::CutOff => cluster.isolate(index).await.unwrap(),
            Self::BlackHoled => cluster.to_clients(index, Fault::BlackHole),
        }
    }

    async fn end(self, cluster: &mut EtcdCluster, index: usize) {
        match self {
            Self::Frozen => cluster.thaw(index).unwrap(),
            Self::Killed => cluster.restart(index).await.unwrap(),
            Self::CutOff => cluster.join().await,
            Self::BlackHoled => cluster.to_clients(index, Fault::None),
        }
    }
}

/// How much is tried.
struct Extent {
    starts: usize,
    rate: u32,
    ill: Duration,
}

/// Users `root` and `app`; the latter may do all below the prefix of ours, and no more.
async fn log_in(cluster: &EtcdCluster) -> String {
    for arguments in [
        &["user", "add", "root:secret-r"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "app"],
        &["role", "grant-permission", "app", "--prefix=true", "readwrite", "ms-rpc/"],
        &["user", "add", "app:secret-a"],
        &["user", "grant-role", "app", "app"],
        &["auth", "enable"],
    ] {
        cluster.etcdctl(0, arguments).await.unwrap();
    }
    "?username=app&password=secret-a".to_owned()
}

async fn as_root(cluster: &EtcdCluster, arguments: &[&str]) {
    cluster.etcdctl(0, &[&["--user=root:secret-r"], arguments].concat()).await.unwrap();
}

/// Notes whether a registration is ever lost.
fn lost(registration: &Registration) -> tokio::task::JoinHandle<bool> {
    let mut state = registration.state();
    tokio::spawn(async move { state.wait_for(|state| *state == RegistrationState::Lost).await.is_ok() })
}

/// Starts, calls, registrations and watches while one of three members is ill.
async fn one_ill_member(illness: Illness, extent: Extent) {
    let mut cluster = EtcdCluster::start(&[]).await.unwrap();
    let user = log_in(&cluster).await;
    // The fault is the leader's, since that costs the most.
    let ill = cluster.leader().await.unwrap();
    let order = [ill, (ill + 1) % 3, (ill + 2) % 3];
    let url = cluster.url_of(order) + &user;

    // Everything of ours begins with the one that falls ill.
    let registry = ms_register::connect(&url).await.unwrap();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(shop::listed(&registry).await);
    }
    let losses: Vec<_> = servers.iter().flat_map(|server| server.registrations()).map(lost).collect();
    let client = shop::client(&ms_register::connect(&url).await.unwrap());
    client.find(0).await.unwrap();
    let load = Load::start(extent.rate, move |number| {
        let client = client.clone();
        async move { client.find(number).await.map(|found| u64::from(found.port)) }
    });
    let mut watches: Vec<_> = Vec::new();
    for _ in 0..6 {
        let registry = ms_register::connect(&url).await.unwrap();
        let mut watch = registry.watch(&service("shop"));
        within(SOON, "three instances", watch.wait_for(|s| s.instances().len() == 3)).await.unwrap();
        watches.push((registry, watch));
    }

    illness.befall(&mut cluster, ill).await;
    let began = Instant::now();
    let added = within(SOON, "one more instance", shop::listed(&registry)).await;
    println!("{illness:?}: an instance is listed after {:?}", began.elapsed());
    for (_, watch) in &mut watches {
        within(SOON, "the new instance", watch.wait_for(|s| s.instances().len() == 4)).await.unwrap();
    }
    println!("{illness:?}: known to 6 watches after {:?}", began.elapsed());
    let mut slowest = Duration::ZERO;
    for start in 0..extent.starts {
        let mut order = [ill, (ill + 1) % 3, (ill + 2) % 3];
        order.rotate_left(start % 3);
        let began = Instant::now();
        let registry = within(SOON, "a start", ms_register::connect(&(cluster.url_of(order) + &user))).await.unwrap();
        assert_eq!(registry.list(&service("shop")).await.unwrap().len(), 4);
        slowest = slowest.max(began.elapsed());
    }
    println!("{illness:?}: {} starts, the slowest in {slowest:?}", extent.starts);
    tokio::time::sleep_until((began + extent.ill).into()).await;
    illness.end(&mut cluster, ill).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let tally = load.stop().await.unwrap();
    println!("{illness:?}: {} calls, {} failed", tally.calls(), tally.failed().count());
    assert_eq!(tally.failed().count(), 0, "{}", tally.first_failures());
    assert!(losses.iter().all(|lost| !lost.is_finished()), "a registration was lost");
    added.shutdown().await;
}

const SHORT: Extent = Extent { starts: 6, rate: 200, ill: Duration::from_secs(8) };
const FULL: Extent = Extent { starts: 20, rate: 1_000, ill: Duration::from_secs(60) };

macro_rules! illnesses {
    ($($short:ident, $full:ident: $illness:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $short() {
            one_ill_member(Illness::$illness, SHORT).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "takes more than a minute"]
        async fn $full() {
            one_ill_member(Illness::$illness, FULL).await;
        }
    )+};
}

illnesses! {
    one_member_is_frozen, one_member_is_frozen_for_long: Frozen;
    one_member_is_killed, one_member_is_killed_for_long: Killed;
    one_member_is_cut_off, one_member_is_cut_off_for_long: CutOff;
    one_member_is_black_holed, one_member_is_black_holed_for_long: BlackHoled;
}

/// Changes of users, roles and the own password, with tokens that last five seconds.
async fn users_change(options: &[&str]) {
    let cluster = EtcdCluster::start(options).await.unwrap();
    let url = cluster.url() + &log_in(&cluster).await;
    let registry = ms_register::connect(&url).await.unwrap();
    let (server, goods) = (shop::listed(&registry).await, service("shop"));
    let loss = lost(&server.registrations()[0]);
    let client = shop::client(&ms_register::connect(&url).await.unwrap());
    client.find(0).await.unwrap();
    let load = Load::start(200, move |number| {
        let client = client.clone();
        async move { client.find(number).await.map(|found| u64::from(found.port)) }
    });
    // By then the first token is too old.
    tokio::time::sleep(Duration::from_secs(7)).await;
    for change in [
        &["user", "add", "other:secret-o"][..],
        &["role", "add", "other"],
        &["role", "grant-permission", "app", "read", "elsewhere"],
        &["user", "grant-role", "other", "other"],
    ] {
        as_root(&cluster, change).await;
        let began = Instant::now();
        assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
        println!("{change:?}: back after {:?}", began.elapsed());
    }
    let passwd = |password: &'static str| {
        let cluster = &cluster;
        async move {
            // `etcdctl` reads the password from its input.
            let word = format!("{password}\n");
            cluster
                .etcdctl_with(0, &["--user=root:secret-r", "user", "passwd", "app", "--interactive=false"], &word)
                .await
                .unwrap();
        }
    };
    passwd("secret-b").await;
    let refused = loop {
        match registry.list(&goods).await {
            Err(error) => break error,
            // A token of before may be good for a moment.
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert!(refused.to_string().contains("authentication failed"), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
    passwd("secret-a").await;
    let began = Instant::now();
    let back = async {
        while registry.list(&goods).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(SOON, "the return", back).await;
    println!("the own password: back after {:?}", began.elapsed());
    let tally = load.stop().await.unwrap();
    assert_eq!(tally.failed().count(), 0, "{}", tally.first_failures());
    assert!(!loss.is_finished(), "the registration was lost");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_change_under_simple_tokens() {
    users_change(&["--auth-token-ttl=5"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_change_under_signed_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let (key, public) = (directory.path().join("key.pem"), directory.path().join("public.pem"));
    for arguments in [
        &["genrsa", "-out", key.to_str().unwrap(), "2048"][..],
        &["rsa", "-in", key.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()],
    ] {
        let made = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let token = format!("jwt,pub-key={},priv-key={},sign-method=RS256,ttl=5s", public.display(), key.display());
    users_change(&[&format!("--auth-token={token}")]).await;
}

#[tokio::test]
async fn a_full_etcd_keeps_what_it_lists_and_takes_more_when_there_is_room() {
    let cluster = EtcdCluster::start(&["--quota-backend-bytes=16777216"]).await.unwrap();
    let registry = ms_register::connect(&cluster.url()).await.unwrap();
    let goods = service("goods");
    let kept = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let lost = lost(&kept);
    let value = "x".repeat(1 << 20);
    let full = async { while cluster.etcdctl_with(0, &["put", "filler"], &value).await.is_ok() {} };
    within(6 * SOON, "the end of its room", full).await;
    let error = registry.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("space exceeded"), "{error}");
    let patient = ms_register::connect_in_background(&cluster.url()).unwrap();
    let mut watch = patient.watch(&goods);
    within(SOON, "the list", watch.wait_for(|s| s.instances().len() == 1)).await.unwrap();
    let later = patient.register(&goods, Instance::new("10.0.0.3", 80)).await.unwrap();
    assert_eq!(*later.state().borrow(), RegistrationState::Lost);

    let revision = cluster.etcdctl(0, &["get", "filler", "--write-out=fields", "--keys-only"]).await.unwrap();
    let revision = revision.lines().find(|line| line.starts_with("\"Revision\"")).unwrap().rsplit(' ').next().unwrap();
    cluster.etcdctl(0, &["compact", revision]).await.unwrap();
    for index in 0..3 {
        cluster.etcdctl(index, &["defrag"]).await.unwrap();
    }
    cluster.etcdctl(0, &["alarm", "disarm"]).await.unwrap();
    within(2 * SOON, "the second instance", watch.wait_for(|s| ids(s.instances()) == ["10.0.0.1:80", "10.0.0.3:80"]))
        .await
        .unwrap();
    assert!(!lost.is_finished(), "the first was lost");
}

#[tokio::test]
async fn a_proxy_of_etcd_is_no_different() {
    let cluster = EtcdCluster::start(&[]).await.unwrap();
    let proxy = cluster.proxy().await.unwrap();
    let registry = ms_register::connect(&format!("{}/ms-rpc?ttl=2", proxy.url())).await.unwrap();
    let direct = ms_register::connect(&cluster.url()).await.unwrap();
    let goods = service("goods");
    let mut watch = registry.watch(&goods);
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let lost = lost(&registration);
    let other = direct.register(&goods, Instance::new("10.0.0.2", 80)).await.unwrap();
    within(SOON, "both", watch.wait_for(|s| s.instances().len() == 2)).await.unwrap();
    registration.update(Instance::new("10.0.0.1", 80).with_weight(2.0), SOON).await.unwrap();
    within(SOON, "the weight", watch.wait_for(|s| s.instances()[0].weight() == 2.0)).await.unwrap();
    // Twice the lease's time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(direct.list(&goods).await.unwrap().len(), 2);
    assert!(!lost.is_finished(), "it was lost");
    registration.deregister(SOON).await.unwrap();
    within(SOON, "the end", watch.wait_for(|s| ids(s.instances()) == ["10.0.0.2:80"])).await.unwrap();
    other.deregister(SOON).await.unwrap();
}

/// etcd ends connections whose pings it takes for abuse. Where there are answers in between it takes them for none.
#[tokio::test]
async fn pings_that_etcd_does_not_want_cost_no_connection() {
    let cluster = EtcdCluster::start(&["--grpc-keepalive-min-time=300s"]).await.unwrap();
    let (registry, idle) = (connect(&cluster).await, connect(&cluster).await);
    let goods = service("goods");
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    let mut watch = registry.watch(&goods);
    within(SOON, "the list", watch.wait_for(|s| s.instances().len() == 1)).await.unwrap();
    let connections = cluster.connections();
    // Four pings: it puts up with two.
    tokio::time::sleep(Duration::from_secs(26)).await;
    assert_eq!(cluster.connections(), connections);
    assert_eq!(idle.list(&goods).await.unwrap().len(), 1);
    registration.deregister(SOON).await.unwrap();
}

async fn connect(cluster: &EtcdCluster) -> Arc<dyn MsRegister> {
    ms_register::connect(&cluster.url()).await.unwrap()
}

fn tls(url: &str, directory: &std::path::Path) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    format!("{url}?tls=1&ca={}&cert={}&key={}", file("ca.pem"), file("cert.pem"), file("key.pem"))
}

async fn refused(url: &str, words: &str) {
    let error = ms_register::connect(url).await.unwrap_err();
    assert!(matches!(error, RegisterError::Unreachable { .. } | RegisterError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides_and_read_again() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| directory.path().join(name);
    authority.issue(&path("etcd"), &["127.0.0.1", "etcd.example"]);
    let file = |name: &str| path("etcd").join(name).display().to_string();
    let cluster = EtcdCluster::start_with_tls(&file("ca.pem"), &file("cert.pem"), &file("key.pem")).await.unwrap();
    let goods = service("goods");

    authority.issue(&path("client"), &["client"]);
    let good = tls(&cluster.url(), &path("client"));
    let registry: Arc<dyn MsRegister> = ms_register::connect(&good).await.unwrap();
    let registration = registry.register(&goods, Instance::new("10.0.0.1", 80)).await.unwrap();
    ms_register::connect(&format!("{good}&server_name=etcd.example")).await.unwrap();

    // Certificates of another name, of another authority, expired, absent, and no PEM.
    refused(&format!("{good}&server_name=other.example"), "certificate").await;
    let stranger = Authority::new();
    stranger.issue(&path("stranger"), &["client"]);
    refused(&tls(&cluster.url(), &path("stranger")), "certificate").await;
    authority.issue(&path("mixed"), &["client"]);
    std::fs::copy(path("stranger").join("cert.pem"), path("mixed").join("cert.pem")).unwrap();
    std::fs::copy(path("stranger").join("key.pem"), path("mixed").join("key.pem")).unwrap();
    refused(&tls(&cluster.url(), &path("mixed")), "").await;
    authority.issue_with(&path("expired"), &["client"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    refused(&tls(&cluster.url(), &path("expired")), "").await;
    refused(&tls(&cluster.url(), &path("absent")), "No such file").await;
    std::fs::create_dir(path("garbage")).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::write(path("garbage").join(name), "garbage").unwrap();
    }
    refused(&tls(&cluster.url(), &path("garbage")), "not PEM").await;
    refused(&cluster.url(), "").await;

    // The files of a running client change under it: to garbage, and to a new certificate.
    let warnings = Warnings::capture();
    std::fs::write(path("client").join("cert.pem"), "garbage").unwrap();
    let warned = async {
        while warnings.with("not PEM").is_empty() {
            assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    within(SOON, "the warning", warned).await;
    authority.issue(&path("client"), &["renewed"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(registry.list(&goods).await.unwrap().len(), 1);
    registration.deregister(SOON).await.unwrap();
}
