//! Any bytes at every port of every program: nothing ends, memory stays bounded, and good clients are served.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ms_msgo::{MsgoClient, Version1};
use ms_rpc::{AnyChannel, Client, HealthClient, Server};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

/// The command `ms`.
const MS: &str = env!("CARGO_BIN_EXE_ms-in-tests");
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory of a program, in bytes, with that many strangers at it.
const MOST_MEMORY: usize = 400 << 20;
/// Strangers at a port at a time.
const STRANGERS: usize = 8;

/// Begins that lead strangers further into a parser.
const BEGINS: &[&[u8]] = &[
    b"",
    b"\x1d\x02\0\0\0\x40",
    b"\x1d\x01\0\0\xff\xff\0\0\x01\0\0\0\0\0\0\0\x01\x1f\x8b\x08\0\0\0\0\0",
    b"\x16\x03\x01\x02\0\x01",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"pub t k 0\n\xff\xff\xff\xff",
    b"mpub t 1000\n\0\0\0\x01",
    b"subscribe c\n",
    b"v111\x7f\xff\x7f\xff",
    b"\0\0\0\x01\xff\xff\xff\xff",
    b"\0\0\0\x01\0\0\0\x04",
];

/// A process of `ms`, which dies when this is dropped.
struct Program {
    process: Child,
    said: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(MS);
        command.args(arguments).env_remove("MS_REGISTRY").env_remove("RUST_LOG");
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains(" is ready: "), "{arguments:?} said {said:?}");
        Self { process, said }
    }

    /// The address after this word in the line that says ready.
    fn address(&self, word: &str) -> String {
        let rest = self.said.split_once(&format!("{word} on ")).unwrap().1;
        rest.split([',', '\n', ' ']).next().unwrap().to_owned()
    }

    /// It runs, with little memory.
    fn is_well(&mut self) {
        assert_eq!(self.process.try_wait().unwrap(), None, "{} ended", self.said);
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let bytes = line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024;
        assert!(bytes < MOST_MEMORY, "{} uses {bytes} bytes", self.said);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends any bytes to a port until `end`; returns how many connections it made.
async fn strangers(address: String, end: Instant) -> usize {
    let mut made = 0;
    while Instant::now() < end {
        // The port may have no room at the moment.
        let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(&address)).await else { continue };
        made += 1;
        let mut bytes = BEGINS[fastrand::usize(..BEGINS.len())].to_vec();
        bytes.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(1 << fastrand::usize(..16)));
        let at_once = if fastrand::bool() { bytes.len() } else { fastrand::usize(1..=bytes.len()) };
        let talk = async {
            for part in bytes.chunks(at_once) {
                stream.write_all(part).await?;
            }
            if fastrand::bool() {
                stream.shutdown().await?;
            }
            stream.read(&mut [0; 1024]).await
        };
        // A refusal, an end and silence are all good answers.
        let _ = timeout(Duration::from_millis(fastrand::u64(1..50)), talk).await;
    }
    made
}

/// What comes back from a port for these bytes, so many of it.
async fn ask(address: &str, bytes: &[u8], count: usize) -> Vec<u8> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = vec![0; count];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    };
    timeout(PATIENCE, asked).await.unwrap()
}

async fn http(address: &str, target: &str) -> u16 {
    timeout(PATIENCE, ms_tests::request("GET", address, target)).await.unwrap().unwrap().status
}

async fn attacked(time: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let settings = directory.path().join("lb.toml");
    fs::write(&settings, "registry = \"memory://\"\n[[rule]]\nmatch = \"^/shop\"\nservice = \"shop\"\n").unwrap();
    let any = "127.0.0.1:0";
    let mut node = Program::start(
        &[&["mq-node", "--data", data.to_str().unwrap(), "--rpc", any, "--http", any][..], &["--gmq-tcp", any]]
            .concat(),
    );
    let mut gate = Program::start(
        &[
            &["gate", "--registry", "memory://", "--echo", "1", "--max-per-address", "100000"][..],
            &["--tcp", any, "--ws", any, "--rpc", any, "--http", any],
        ]
        .concat(),
    );
    let mut balancer = Program::start(&["lb", "http", "--config", settings.to_str().unwrap(), "--listen", any]);
    let guests = Server::bind(any).await.unwrap().protocol(Version1).serve(stand::server());
    let guests = guests.start().await.unwrap();

    let ports = [
        node.address("RPC"),
        node.address("HTTP"),
        node.address("gmq"),
        gate.address("TCP"),
        gate.address("WebSocket"),
        gate.address("RPC"),
        gate.address("HTTP"),
        balancer.address("HTTP"),
        guests.address().to_string(),
    ];
    let (mut tasks, end) = (JoinSet::new(), Instant::now() + time);
    for port in &ports {
        (0..STRANGERS).for_each(|_| drop(tasks.spawn(strangers(port.clone(), end))));
    }
    let mut made = 0;
    while let Some(ended) = tasks.join_next().await {
        made += ended.unwrap();
        [&mut node, &mut gate, &mut balancer].into_iter().for_each(Program::is_well);
    }
    println!("{made} connections of strangers in {time:?}");
    assert!(made > 100 * ports.len(), "too few to tell: {made}");

    for rpc in [&ports[0], &ports[5]] {
        let client = timeout(PATIENCE, Client::connect(rpc)).await.unwrap().unwrap();
        HealthClient::new(client).service("gate".to_owned()).await.unwrap();
    }
    assert_eq!((http(&ports[1], "/healthz").await, http(&ports[6], "/healthz").await), (200, 200));
    assert_eq!(ask(&ports[2], b"queue well k\n", 8).await, b"\0\x67\0\0\0\x02ok");
    let frame = b"\0\0\0\x01\0\0\0\x02hi";
    assert_eq!(ask(&ports[3], frame, frame.len()).await, frame);
    let upgrade = [BEGINS[6].split(|byte| *byte == 0x82).next().unwrap()].concat();
    assert!(ask(&ports[4], &upgrade, 12).await.starts_with(b"HTTP/1.1 101"));
    // Nobody is there for the service; the rest has no rule.
    assert_eq!((http(&ports[7], "/shop").await, http(&ports[7], "/").await), (503, 404));
    let own = AnyChannel::from(Client::connect(&ports[8]).await.unwrap());
    assert_eq!(own.call("stand", "twice", &json!([4])).await.unwrap(), json!(8));
    let guest = MsgoClient::to(ports[8].clone()).channel();
    assert_eq!(guest.call("stand", "twice", &json!([4])).await.unwrap(), json!(8));
}

/// A service behind msgo's frames.
mod stand {
    #[ms_rpc::service(name = "stand")]
    pub(crate) trait Stand {
        async fn twice(&self, number: u32) -> u64;
    }

    struct Calculator;

    impl Stand for Calculator {
        async fn twice(&self, number: u32) -> u64 {
            u64::from(number) * 2
        }
    }

    pub(crate) fn server() -> impl ms_rpc::Service {
        StandServer::new(Calculator)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_at_every_port_end_nothing() {
    attacked(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: the same at full length"]
async fn any_bytes_at_every_port_end_nothing_for_a_minute() {
    attacked(Duration::from_secs(60)).await;
}
