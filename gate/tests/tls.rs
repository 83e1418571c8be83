//! Clients over TLS, and what others are told: pages of other origins, and whoever speaks plaintext.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::{fs, net::SocketAddr};

use ms_gate::RunningGate;
use ms_security::tls::{Pem, Tls, dev::DevAuthority};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use support::{Cluster, PATIENCE, Peer, Tlv};

/// A gate that speaks TLS to its clients, and a folder with the authority that they trust.
async fn gate(cluster: &Cluster) -> (RunningGate, TempDir) {
    let authority = DevAuthority::new("test").unwrap();
    let issued = authority.issue("gate").unwrap();
    let tls = Tls::one_way_server(Pem::bytes(issued.certificate), Pem::bytes(issued.key)).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), authority.ca()).unwrap();
    let gate = cluster.gate().tls(&tls).origin("https://chat.example.com");
    (cluster.start(gate).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_over_tls_are_answered_and_pages_of_other_origins_are_not() {
    let cluster = Cluster::new();
    let _ims = cluster.ims().await;
    let (gate, folder) = gate(&cluster).await;
    let authorities = folder.path().join("ca.pem");
    let start = |origin: &[&str]| {
        let arguments = [&["--ca", authorities.to_str().unwrap()], origin].concat();
        Peer::start("websocket.py", gate.web_socket_address().unwrap(), &arguments)
    };
    let mut client = start(&[]);
    let (msg_id, said) = client.ask(1, "who am I?").await;
    assert!(msg_id == 1 && said.ends_with(" who am I?"), "{said}");
    let (msg_id, said) = client.ask(2, "hello").await;
    assert!(msg_id == 2 && said.ends_with(": hello"), "{said}");
    // More than one record of TLS (16 KiB), there and back.
    let long = "x".repeat(60_000);
    assert_eq!(client.ask(99_999, &long).await, (99_999, long));
    assert_eq!(gate.members(), 1);

    for forged in
        ["https://evil.example.com", "http://chat.example.com", "https://chat.example.com.evil.example", "null"]
    {
        assert_eq!(start(&[forged]).line().await, "refused 403", "{forged}");
    }
    assert_eq!(start(&["https://chat.example.com"]).ask(1, "page").await.0, 1);
    assert_eq!(client.ask(1, "still here").await.0, 1);
}

/// Sends this in plaintext, and reads until the end.
async fn plaintext(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_where_tls_is_spoken_is_refused_in_words() {
    let cluster = Cluster::new();
    let ims = cluster.ims().await;
    let (gate, _folder) = gate(&cluster).await;
    let mut client = Tlv::connect(gate.tcp_address().unwrap()).await;
    client.send(2, b"in plaintext").await;
    let refusal = client.refusal().await;
    assert_eq!((refusal.msg_id, refusal.code.as_ref()), (0, "invalid_argument"), "{refusal:?}");
    assert!(refusal.message.contains("this gate speaks TLS"), "{refusal:?}");
    assert_eq!(client.next().await, None);

    let upgrade = "GET / HTTP/1.1\r\nHost: gate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = plaintext(gate.web_socket_address().unwrap(), upgrade).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("use wss://"), "{answer}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    assert_eq!(gate.members(), 0);
    assert!(ims.iter().all(|(_, im)| im.heard.lock().unwrap().is_empty()), "nothing of it reached a back end");
}
