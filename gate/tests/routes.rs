//! zinx-cluster's files: read as they stand, and again when they change.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use ms_gate::{Gate, RouteFile};
use ms_rpc::{ClientProxy, Server};
use tokio::time::timeout;

use support::{Cluster, PATIENCE, Tlv};

/// The samples of zinx-cluster's README, with these ports.
fn write_nodes(path: &Path, im: &[u16]) {
    let nodes = im.iter().enumerate().map(|(index, port)| {
        let id = index + 2;
        format!(
            r#"{{"ID": {id}, "Name": "im-{}", "Type": 2, "IP": "0.0.0.0", "Port": {port}, "IsPass": 1}}"#,
            index + 1
        )
    });
    let text = format!(
        "// conf/dinx.json\n{{\n \"gate\": [\n  {{ // a node\n   \"ID\": 1, // NodeId\n   \"Name\": \"gate-1\",\n   \"Type\": 1, // 1: front\n   \
         \"IP\": \"0.0.0.0\",\n   \"Port\": 10000\n  }}\n ],\n \"im\": [{}]\n}}",
        nodes.collect::<Vec<_>>().join(",\n")
    );
    replace(path, &text);
}

/// Nobody reads half a file.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

const ROUTES: &str = r#"{
    "gate": [{"MsgID":1,"Name":"登录"}], // at the gate
    "im": [{"MsgID": 2, "Name": "发送"}, {"MsgID": 3, "Name": "转发"}]
}"#;

/// Asks until the answer is of that message.
async fn until(client: &mut Tlv, msg_id: u32, expected: u32) -> String {
    timeout(PATIENCE, async {
        loop {
            let (id, said) = client.ask(msg_id, "x").await;
            if id == expected {
                return said;
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_routes_come_from_files_and_follow_them() {
    // They only lend their back ends: nothing of the registry in memory is asked.
    let cluster = Cluster::new();
    let ims = cluster.ims().await;
    let folder = tempfile::tempdir().unwrap();
    let (nodes, routes) = (folder.path().join("dinx.json"), folder.path().join("route.json"));
    write_nodes(&nodes, &[ims[0].0.address().port()]);
    replace(&routes, ROUTES);
    let registry = ms_register::connect(&format!("file://{}", nodes.display())).await.unwrap();
    let file = RouteFile::read(&routes).await.unwrap();
    let gate = Gate::new(ClientProxy::new(registry)).routes(file.routes().clone()).tcp("127.0.0.1:0").await.unwrap();
    let gate = gate.limits(|limits| limits.messages_per_second = 0);
    let gate = gate.start(Server::bind("127.0.0.1:0").await.unwrap()).await.unwrap();
    let _following = file.follow(&gate);
    let mut client = Tlv::connect(gate.tcp_address().unwrap()).await;
    assert_eq!(until(&mut client, 2, 2).await, "im-1: x");
    // The gate has no handler for message 1: its own group is no back end.
    client.send(1, b"").await;
    assert_eq!(client.refusal().await.code, "unimplemented");
    client.send(7, b"").await;
    assert_eq!(client.refusal().await.code, "not_found");
    // A route more.
    replace(&routes, &ROUTES.replace("转发\"}", "转发\"}, {\"MsgID\": 7}"));
    assert_eq!(until(&mut client, 7, 7).await, "x");
    // What cannot be used changes nothing.
    replace(&routes, &ROUTES.replace("\"gate\"", "\"im2\"").replace("\"MsgID\":1", "\"MsgID\":2"));
    // Another back end in place of the first.
    write_nodes(&nodes, &[ims[1].0.address().port()]);
    timeout(PATIENCE, async { while until(&mut client, 2, 2).await != "im-2: x" {} }).await.unwrap();
    assert_eq!(until(&mut client, 7, 7).await, "x");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_an_error_of_the_start_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("route.json");
    let missing = RouteFile::read(&path).await.unwrap_err().to_string();
    assert!(missing.contains("route.json"), "{missing}");
    replace(&path, r#"{"im": [{"MsgID": 2, "Name": "send"}], "mail": [{"MsgID": 2, "Name": "post"}]}"#);
    let twice = RouteFile::read(&path).await.unwrap_err().to_string();
    assert!(["route.json", "message 2", "`im`", "`mail`"].iter().all(|part| twice.contains(part)), "{twice}");
}
