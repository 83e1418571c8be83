//! `ms gate`: zinx-cluster's files as they are, two gates of which one is killed, TLS, and arguments that cannot be.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod running;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use ms_gate::{GateBackend, GateClient, Member, MemberId, Refusal, backend};
use ms_register::MsRegister;
use ms_rpc::{
    Blob, ClientProxy, RunningServer, Server,
    tls::{Expected, Protocol, Tls, dev::DevAuthority},
};
use nix::sys::signal::Signal;
use running::Running;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// A back end as in zinx-cluster's demo.
struct Im {
    name: &'static str,
    client: GateClient,
}

impl GateBackend for Im {
    async fn message(&self, from: Member, msg_id: u32, data: Blob) -> Option<Blob> {
        if msg_id == 3 {
            // NodeID 3 of zinx-cluster is an instance of the group.
            let other = self.client.forward("im", None, (from, 2, data)).await.unwrap();
            return Some([b"forwarded to ", &other.unwrap()[..]].concat().into());
        }
        Some([self.name.as_bytes(), b": ", &data].concat().into())
    }
}

/// A `dinx.json` with gates and back ends at free ports, and a `route.json`.
struct Files {
    folder: TempDir,
    /// A gate's are three in a row.
    gates: Vec<u16>,
    ims: Vec<u16>,
}

impl Files {
    fn new(gates: usize) -> Self {
        let mut taken = Vec::new();
        let mut next = || {
            let port = loop {
                // Below those that the system gives away, and one of many: other tests look for theirs at the same time.
                let port = 10_000 + fastrand::u16(0..4_900) * 4;
                if !taken.contains(&port) && (0..4).all(|above| TcpListener::bind(("127.0.0.1", port + above)).is_ok())
                {
                    break port;
                }
            };
            taken.push(port);
            port
        };
        let gates: Vec<_> = (0..gates).map(|_| next()).collect();
        let ims = vec![next(), next()];
        let files = Self { folder: tempfile::tempdir().unwrap(), gates, ims };
        let node = |id: usize, name: String, kind: u8, port: u16| {
            format!(
                "        {{ // a node\n            \"ID\": {id}, \"Name\": \"{name}\", \"Type\": {kind},\n            \
                 \"IP\": \"127.0.0.1\", // where it is\n            \"Port\": {port}, \"IsPass\": 1\n        }}"
            )
        };
        let gates = files.gates.iter().enumerate().map(|(at, port)| node(at + 1, format!("gate-{}", at + 1), 1, *port));
        let ims = files.ims.iter().enumerate().map(|(at, port)| node(at + 11, format!("im-{}", at + 1), 2, *port));
        let list = |nodes: Vec<String>| nodes.join(",\n");
        let dinx = format!(
            "// conf/dinx.json\n{{\n    \"gate\": [\n{}\n    ],\n    \"im\": [\n{}\n    ]\n}}\n",
            list(gates.collect()),
            list(ims.collect())
        );
        fs::write(files.path("dinx.json"), dinx).unwrap();
        let route = "// conf/route.json\n{\n    \"gate\": [\n        {\"MsgID\":1,\"Name\":\"登录\"}\n    ],\n    \"im\": [\n        \
            {\"MsgID\": 2, \"Name\": \"发送\"},\n        {\"MsgID\": 3, \"Name\": \"转发\"}\n    ]\n\n}\n";
        fs::write(files.path("route.json"), route).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["gate".to_owned()];
        for (option, name) in [("--dinx", "dinx.json"), ("--route", "route.json")] {
            arguments.extend([option.to_owned(), self.path(name).to_str().unwrap().to_owned()]);
        }
        arguments.extend(more.iter().map(|one| (*one).to_owned()));
        arguments
    }

    fn gate(&self, more: &[&str]) -> Running {
        Running::run(Command::new(env!("CARGO_BIN_EXE_ms")).args(self.arguments(more)))
    }

    async fn registry(&self) -> Arc<dyn MsRegister> {
        ms_register::connect(&format!("file://{}", self.path("dinx.json").display())).await.unwrap()
    }

    async fn client(&self) -> GateClient {
        GateClient::new(ClientProxy::new(self.registry().await))
    }

    async fn ims(&self) -> Vec<RunningServer> {
        let mut running = Vec::new();
        for (name, port) in ["im-1", "im-2"].into_iter().zip(&self.ims) {
            let im = Im { name, client: self.client().await };
            let server = Server::bind(&format!("127.0.0.1:{port}")).await.unwrap();
            running.push(server.serve_as("im", backend(im.into())).start().await.unwrap());
        }
        running
    }
}

fn refused(arguments: &[String], words: &[&str]) {
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_ms")).args(arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
}

/// A client over TCP, with its bytes written by hand.
struct Client(TcpStream);

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn ask(&mut self, msg_id: u32, data: &[u8]) -> (u32, String) {
        let head = [msg_id.to_be_bytes(), u32::try_from(data.len()).unwrap().to_be_bytes()].concat();
        self.0.write_all(&[&head, data].concat()).unwrap();
        self.hear()
    }

    fn hear(&mut self) -> (u32, String) {
        let mut head = [0; 8];
        self.0.read_exact(&mut head).unwrap();
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut data = vec![0; number(4) as usize];
        self.0.read_exact(&mut data).unwrap();
        (number(0), String::from_utf8(data).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_zinx_cluster_are_all_that_it_needs() {
    let files = Files::new(1);
    let _ims = files.ims().await;
    let gate = files.gate(&["--echo", "1"]);
    assert_eq!(gate.address("TCP"), format!("127.0.0.1:{}", files.gates[0]));
    assert_eq!(gate.address("WebSocket"), format!("127.0.0.1:{}", files.gates[0] + 1));
    assert_eq!(gate.address("RPC"), format!("127.0.0.1:{}", files.gates[0] + 2));
    let mut client = Client::connect(&gate.address("TCP"));
    assert_eq!(client.ask(1, b"login"), (1, "login".to_owned()));
    let (msg_id, said) = client.ask(2, b"x");
    assert!(msg_id == 2 && ["im-1: x", "im-2: x"].contains(&said.as_str()), "{said}");
    let (msg_id, said) = client.ask(3, b"x");
    assert!(msg_id == 3 && said.starts_with("forwarded to im-"), "{said}");
    assert!(client.ask(9, b"").1.contains("not_found"));
    // Back ends find the gate by the same file, and health and metrics tell of it.
    assert_eq!(files.client().await.push_all(50, Blob::from(b"all".to_vec())).await.unwrap().reached, 1);
    assert_eq!(client.hear(), (50, "all".to_owned()));
    assert_eq!(gate.get("/readyz"), "ready\n");
    let metrics = gate.get("/metrics");
    assert!(metrics.contains("ms_gate_members 1") && metrics.contains("ms_gate_pushed_total 1"), "{metrics}");
    gate.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_another_gate_notice_nothing_when_one_is_killed() {
    let files = Files::new(2);
    let _ims = files.ims().await;
    let [first, second] = ["1", "2"].map(|id| files.gate(&["--node-id", id]));
    let (mut a, mut b) = (Client::connect(&first.address("TCP")), Client::connect(&second.address("TCP")));
    assert_eq!((a.ask(2, b"x").0, b.ask(2, b"x").0), (2, 2));
    let client = files.client().await;
    assert_eq!(client.push_all(50, Blob::default()).await.unwrap().reached, 2);
    assert_eq!((a.hear().0, b.hear().0), (50, 50));
    assert_eq!(second.end_by(Signal::SIGKILL), None);
    assert_eq!(b.0.read(&mut [0; 8]).unwrap_or_default(), 0, "its own clients are cut off");
    for _ in 0..100 {
        assert_eq!(a.ask(2, b"x").0, 2);
    }
    let pushed = client.push_all(51, Blob::default()).await.unwrap();
    assert_eq!((pushed.reached, pushed.failed.len()), (1, 1), "{pushed:?}");
    assert_eq!(a.hear().0, 51);
    // Started again, it gives no number twice.
    let gate = format!("127.0.0.1:{}", files.gates[1] + 2);
    let second = files.gate(&["--node-id", "2"]);
    let (mut c, client) = (Client::connect(&second.address("TCP")), files.client().await);
    assert_eq!(c.ask(2, b"x").0, 2);
    let nobody = MemberId { gate: gate.as_str().into(), number: 1 };
    assert!(!client.push(&nobody, 52, Blob::default()).await.unwrap(), "not the first connection of now");
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_clients_and_back_ends_speak_tls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new(env!("CARGO_BIN_EXE_ms")).args(["tls", "dev", &path(""), "gate"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let addresses = ["--tcp", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let secure = ["--cert", &path("gate.pem"), "--key", &path("gate.key")];
    let gate = [&["gate", "--registry", "memory://", "--echo", "1"][..], &addresses, &secure].concat();
    let gate = Running::start(&gate);
    let (host, port) = gate.address("TCP").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let script = "import socket, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[3])\n\
        context.check_hostname = False\n\
        stream = context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2]))))\n\
        stream.sendall(b'\\0\\0\\0\\x01\\0\\0\\0\\x03tls')\n\
        print(stream.version(), stream.recv(11)[8:].decode())\n";
    let said = Command::new("python3").args(["-c", script, &host, &port, &path("ca.pem")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "TLSv1.3 tls\n", "{}", String::from_utf8_lossy(&said.stderr));
    let mut plain = Client::connect(&gate.address("TCP"));
    let (msg_id, refusal) = plain.ask(1, b"plain");
    assert!(msg_id == 0 && refusal.contains("this gate speaks TLS"), "{msg_id}: {refusal}");
    assert_eq!(plain.0.read(&mut [0]).unwrap(), 0, "the connection ends");
    gate.stop();
}

/// Asks a gate whose certificate this authority signed.
async fn ask_by_tls(ca: &str, gate: &Running, msg_id: u32, data: &[u8]) -> (u32, String) {
    let tls = Tls::one_way_client(ca).build().unwrap();
    let stream = tokio::net::TcpStream::connect(gate.address("TCP")).await.unwrap();
    let mut stream = tls.connect(stream, Expected::Host("127.0.0.1"), Protocol::HTTP).await.unwrap();
    let head = [msg_id.to_be_bytes(), u32::try_from(data.len()).unwrap().to_be_bytes()].concat();
    stream.write_all(&[&head, data].concat()).await.unwrap();
    let answer = async {
        let msg_id = stream.read_u32().await.unwrap();
        let mut data = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut data).await.unwrap();
        (msg_id, String::from_utf8(data).unwrap())
    };
    timeout(Duration::from_secs(20), answer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn back_ends_are_called_by_mutual_tls_and_strangers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (own, other) = (DevAuthority::new("dev").unwrap(), DevAuthority::new("dev").unwrap());
    let issued = own.issue("gate").unwrap();
    for (name, text) in [("ca.pem", own.ca()), ("gate.pem", issued.certificate), ("gate.key", issued.key)] {
        fs::write(path(name), text).unwrap();
    }
    let serve = async |group: &str, authority: &DevAuthority| {
        let client = GateClient::new(ClientProxy::new(ms_register::connect("memory://").await.unwrap()));
        let tls = authority.tls(group).unwrap().build().unwrap();
        let server = Server::bind("127.0.0.1:0").await.unwrap().tls(&tls);
        server.serve_as(group, backend(Im { name: "im-1", client }.into())).start().await.unwrap()
    };
    // One of our own, one of another authority, and one of ours under another name.
    let (im, stray, shop) = (serve("im", &own).await, serve("stray", &other).await, serve("shop", &own).await);
    let lists = format!("static://?im={}&stray={}&mail={}", im.address(), stray.address(), shop.address());
    let start = |log: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ms"));
        command.args([
            "gate",
            "--registry",
            &lists,
            "--messages",
            "im=2",
            "--messages",
            "stray=3",
            "--messages",
            "mail=4",
        ]);
        command.args([
            "--echo",
            "1",
            "--timeout-ms",
            "2000",
            "--backend-ca",
            &path("ca.pem"),
            "--backend-domain",
            "dev",
        ]);
        command.args(["--tcp", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(more);
        Running::logged(command.env_remove("RUST_LOG"), path(log).as_ref())
    };
    let refusal = |answer: (u32, String), msg_id: u32| {
        assert_eq!(answer.0, 0, "{answer:?}");
        let refusal: Refusal = serde_json::from_str(&answer.1).unwrap();
        assert_eq!((refusal.msg_id, refusal.code.as_ref()), (msg_id, "unavailable"), "{refusal:?}");
        assert!(!refusal.message.contains("127.0.0.1") && !refusal.message.contains("TLS"), "{refusal:?}");
    };

    let gate = start("log", &["--cert", &path("gate.pem"), "--key", &path("gate.key")]);
    let ca = path("ca.pem");
    assert_eq!(ask_by_tls(&ca, &gate, 2, b"x").await, (2, "im-1: x".to_owned()));
    refusal(ask_by_tls(&ca, &gate, 3, b"x").await, 3);
    refusal(ask_by_tls(&ca, &gate, 4, b"x").await, 4);
    assert_eq!(ask_by_tls(&ca, &gate, 2, b"still").await, (2, "im-1: still".to_owned()));
    gate.stop();
    let log = fs::read_to_string(path("log")).unwrap();
    for words in [
        format!(
            "{} cannot be reached: TLS: the server's certificate is refused: it is signed by an authority",
            stray.address()
        ),
        "its certificate is that of spiffe://dev/shop, localhost, spiffe://dev/mail is expected".to_owned(),
    ] {
        assert_eq!(log.matches(&words).count(), 1, "{words}: {log}");
    }

    // Back ends ask for a certificate: without one of its own, the gate is refused.
    let gate = start("anonymous", &[]);
    let mut client = Client::connect(&gate.address("TCP"));
    refusal(client.ask(2, b"x"), 2);
    assert_eq!(client.ask(1, b"alive"), (1, "alive".to_owned()));
    gate.stop();
    let log = fs::read_to_string(path("anonymous")).unwrap();
    assert!(log.contains("the server refused our certificate: there was none, and it needs one"), "{log}");
}

#[test]
fn arguments_that_cannot_be_are_refused_with_the_remedy() {
    let files = Files::new(2);
    refused(&files.arguments(&[]), &["node-id", "1, 2"]);
    refused(&files.arguments(&["--node-id", "7"]), &["node-id", "7"]);
    refused(&files.arguments(&["--node-id", "1", "--tcp", "0.0.0.0:0"]), &["tcp", "--cert", "--insecure"]);
    let loopback = ["--node-id", "1", "--tcp", "127.0.0.1:0", "--ws", "0.0.0.0:0"];
    refused(&files.arguments(&loopback), &["ws", "--cert", "--insecure"]);
    let twice = r#"{"im": [{"MsgID": 2, "Name": "send"}], "mail": [{"MsgID": 2, "Name": "post"}]}"#;
    fs::write(files.path("route.json"), twice).unwrap();
    refused(&files.arguments(&["--node-id", "1"]), &["route.json", "message 2", "`im`", "`mail`"]);
    let words = |arguments: &[&str]| arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    refused(&words(&["gate", "--registry", "memory://"]), &["--route", "--messages"]);
    refused(&words(&["gate", "--registry", "memory://", "--messages", "im"]), &["GROUP=ID,ID"]);
    refused(&words(&["gate", "--messages", "im=2"]), &["--registry", "--dinx"]);
    let unnamed = ["gate", "--registry", "memory://", "--messages", "im=2", "--backend-ca", "ca.pem"];
    refused(&words(&unnamed), &["backend-ca", "--backend-domain"]);
}
