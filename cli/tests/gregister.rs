//! The command `ms gregister` as a user runs it, and a queue node that is listed in it.
#![cfg(feature = "gregister")]
#![allow(clippy::unwrap_used)]

mod running;

use std::process::Command;

use running::Running;

#[test]
fn a_queue_node_is_listed_beside_others_and_in_another_gregister() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let data = path("registry");
    let gregister = Running::start(&["gregister", "--http", "127.0.0.1:0", "--data", &data]);
    let url = format!("gregister://{}", gregister.address("HTTP"));
    let node = Running::start(&[
        "mq-node",
        "--registry",
        &url,
        "--node-id",
        "7",
        "--data",
        &path("queue"),
        "--rpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--weight",
        "3",
    ]);
    let entry = format!(
        r#"{{"id":7,"http_addr":"{}","http_tls":false,"tcp_addr":"{}","tcp_tls":false,"join_time":""#,
        node.address("HTTP"),
        node.address("RPC"),
    );
    let nodes = gregister.get("/getNodes");
    assert!(nodes.contains(&entry) && nodes.contains(r#""weight":3}"#), "{nodes}");
    let taken = gregister.get(&format!("/register?node_id=7&weight=1&tcp_addr={}", node.address("HTTP")));
    assert!(taken.contains("node.Id 7 has exist"), "{taken}");

    let other = Running::start(&["gregister", "--http", "127.0.0.1:0", "--backend", &url]);
    assert!(other.get("/getNodes").contains(&entry), "{}", other.get("/getNodes"));
    other.stop();
    node.stop();
    assert_eq!(gregister.get("/getNodes"), r#"{"code":0,"data":{"nodes":[]},"msg":"success"}"#);
    gregister.stop();
}

#[test]
fn an_address_that_others_reach_needs_a_token_and_networks() {
    let refused = |arguments: &[&str], said: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ms")).arg("gregister").args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{arguments:?} does not say {said:?}: {errors}");
    };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let public = ["--data", data, "--http", "0.0.0.0:0"];
    refused(&public, "give --cert and --key, or --token-file");
    refused(&[&public[..], &["--token", ""]].concat(), "give --cert and --key, or --token-file");
    refused(&[&public[..], &["--token", "t"]].concat(), "give the networks");
    refused(&[&public[..], &["--token", "t", "--networks", "10.0.0.0/99"]].concat(), "is no network");
    refused(&["--data", data, "--backend", "memory://"], "nothing is stored");
    refused(&["--data", data, "--service", "goods"], "it needs --backend");
    refused(&["--data", data, "--candidate-ttl", "0.5"], "give 1 to 3600 seconds");
    refused(&["--candidate-ttl", "5", "--backend", "memory://"], "nobody is elected");
    refused(&["--backend", "gregister://127.0.0.1:1"], "unreachable");

    let config = directory.path().join("config.toml");
    std::fs::write(
        &config,
        format!("data = {data:?}\nhttp = \"0.0.0.0:0\"\ntoken = \"t\"\nnetworks = \"10.0.0.0/8\"\n"),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let gregister = Running::start(&["gregister", "--config", config]);
    refused(&["--http", "127.0.0.1:0", "--data", data], "another process has it open");
    assert!(gregister.said.contains("0.0.0.0:"), "{}", gregister.said);
    assert!(gregister.get("/getNodes").contains("token is missing"));
    assert!(gregister.get("/getNodes?token=t").contains("success"));
    let port = gregister.address("HTTP").replace("0.0.0.0:", "");
    let backend = format!("gregister://127.0.0.1:{port}?token=t");
    let mirror = Running::start(&["gregister", "--http", "127.0.0.1:0", "--backend", &backend]);
    assert!(mirror.said.contains("gregister shows gregister://127.0.0.1:"), "{}", mirror.said);
    assert!(!mirror.said.contains("token"), "{}", mirror.said);
    mirror.stop();
    gregister.stop();
}
