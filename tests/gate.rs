//! A gate as a process over a real etcd that goes away for a while.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ms_gate::{GateBackend, GateClient, Member, backend};
use ms_register::MsRegister;
use ms_rpc::{Blob, ClientProxy, RunningServer, Server};
use ms_tests::{Data, Program};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval, timeout},
};

/// The command `ms`.
const MS: &str = env!("CARGO_BIN_EXE_ms-in-tests");
/// Longest wait for something that is to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time from one message to the next: a client may send 1,000 a second.
const PACE: Duration = Duration::from_millis(10);

/// A back end that answers with its name.
struct Named(&'static str);

impl GateBackend for Named {
    async fn message(&self, _from: Member, _msg_id: u32, _data: Blob) -> Option<Blob> {
        Some(self.0.as_bytes().to_vec().into())
    }
}

async fn back_end(name: &'static str, registry: &Arc<dyn MsRegister>) -> RunningServer {
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone());
    server.serve_as("im", backend(Named(name).into())).start().await.unwrap()
}

/// A client of the gate.
struct Client(TcpStream);

impl Client {
    async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn hear(&mut self) -> (u32, String) {
        let read = async {
            let id = self.0.read_u32().await.unwrap();
            let mut data = vec![0; self.0.read_u32().await.unwrap() as usize];
            self.0.read_exact(&mut data).await.unwrap();
            (id, String::from_utf8(data).unwrap())
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// Sends message 2, whose answer must not be an error frame; returns the name of the back end.
    async fn answered_by(&mut self) -> String {
        self.0.write_all(b"\0\0\0\x02\0\0\0\x01x").await.unwrap();
        let (id, said) = self.hear().await;
        assert_eq!(id, 2, "an error frame: {said}");
        said
    }

    /// Sends messages until each of these back ends has answered one.
    async fn is_answered_by(&mut self, names: &[&str]) {
        let all = async {
            let (mut seen, mut pace) = (BTreeSet::new(), interval(PACE));
            while !names.iter().all(|name| seen.contains(*name)) {
                pace.tick().await;
                seen.insert(self.answered_by().await);
            }
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("not all of {names:?} answer"));
    }
}

/// How etcd goes away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// Its process ends, and starts again with its data.
    Killed,
    /// Its process stands still, with its sockets open: leases may end meanwhile.
    Frozen,
}

async fn etcd_is(away: Away, length: Duration) {
    let mut etcd = ms_tests::Server::etcd().await.unwrap();
    let registry = ms_register::connect(&etcd.url()).await.unwrap();
    let (_first, _second) = (back_end("im-1", &registry).await, back_end("im-2", &registry).await);
    let any = "127.0.0.1:0";
    let options = ["--messages", "im=2", "--balancer", "round-robin", "--tcp", any, "--rpc", any, "--http", any];
    let url = etcd.url();
    let arguments = [&["gate", "--registry", &url][..], &options].concat();
    let gate = Program::start(&Program::directory().unwrap(), MS, &arguments).await.unwrap();
    let pushes = GateClient::new(ClientProxy::new(registry.clone()));
    let mut client = Client::connect(gate.address_of("TCP")).await;
    client.is_answered_by(&["im-1", "im-2"]).await;
    assert_eq!(pushes.push_all(50, Blob::default()).await.unwrap().reached, 1);
    assert_eq!(client.hear().await.0, 50);

    match away {
        Away::Killed => etcd.kill(),
        Away::Frozen => etcd.freeze().unwrap(),
    }
    let back = Instant::now() + length;
    let added = ms_register::connect_in_background(&url).unwrap();
    let _third = back_end("im-3", &added).await;
    let (mut answered, mut pace) = (BTreeMap::<String, u32>::new(), interval(PACE));
    while pace.tick().await < back {
        *answered.entry(client.answered_by().await).or_default() += 1;
    }
    assert_eq!(answered.keys().collect::<Vec<_>>(), ["im-1", "im-2"], "{answered:?}");
    // Clients and pushes that come now find what all others have.
    let mut late = Client::connect(gate.address_of("TCP")).await;
    late.is_answered_by(&["im-1", "im-2"]).await;
    assert_eq!(pushes.push_all(50, Blob::default()).await.unwrap().reached, 2);
    assert_eq!((client.hear().await.0, late.hear().await.0), (50, 50));
    let listed = registry.list(&"im".parse().unwrap()).await;
    assert!(listed.is_err(), "etcd is not away: {listed:?}");

    match away {
        Away::Killed => etcd.start(Data::Kept).await.unwrap(),
        Away::Frozen => etcd.thaw().unwrap(),
    }
    client.is_answered_by(&["im-1", "im-2", "im-3"]).await;
    assert!(gate.stop().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_routed_by_the_last_list_while_etcd_is_down() {
    etcd_is(Away::Killed, Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_routed_by_the_last_list_while_etcd_is_frozen() {
    etcd_is(Away::Frozen, Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and more: the same at full length"]
async fn messages_are_routed_by_the_last_list_while_etcd_is_away_for_30_s() {
    for away in [Away::Killed, Away::Frozen] {
        etcd_is(away, Duration::from_secs(30)).await;
    }
}
