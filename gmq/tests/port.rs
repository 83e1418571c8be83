//! The port with a node behind it: connections that stall, go away, or ask for much at a time.
#![allow(clippy::unwrap_used)]

use std::{io, net::SocketAddr, time::Duration};

use ms_gmq::GmqServer;
use ms_mq::{Change, Engine, Look, Node, NodeConfig, NodeId, Pop, Push, QueueName, QueueStats};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Port {
    node: Node,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    _directory: TempDir,
}

impl Port {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::open(directory.path(), &NodeConfig::new(NodeId::new(1).unwrap())).unwrap();
        let server = GmqServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(node.clone(), async { drop(stopped.await) }));
        Self { node, address, stop: Some(stop), serving, _directory: directory }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn stats(&self) -> QueueStats {
        let (mut topics, _) =
            self.node.look(Look::Stats { topic: Some("t".into()), after: None }).await.unwrap().topics();
        topics.remove(0).queues.remove(0)
    }

    async fn until(&self, holds: impl Fn(&QueueStats) -> bool) {
        let begin = Instant::now();
        loop {
            let stats = self.stats().await;
            if holds(&stats) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{stats:?}");
            tokio::task::yield_now().await;
        }
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn answer(&mut self) -> (u16, String) {
        let read = async {
            let kind = self.0.read_u16().await?;
            let mut data = vec![0; self.0.read_u32().await? as usize];
            self.0.read_exact(&mut data).await?;
            io::Result::Ok((kind, String::from_utf8(data).unwrap()))
        };
        timeout(PATIENCE, read).await.unwrap().unwrap()
    }

    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> (u16, String) {
        self.send(bytes).await;
        self.answer().await
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.unwrap(), Ok(0) | Err(_))
    }
}

fn ok() -> (u16, String) {
    (103, "ok".to_owned())
}

fn with_body(line: &str, body: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b"\n", &(body.len() as u32).to_be_bytes(), body].concat()
}

#[tokio::test]
async fn answers_of_many_commands_at_once_come_in_their_order() {
    let port = Port::open().await;
    let mut client = port.client().await;
    let mut input = b"queue t k\n".to_vec();
    for number in 0..300 {
        input.extend(with_body("pub t k 0", number.to_string().as_bytes()));
        if number % 7 == 0 {
            input.extend(b"foo bar\n");
        }
    }
    input.extend(b"ack 1 t k\npop t k\npop t k\n");
    client.send(&input).await;
    assert_eq!(client.answer().await, ok());
    let mut last = 0;
    for number in 0..300 {
        let (kind, id) = client.answer().await;
        let id: u64 = id.parse().unwrap();
        assert!(kind == 103 && id > last, "{number}: {id}");
        last = id;
        if number % 7 == 0 {
            assert_eq!(client.answer().await, (102, "E_INVALID_CMD - unkown cmd: foo".to_owned()));
        }
    }
    assert_eq!(client.answer().await, (102, "E_INVALID_ACK - msgId:1 is not exist.".to_owned()));
    for number in 0..2 {
        let (kind, message) = client.answer().await;
        assert!(kind == 101 && message.contains(&format!(r#""body":"{number}","retry_count":0"#)), "{message}");
    }
    assert_eq!(port.stats().await.leased, 2);
}

#[tokio::test]
async fn a_pop_that_waits_ends_with_its_client_and_takes_nothing() {
    let port = Port::open().await;
    let mut client = port.client().await;
    assert_eq!(client.ask("queue t k\n").await, ok());
    client.send("pop t k\npin").await;
    client.0.shutdown().await.unwrap();
    // Seen by the server, which answers nothing.
    assert!(client.is_closed().await);
    port.node.push(Push::new("t", b"m".to_vec()).to("k")).await.unwrap();
    let mut other = port.client().await;
    let (kind, message) = other.ask("pop t k\n").await;
    assert!(kind == 101 && message.contains(r#""retry_count":0"#), "{message}");
}

#[tokio::test]
async fn a_message_whose_client_is_gone_is_there_again_without_a_retry() {
    let port = Port::open().await;
    let mut client = port.client().await;
    assert_eq!(client.ask("queue t k\n").await, ok());
    // The client takes no answer: its buffers fill up, and a write fails in the end.
    let body = vec![b'x'; 1 << 20];
    for _ in 0..16 {
        port.node.push(Push::new("t", body.clone()).to("k")).await.unwrap();
    }
    client.send("pop t k\n".repeat(16)).await;
    port.until(|stats| stats.leased > 0).await;
    drop(client);
    let mut other = port.client().await;
    let (_, message) = other.ask("pop t k\n").await;
    assert!(message.contains("\"retry_count\":0"));
    let begin = Instant::now();
    while port.stats().await.failed > 0 {
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_stalled_subscriber_is_dropped_and_delays_nobody() {
    let port = Port::open().await;
    let (mut stalled, mut reads, mut publisher) = (port.client().await, port.client().await, port.client().await);
    assert_eq!(stalled.ask("subscribe c\n").await, ok());
    assert_eq!(reads.ask("subscribe c\n").await, ok());
    let message = vec![b'm'; 256 << 10];
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begin = Instant::now();
        assert_eq!(publisher.ask(with_body("publish c", &message)).await, ok());
        let (kind, heard) = reads.answer().await;
        assert!(kind == 104 && heard.as_bytes() == message);
        slowest = slowest.max(begin.elapsed());
    }
    // Nobody waits for the stalled one: its time for a write is 10 s.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // It has what its buffers took, and then the end.
    let mut taken = Vec::new();
    let ended = timeout(PATIENCE, stalled.0.read_to_end(&mut taken)).await;
    assert!(ended.is_ok() && taken.len() < 200 * message.len(), "{}", taken.len());
    drop(reads);
    let begin = Instant::now();
    while publisher.ask("publish c gone\n").await != (102, "E_INVALID_PUBLISH - no subscribers".to_owned()) {
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_subscriber_may_do_other_things() {
    let port = Port::open().await;
    let (mut client, mut publisher) = (port.client().await, port.client().await);
    assert_eq!(client.ask("queue t k\n").await, ok());
    assert_eq!(client.ask("subscribe c\n").await, ok());
    client.send("pop t k\n").await;
    assert_eq!(publisher.ask("publish c hello\n").await, ok());
    assert_eq!(client.answer().await, (104, "hello".to_owned()), "while its pop waits");
    assert_eq!(publisher.ask(with_body("pub t k 0", b"m")).await.0, 103);
    assert_eq!(client.answer().await.0, 101);
}

#[tokio::test]
async fn the_end_of_the_server_ends_pops_and_connections() {
    let mut port = Port::open().await;
    let (mut waits, mut idle, mut silent) = (port.client().await, port.client().await, port.client().await);
    assert_eq!(waits.ask("queue t k\n").await, ok());
    waits.send("pop t k\n").await;
    assert_eq!(idle.ask("ack 1 t k\n").await.0, 102);
    silent.send("v1").await;
    port.stop.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, &mut port.serving).await.unwrap().unwrap();
    assert!(waits.is_closed().await && idle.is_closed().await && silent.is_closed().await);
}

#[tokio::test]
async fn one_connection_beyond_the_bound_waits_until_another_ends() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::open(directory.path(), &NodeConfig::new(NodeId::new(1).unwrap())).unwrap();
    let server = GmqServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().max_connections(1);
    let address = server.address();
    let serving = tokio::spawn(server.serve(node, std::future::pending()));
    let mut first = Client(TcpStream::connect(address).await.unwrap());
    assert_eq!(first.ask("queue t k\n").await, ok());
    let mut second = Client(TcpStream::connect(address).await.unwrap());
    second.send("queue t l\n").await;
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(200), second.0.peek(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(second.answer().await, ok());
    serving.abort();
}

#[tokio::test]
async fn messages_of_one_protocol_are_popped_by_all() {
    let port = Port::open().await;
    let mut text = port.client().await;
    let mut v111 = port.client().await;
    let id = port.node.push(Push::new("t", b"by the engine".to_vec())).await.unwrap();
    let (_, message) = text.ask("pop t\n").await;
    assert_eq!(message, format!(r#"{{"id":"{id}","body":"by the engine","retry_count":0}}"#));
    // Acked by another protocol, which is not told the topic.
    let ack = format!(r#"{{"JobId":{id}}}"#);
    v111.send([&b"v111\0\x03\0"[..], &[ack.len() as u8], b"ack", ack.as_bytes()].concat()).await;
    let mut answer = [0; 11];
    v111.0.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\0\x02\0\x07success");
    let (_, id) = text.ask(with_body("pub t 0", b"by text")).await;
    let popped = port.node.pop(&Pop::new("t", "default")).await.unwrap().remove(0);
    assert_eq!((popped.id.to_string(), &popped.body[..]), (id.clone(), &b"by text"[..]));
    let by_id = Change::AckById(QueueName::new("t", "default"), popped.id);
    assert_eq!(port.node.change(by_id).await.unwrap(), 1);
    assert_eq!(text.ask(format!("ack {id} t\n")).await.1, format!("E_INVALID_ACK - msgId:{id} is not exist."));
}
