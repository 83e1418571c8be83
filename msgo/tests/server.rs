//! Clients of msgo at a server: a Python program with protobuf, and this project's own.

#![allow(clippy::unwrap_used)]

mod goods;

use std::{fs, time::Duration};

use goods::{GoodsClient, Item, peer, server};
use metrics_util::{
    CompositeKey,
    debugging::{DebugValue, DebuggingRecorder},
};
use ms_msgo::MsgoClient;
use ms_rpc::{Client, Code, Outcome, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};

/// The most memory that this process has used, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_msgo_finds_what_it_expects_and_nothing_breaks_the_server() {
    let server = server().await.limits(|limits| limits.hello_timeout = Duration::from_secs(2));
    let server = server.start().await.unwrap();
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let before = peak();
    let ended =
        spawn_blocking(move || peer("msgo_client.py", &[&host, &port]).wait_with_output().unwrap()).await.unwrap();
    let steps = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "the last step that went well: {:?}", steps.lines().last());
    assert_eq!(steps.lines().last(), Some("half closed"));
    let grown = peak() - before;
    assert!(grown < 96 << 20, "a gigabyte that was 1 MiB on the wire took {grown} bytes");
    // The port serves its own clients at the same time.
    let own = GoodsClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    assert_eq!(own.find(5).await.unwrap().id, 5);
    server.shutdown().await;
}

#[tokio::test]
async fn typed_clients_call_in_version_1() {
    let server = server().await.start().await.unwrap();
    let goods = GoodsClient::new(MsgoClient::to(server.address().to_string()).channel());
    assert_eq!(goods.find(5).await.unwrap(), Item { id: 5, name: "item 5".to_owned() });
    assert_eq!(goods.find_all(3).await.unwrap().len(), 3);
    let error = goods.find(-1).await.unwrap_err();
    assert_eq!((error.code(), error.status().unwrap().message()), (Code::Unknown, "no item -1"));
    let beyond = goods.find((1 << 53) + 1).await.unwrap_err();
    assert_eq!(beyond.code(), Code::InvalidArgument);
    assert!(beyond.to_string().contains("9007199254740993 is beyond 2^53"), "{beyond}");
    goods.limited().await.unwrap();
    let limited = goods.limited().await.unwrap_err();
    assert_eq!((limited.code(), limited.outcome()), (Code::ResourceExhausted, Outcome::Refused));
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_read() {
    let server = server().await.start().await.unwrap();
    let mut idle = TcpStream::connect(server.address()).await.unwrap();
    idle.write_all(&[0x1d, 1]).await.unwrap();
    let goods = GoodsClient::new(MsgoClient::to(server.address().to_string()).channel());
    goods.find(1).await.unwrap();
    timeout(Duration::from_secs(10), server.shutdown()).await.expect("an idle guest holds nobody up");
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    let error = goods.find(1).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent), "{error}");
}

#[tokio::test]
async fn without_the_protocol_its_clients_are_refused() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(goods::GoodsServer::new(goods::Shop));
    let server = server.start().await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(&[0x1d, 1, 0, 0, 0, 17]).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("protocol version 1 is not spoken here"), "{said:?}");
    server.shutdown().await;
}

#[test]
fn calls_are_measured_like_all_others() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = server().await.measured().start().await.unwrap();
        let goods = GoodsClient::new(MsgoClient::to(server.address().to_string()).channel());
        for id in [1, 2, -1] {
            let _ = goods.find(id).await;
        }
        server.shutdown().await;
    });
    let is_call = |key: &CompositeKey, code: &str| {
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        key.key().name() == "ms_rpc_calls_total"
            && [("side", "server"), ("service", "goods"), ("method", "find"), ("code", code)]
                .iter()
                .all(|label| labels.contains(label))
    };
    let counted = snapshotter.snapshot().into_vec();
    let count = |code| {
        counted.iter().find_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) if is_call(key, code) => Some(*count),
            _ => None,
        })
    };
    assert_eq!((count("ok"), count("unknown")), (Some(2), Some(1)), "{counted:?}");
}
