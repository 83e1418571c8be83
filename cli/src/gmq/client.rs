//! `ms gclient`: gmq's client, by its command line.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Words,
    flags::{self, Known, Values},
    register::{self, Listed},
};
use crate::exit::Failure;

const OPTIONS: &[Known] = &[
    (
        "cmd",
        "push, mpush, pop, pop_loop, ack, dead, declare, set, publish, subscribe, push_by_weight, push_by_rand, push_by_avg, pop_by_weight (push)",
    ),
    ("node_addr", "TCP address of the node (127.0.0.1:9503)"),
    ("register_addr", "register whose nodes the commands push_by_.. and pop_by_.. take (http://127.0.0.1:9595)"),
    ("topic", "topic (golang)"),
    ("bind_key", "queue (default)"),
    ("route_key", "queues of a push (the queue default)"),
    ("push_num", "number of messages that are pushed (100)"),
    ("pop_num", "number of messages that are popped (1)"),
    ("msg_id", "message that is acked"),
    ("auto_ack", "1 or 0, for set"),
    ("channel", "channel (golang)"),
    ("message", "message of a channel, or body of the pushed messages"),
];

/// Time for a connection, and for an answer other than that of a pop.
const WITHIN: Duration = Duration::from_secs(10);
/// Pause of a loop after an error.
const AGAIN: Duration = Duration::from_secs(3);
/// Most messages of one `mpub`.
const MESSAGES: usize = 1000;
/// Bytes of an answer.
const LARGEST: u32 = 16 << 20;

const MESSAGE: u16 = 101;
const ERROR: u16 = 102;
const HEARTBEAT: u16 = 105;

struct Options(Values);

impl Options {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty()).unwrap_or(default)
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Failure> {
        let text = self.text(name, "");
        if text.is_empty() {
            return Ok(default);
        }
        text.parse().map_err(|_| Failure::Usage(format!("{name}: {text:?} is no number from 0 up")))
    }

    fn topic(&self) -> &str {
        self.text("topic", "golang")
    }

    fn pop(&self) -> String {
        format!("pop {} {}", self.topic(), self.text("bind_key", ""))
    }

    /// The line of a `pub`, and its body.
    fn push(&self, number: usize) -> (String, String) {
        let line = format!("pub {} {} 0", self.topic(), self.text("route_key", ""));
        (line, self.body(number))
    }

    fn body(&self, number: usize) -> String {
        self.0.get("message").cloned().unwrap_or_else(|| format!("golang_{number}"))
    }
}

pub(crate) async fn run(words: Words) -> Result<(), Failure> {
    if words.help(OPTIONS) {
        return Ok(());
    }
    let options = Options(flags::parse(&words.words, OPTIONS, &[]).map_err(Failure::Usage)?);
    let begin = Instant::now();
    let address = options.text("node_addr", "127.0.0.1:9503");
    let count = options.number("push_num", 100)?;
    let topic = options.topic();
    match options.text("cmd", "push") {
        by @ ("push_by_weight" | "push_by_rand" | "push_by_avg" | "pop_by_weight") => {
            cluster(&options, by, count).await?
        }
        "pop_loop" => Client::connect(address).await?.pop_loop(&options.pop()).await?,
        "subscribe" => {
            let mut client = Client::connect(address).await?;
            client.print(&format!("subscribe {}", options.text("channel", "golang")), None).await?;
            loop {
                let (kind, data) = client.read().await?;
                say(kind, "result", &data)?;
            }
        }
        "push" => {
            let mut client = Client::connect(address).await?;
            for number in 0..count {
                let (line, body) = options.push(number);
                client.push(&line, &body).await?;
            }
        }
        "mpush" => {
            let mut client = Client::connect(address).await?;
            for begin in (0..count).step_by(MESSAGES) {
                client.push_all(&options, begin..count.min(begin + MESSAGES)).await?;
            }
        }
        "pop" => {
            let mut client = Client::connect(address).await?;
            for _ in 0..options.number("pop_num", 1)? {
                client.print(&options.pop(), None).await?;
            }
        }
        command => {
            let (queue, channel) = (options.text("bind_key", ""), options.text("channel", "golang"));
            let (line, body) = match command {
                "declare" | "delcare" => (format!("queue {topic} {queue}"), None),
                "ack" => (format!("ack {} {topic} {queue}", options.text("msg_id", "")), None),
                "dead" => (format!("dead {topic} {queue}"), None),
                "set" => (format!("set {topic} {}", options.text("auto_ack", "0")), None),
                "publish" => (format!("publish {channel}"), Some(options.text("message", "golang"))),
                other => return Err(Failure::Usage(format!("unknown '{other}' command\n{}", flags::usage(OPTIONS)))),
            };
            Client::connect(address).await?.print(&line, body).await?;
        }
    }
    // The reader may be gone.
    let _ = writeln!(std::io::stderr(), "{:?} in total.", begin.elapsed());
    Ok(())
}

/// Pushes to, or pops from, the nodes of a register in turn.
async fn cluster(options: &Options, by: &str, count: usize) -> Result<(), Failure> {
    let register = options.text("register_addr", "http://127.0.0.1:9595");
    let nodes = register::nodes(register).await.map_err(Failure::Unreachable)?;
    if nodes.is_empty() {
        return Err(Failure::Unreachable(format!("{register} lists no node")));
    }
    let mut clients = BTreeMap::new();
    let mut number = 0;
    while by == "pop_by_weight" || number < count {
        let node = match by {
            "push_by_avg" => &nodes[number % nodes.len()],
            "push_by_rand" => &nodes[fastrand::usize(..nodes.len())],
            _ => weighted(&nodes),
        };
        let client = match clients.entry(&node.tcp_addr) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(Client::connect(&node.tcp_addr).await?),
        };
        if by == "pop_by_weight" {
            client.print(&options.pop(), None).await?;
        } else {
            let (line, body) = options.push(number);
            client.push(&line, &body).await?;
        }
        number += 1;
    }
    Ok(())
}

/// A node by its weight; any of them if all weights are 0.
fn weighted(nodes: &[Listed]) -> &Listed {
    let total: u64 = nodes.iter().map(|node| u64::from(node.weight)).sum();
    let mut left = if total == 0 { 0 } else { fastrand::u64(..total) };
    for node in nodes {
        if left < node.weight.into() {
            return node;
        }
        left -= u64::from(node.weight);
    }
    &nodes[fastrand::usize(..nodes.len())]
}

/// A connection to a node.
struct Client(TcpStream);

impl Client {
    async fn connect(address: &str) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| Failure::Unreachable(format!("{address}: {error}"));
        let connected = timeout(WITHIN, TcpStream::connect(address)).await;
        let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        // Answers may come later without it.
        let _ = stream.set_nodelay(true);
        Ok(Self(stream))
    }

    async fn send(&mut self, line: &str, bodies: &[Vec<u8>]) -> Result<(), Failure> {
        let mut bytes = format!("{line}\n").into_bytes();
        for body in bodies {
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(body);
        }
        let sent = timeout(WITHIN, self.0.write_all(&bytes)).await;
        sent.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(lost)
    }

    /// Reads an answer, however long it takes.
    async fn read(&mut self) -> Result<(u16, String), Failure> {
        let kind = self.0.read_u16().await.map_err(lost)?;
        let length = self.0.read_u32().await.map_err(lost)?;
        if length > LARGEST {
            return Err(Failure::Refused(format!("an answer of {length} bytes: at most {LARGEST} are read")));
        }
        let mut data = vec![0; length as usize];
        self.0.read_exact(&mut data).await.map_err(lost)?;
        Ok((kind, String::from_utf8_lossy(&data).into_owned()))
    }

    /// The answer to a command; heartbeats are none.
    async fn answer(&mut self) -> Result<(u16, String), Failure> {
        loop {
            let answer = self.read().await?;
            if answer.0 != HEARTBEAT {
                return Ok(answer);
            }
        }
    }

    async fn ask(&mut self, line: &str, body: Option<&str>) -> Result<(u16, String), Failure> {
        let bodies: Vec<_> = body.into_iter().map(|body| body.as_bytes().to_vec()).collect();
        self.send(line, &bodies).await?;
        self.answer().await
    }

    async fn print(&mut self, line: &str, body: Option<&str>) -> Result<(), Failure> {
        let (kind, data) = self.ask(line, body).await?;
        say(kind, "result", &data)?;
        refused(kind, data)
    }

    async fn push(&mut self, line: &str, body: &str) -> Result<(), Failure> {
        let (kind, data) = self.ask(line, Some(body)).await?;
        say(kind, "msg.id", &data)?;
        refused(kind, data)
    }

    async fn push_all(&mut self, options: &Options, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
        let line = format!("mpub {} {}", options.topic(), numbers.len());
        let (topic, route_key) = (options.topic(), options.text("route_key", ""));
        let item = |number| json!({ "body": options.body(number), "topic": topic, "delay": 0, "route_key": route_key });
        let items: Vec<_> = numbers.map(|number| item(number).to_string().into_bytes()).collect();
        self.send(&line, &items).await?;
        let (kind, data) = self.answer().await?;
        say(kind, "result", &data)?;
        refused(kind, data)
    }

    async fn pop_loop(&mut self, line: &str) -> Result<(), Failure> {
        loop {
            let (kind, data) = self.ask(line, None).await?;
            if kind == MESSAGE {
                writeln!(std::io::stdout(), "recv msg:{data}")?;
            } else {
                writeln!(std::io::stdout(), "{data}")?;
                sleep(AGAIN).await;
            }
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Unreachable(format!("the connection is lost: {error}"))
}

fn say(kind: u16, what: &str, data: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "rtype:{kind}, {what}:{data}")?)
}

fn refused(kind: u16, data: String) -> Result<(), Failure> {
    if kind == ERROR { Err(Failure::Refused(data)) } else { Ok(()) }
}
