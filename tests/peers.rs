//! Instances that other languages' programs write into ZooKeeper are called, and they read ours: kazoo (Python) and Curator
//! (Java), as the distribution packages them.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use ms_register::{Instance, MsRegister, ServiceName};
use ms_rpc::ClientProxy;
use ms_tests::{Node, NodeOptions, NodeProgram, Server, ShopClient};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A JVM starts within this time even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const BASE: &str = "/services";

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn python() -> Command {
    // The distribution's, which has its packages.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(peers().join("kazoo_peer.py"));
    command
}

/// The Java peer, compiled.
struct Curator(TempDir);

impl Curator {
    const CLASSES: &str = "/usr/share/java/curator-x-discovery.jar";

    async fn compile() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut compiler = Command::new("javac");
        compiler.args(["-cp", Self::CLASSES, "-d"]).arg(directory.path());
        compiler.arg("-sourcepath").arg(peers()).arg(peers().join("CuratorPeer.java"));
        output(compiler).await;
        Self(directory)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(format!("{}:{}", self.0.path().display(), Self::CLASSES)).arg("CuratorPeer");
        command
    }
}

/// What it prints, once it has ended well.
async fn output(mut command: Command) -> String {
    let run = timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap();
    let Output { status, stdout, stderr } =
        run.unwrap_or_else(|error| panic!("{command:?} does not run ({error}): run scripts/registries install"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs it until it says that it has written; it lists its instance until it is dropped.
async fn writing(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(line.as_deref(), Some("written"), "{command:?}");
    child
}

async fn connect(zookeeper: &Server, parameters: &str) -> Arc<dyn MsRegister> {
    ms_register::connect(&format!("{}{BASE}{parameters}", zookeeper.url())).await.unwrap()
}

/// A server that is in no registry.
async fn unlisted() -> Node {
    NodeProgram::new(env!("CARGO_BIN_EXE_node"), &[]).start(NodeOptions::default()).await.unwrap()
}

/// What the peer wrote is listed with its metadata, is called, and is gone when the peer ends.
async fn is_called(zookeeper: &Server, node: &Node, mut peer: Child, zone: &str) {
    let registry = connect(zookeeper, "").await;
    let shop: ServiceName = "shop".parse().unwrap();
    let expected = Instance::new("127.0.0.1", node.address().port())
        .with_id("peer-1")
        .with_weight(2.0)
        .with_metadata("zone", zone);
    assert_eq!(registry.list(&shop).await.unwrap(), [expected]);
    let client = ShopClient::new(ClientProxy::new(registry.clone()));
    assert_eq!(client.find(7).await.unwrap().port, node.address().port());
    let mut watch = registry.watch(&shop);
    timeout(PATIENCE, watch.wait_for(|s| s.instances().len() == 1)).await.unwrap().unwrap();
    drop(peer.stdin.take());
    timeout(PATIENCE, watch.wait_for(|s| s.instances().is_empty())).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_kazoo_writes_is_called() {
    let (zookeeper, node) = (Server::zookeeper().await.unwrap(), unlisted().await);
    let mut command = python();
    command.args(["write", &zookeeper.address(), BASE, "shop", "peer-1", "127.0.0.1"]);
    command.arg(node.address().port().to_string());
    let peer = writing(command).await;
    is_called(&zookeeper, &node, peer, "python").await;
}

#[tokio::test]
async fn what_we_write_is_read_by_kazoo() {
    let zookeeper = Server::zookeeper().await.unwrap();
    let shop: ServiceName = "shop".parse().unwrap();
    for payload in ["spring", "map"] {
        let registry = connect(&zookeeper, &format!("?payload={payload}")).await;
        let instance = Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b");
        let registration = registry.register(&shop, instance).await.unwrap();
        let mut command = python();
        command.args(["read", &zookeeper.address(), BASE, "shop"]);
        let found: Value = serde_json::from_str(&output(command).await).unwrap();
        let metadata = json!({ "weight": "2.5", "zone": "b" });
        let expected = json!({
            "id": "10.0.0.1:80", "address": "10.0.0.1", "port": 80, "metadata": metadata, "ephemeral": true
        });
        assert_eq!(found, expected);
        registration.deregister(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn what_curator_writes_is_called() {
    let (zookeeper, node, curator) = (Server::zookeeper().await.unwrap(), unlisted().await, Curator::compile().await);
    for payload in ["spring", "map"] {
        let mut command = curator.command();
        command.args(["write", &zookeeper.address(), BASE, "shop", payload, "peer-1", "127.0.0.1"]);
        command.arg(node.address().port().to_string());
        let peer = writing(command).await;
        is_called(&zookeeper, &node, peer, "java").await;
    }
}

#[tokio::test]
async fn what_we_write_is_read_by_curator() {
    let (zookeeper, curator) = (Server::zookeeper().await.unwrap(), Curator::compile().await);
    let shop: ServiceName = "shop".parse().unwrap();
    for payload in ["spring", "map"] {
        let registry = connect(&zookeeper, &format!("?payload={payload}")).await;
        let instance = Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b");
        let registration = registry.register(&shop, instance).await.unwrap();
        let mut command = curator.command();
        command.args(["read", &zookeeper.address(), BASE, "shop", payload]);
        let found = output(command).await;
        assert_eq!(found, "10.0.0.1:80 http://10.0.0.1:80 enabled=true {weight=2.5, zone=b}\n");
        registration.deregister(PATIENCE).await.unwrap();
    }
}
