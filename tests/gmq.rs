//! A queue node in etcd as programs of gmq look for it, beside the usual registration.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

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
