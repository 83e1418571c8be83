//! A queue node in etcd as programs of gmq look for it, beside the usual registration.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ms_mq::{MqClient, Push};
use ms_rpc::CallOptions;
use ms_tests::Server;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// The command `ms`.
const MS: &str = env!("CARGO_BIN_EXE_ms-in-tests");
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped.
struct Running(Child, String);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(arguments: &[&str], directory: &std::path::Path) -> Self {
        let mut command = Command::new(MS);
        command.args(arguments).current_dir(directory).env_remove("MS_REGISTRY");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains(" is ready: "), "{arguments:?}: {said:?}");
        Self(child, said)
    }

    /// The address after this word in the line that says ready.
    fn address(&self, word: &str) -> &str {
        let rest = self.1.split_once(&format!("{word} on ")).unwrap().1;
        rest.split([',', ' ', '\n']).next().unwrap()
    }

    fn terminate(&mut self) {
        let id = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

async fn get(etcd: &Server, arguments: &[&str]) -> String {
    etcd.etcdctl(&[&["get", "--prefix"], arguments].concat()).await.unwrap()
}

async fn until(what: &str, etcd: &Server, arguments: &[&str], holds: impl Fn(&str) -> bool) -> String {
    let begin = Instant::now();
    loop {
        let found = get(etcd, arguments).await;
        if holds(&found) {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: {found}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stands_in_etcd_in_both_forms() {
    let etcd = Server::etcd().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = etcd.url();
    let bare = url.split('?').next().unwrap();
    let host = bare.trim_start_matches("etcd://").split('/').next().unwrap();
    let members = format!("etcd://{host}");
    let mut node = Running::start(
        &[
            "mq-node",
            "--node-id",
            "3",
            "--weight",
            "5",
            "--rpc",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--gmq-tcp",
            "127.0.0.1:0",
            "--gmq-etcd",
            &members,
            "--registry",
            &url,
        ],
        directory.path(),
    );
    let found = until("the node is listed", &etcd, &["/gmq/node"], |found| !found.is_empty()).await;
    let (key, value) = found.trim().split_once('\n').unwrap();
    assert_eq!(key, "/gmq/node-3");
    let value: Value = serde_json::from_str(value).unwrap();
    let joined = value["join_time"].as_str().unwrap().to_owned();
    let expected = json!({
        "tcp_addr": node.address("gmq"), "http_addr": node.address("HTTP"), "weight": "5", "node_id": "3", "join_time": joined,
    });
    assert_eq!(value, expected);
    assert!(joined.len() == 19 && joined.as_bytes()[10] == b' ', "{joined}");
    // Under a lease of 30 s.
    let json = get(&etcd, &["/gmq/node", "-w", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let lease = json["kvs"][0]["lease"].as_i64().unwrap();
    let lease = etcd.etcdctl(&["lease", "timetolive", &format!("{lease:x}")]).await.unwrap();
    assert!(lease.contains("granted with TTL(30s)"), "{lease}");
    // The usual registration is there too, with RPC's address.
    let rpc = node.address("RPC").to_owned();
    until("RPC is listed", &etcd, &[""], |found| found.contains(&format!("\"Addr\":\"{rpc}\""))).await;
    // Read in gmq's layout by this project's own command.
    let instances = Command::new(MS)
        .args(["instances", "mq", "--json", "--registry", &format!("{members}?layout=gmq")])
        .output()
        .unwrap();
    let said = String::from_utf8(instances.stdout).unwrap();
    assert!(said.contains(node.address("gmq")), "{said}{}", String::from_utf8_lossy(&instances.stderr));
    node.terminate();
    until("the node has left", &etcd, &["/gmq/node"], str::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_gone_with_its_lease() {
    let etcd = Server::etcd().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = etcd.url();
    let host = url.trim_start_matches("etcd://").split(['/', '?']).next().unwrap();
    let endpoints = format!("-etcd_endpoints={host}");
    let node = Running::start(
        &["gnode", "-http_addr=127.0.0.1:0", "-tcp_addr=127.0.0.1:0", "-register_addr=http://127.0.0.1:1", &endpoints],
        directory.path(),
    );
    until("the node is listed", &etcd, &["/gmq/node"], |found| found.starts_with("/gmq/node-1\n")).await;
    drop(node);
    until("the lease has ended", &etcd, &["/gmq/node"], str::is_empty).await;
}

/// Waits until this holds.
async fn comes<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_seen_by_every_view_and_after_a_kill_by_none() {
    let (etcd, gregister) = (Server::etcd().await.unwrap(), Server::gregister().await.unwrap());
    let directory = tempfile::tempdir().unwrap();
    let url = etcd.url();
    let host = url.trim_start_matches("etcd://").split(['/', '?']).next().unwrap();
    let settings =
        format!("registry = {url:?}\n[[rule]]\nmatch = \".*\"\nservice = \"mq\"\naddress-from = \"mq.http\"\n");
    std::fs::write(directory.path().join("lb.toml"), settings).unwrap();
    let balancer = Running::start(&["lb", "http", "--config", "lb.toml", "--listen", "127.0.0.1:0"], directory.path());
    let members = format!("etcd://{host}");
    let register = format!("http://{}", gregister.address());
    let listeners = ["--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--gmq-tcp", "127.0.0.1:0"];
    let registries = ["--registry", &url, "--gmq-etcd", &members, "--gmq-register", &register];
    let node = Running::start(&[&["mq-node"], &listeners[..], &registries].concat(), directory.path());
    let (rpc, tcp) = (node.address("RPC").to_owned(), node.address("gmq").to_owned());

    let register = register.trim_start_matches("http://");
    let in_etcd = |key: &'static str, text: String| {
        let etcd = &etcd;
        async move { get(etcd, &[key]).await.contains(&text) }
    };
    let asked = |address: String, target: &'static str| async move {
        let answer = ms_tests::request("GET", &address, target).await;
        answer.map(|answer| (answer.status, answer.body)).unwrap_or_default()
    };
    let is_listed = || async { asked(register.to_owned(), "/getNodes").await.1.contains(&tcp) };
    let is_balanced = || async { asked(balancer.address("HTTP").to_owned(), "/ping").await.0 == 200 };
    let registry = ms_register::connect(&url).await.unwrap();
    let queue = MqClient::new(registry).unwrap().with(CallOptions::new().deadline(Duration::from_secs(1)));
    let is_called = || async { queue.push(Push::new("t", b"m".to_vec())).await.is_ok() };

    comes("gmq's key", || in_etcd("/gmq/node", tcp.clone())).await;
    comes("the naming package's key", || in_etcd("ms-rpc/mq/", rpc.clone())).await;
    comes("the register's list", is_listed).await;
    comes("the balancer", is_balanced).await;
    comes("the proxy", is_called).await;
    drop(node);
    comes("the naming package's key is gone", || async { !in_etcd("ms-rpc/mq/", rpc.clone()).await }).await;
    comes("the balancer has nobody", || async { !is_balanced().await }).await;
    comes("the proxy has nobody", || async { !is_called().await }).await;
    comes("gmq's key is gone", || async { !in_etcd("/gmq/node", tcp.clone()).await }).await;
    comes("the register's list is without it", || async { !is_listed().await }).await;
}
