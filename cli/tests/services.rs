//! `ms services`, `instances`, `describe`, `health` and `call` as a user runs them.

#![allow(clippy::unwrap_used)]

mod running;

use std::process::{Command, Output};

use running::cluster::Cluster;
use serde_json::Value;

fn ms(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
    command.args(arguments).env("MS_REGISTRY", &cluster.registry).env_remove("RUST_LOG").output().unwrap()
}

/// Its output, when it goes well.
fn ok(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = ms(cluster, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn instances_methods_and_health_are_shown() {
    let cluster = Cluster::of(2);
    let table = ok(&cluster, &["instances", "mq"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("id\taddress\tweight\tmetadata\n"), "{table}");
    let found = lines(&ok(&cluster, &["instances", "mq", "--json"]));
    let mut addresses: Vec<_> = found.iter().map(|instance| instance["address"].as_str().unwrap().to_owned()).collect();
    let mut nodes: Vec<_> = cluster.nodes.iter().map(|node| node.address("RPC")).collect();
    addresses.sort();
    nodes.sort();
    assert_eq!(addresses, nodes);

    let methods = lines(&ok(&cluster, &["describe", "mq", "--json"]));
    let peek = methods.iter().find(|method| method["method"] == "peek").unwrap();
    assert_eq!(peek["idempotent"], true);
    assert!(peek["definition"].as_str().unwrap().starts_with("peek(topic: String, queue: String, "), "{peek}");

    let health = lines(&ok(&cluster, &["health", "mq", "--json"]));
    assert!(health.len() == 2 && health.iter().all(|instance| instance["state"] == "serving"), "{health:?}");
    let absent = ms(&cluster, &["health", "goods"]);
    assert_eq!(absent.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&absent.stdout).contains("absent"), "{absent:?}");
    let none = ms(&cluster, &["services"]);
    assert_eq!(none.status.code(), Some(4), "a list of addresses has no names: {none:?}");
}

#[test]
fn a_method_is_called_by_names() {
    let cluster = Cluster::of(1);
    assert_eq!(ok(&cluster, &["call", "ms.health", "service", "\"mq\""]), "\"Serving\"\n");
    assert_eq!(
        ok(&cluster, &["call", "ms.health", "service", "-d", "{\"name\": \"mq\"}", "--json"]),
        "{\"value\":\"Serving\"}\n"
    );
    assert_eq!(
        ok(&cluster, &["call", "ms.health", "service", "-d", "[\"x\"]", "-m", "a=b", "--deadline", "2s"]),
        "null\n"
    );
    let fails = |arguments: &[&str], code: i32, words: &str| {
        let output = ms(&cluster, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.contains(words), "{arguments:?}: {said}");
    };
    fails(&["call", "mq", "nothing"], 4, "has no method `nothing`");
    fails(&["call", "mq", "peek", "red"], 2, "the argument `red` is no JSON");
    fails(&["call", "mq", "peek", "-d", "7"], 2, "write an array of all arguments");
    fails(&["call", "mq", "peek", "-m", "tenant"], 2, "`tenant` has no `=`");
    // The service's own error is shown.
    fails(&["call", "mq", "get", "\"t\"", "\"q\"", "1", "[]"], 4, "NoTopic");
    fails(&["call", "mq", "peek", "--registry", "static://127.0.0.1:1", "--deadline", "300ms"], 5, "unavailable");
    fails(&["instances", "mq", "--registry", "nothing://x"], 2, "nothing");
}

#[test]
#[cfg(feature = "gregister")]
fn a_node_is_listed_under_the_address_that_it_advertises() {
    use running::Running;

    let directory = tempfile::tempdir().unwrap();
    let data = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let gregister = Running::start(&["gregister", "--http", "127.0.0.1:0", "--data", &data("gregister")]);
    let registry = format!("gregister://{}", gregister.address("HTTP"));
    let node = Running::start(&[
        "mq-node",
        "--registry",
        &registry,
        "--rpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--data",
        &data("mq"),
        "--advertise",
        "queue.example:7777",
    ]);
    let output =
        Command::new(env!("CARGO_BIN_EXE_ms")).args(["instances", "mq", "--json", "--registry", &registry]).output();
    let found = lines(&String::from_utf8(output.unwrap().stdout).unwrap());
    assert_eq!(found[0]["address"], "queue.example:7777", "{found:?}");
    let (_, port) =
        node.address("HTTP").rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    assert_eq!(found[0]["metadata"]["mq.http"], format!("queue.example:{port}"), "{found:?}");
    node.stop();
    let refused = Command::new(env!("CARGO_BIN_EXE_ms"))
        .args([
            "mq-node",
            "--rpc",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--data",
            &data("mq"),
            "--advertise",
            "nowhere",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("advertise: "), "{said}");
}
