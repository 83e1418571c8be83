//! Clients of gates: one in this process, and those in Python, which share no code with the gate.

use std::{net::SocketAddr, path::Path, process::Stdio};

use ms_gate::{MemberId, Refusal};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::PATIENCE;

/// Client over TCP.
pub(crate) struct Tlv(pub(crate) TcpStream);

impl Tlv {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, msg_id: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        let frame = [&msg_id.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame; `None`: the gate has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<(u32, Vec<u8>)> {
        let read = async {
            let msg_id = self.0.read_u32().await.ok()?;
            let mut data = vec![0; self.0.read_u32().await.ok()? as usize];
            self.0.read_exact(&mut data).await.ok()?;
            Some((msg_id, data))
        };
        timeout(PATIENCE, read).await.expect("a frame, or the end")
    }

    pub(crate) async fn text(&mut self) -> (u32, String) {
        let (msg_id, data) = self.next().await.expect("a frame");
        (msg_id, String::from_utf8(data).unwrap())
    }

    pub(crate) async fn ask(&mut self, msg_id: u32, data: &str) -> (u32, String) {
        self.send(msg_id, data.as_bytes()).await;
        self.text().await
    }

    pub(crate) async fn refusal(&mut self) -> Refusal {
        let (msg_id, text) = self.text().await;
        assert_eq!(msg_id, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Id of its connection, as the gate's own handler tells it. Nothing else may have come before.
    pub(crate) async fn id(&mut self) -> MemberId {
        let (msg_id, text) = self.ask(1, "").await;
        assert_eq!(msg_id, 1, "{text}");
        text.trim().parse().unwrap()
    }
}

/// A program in Python.
pub(crate) struct Peer {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts `tlv.py` or `websocket.py`.
    pub(crate) fn start(script: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
        let mut command = Command::new("python3");
        command.arg(path).args([address.ip().to_string(), address.port().to_string()]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("python3 does not run: {error}"));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, input, lines: BufReader::new(output).lines() }
    }

    pub(crate) async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn send(&mut self, msg_id: u32, data: &[u8]) {
        self.say(&format!("send {msg_id} {}", hex(data))).await;
    }

    /// What it says next.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap();
        line.expect("the program still runs")
    }

    /// The message id of the frame that it gets next.
    pub(crate) async fn text_id(&mut self) -> u32 {
        let line = self.line().await;
        let id = line.strip_prefix("frame ").and_then(|rest| rest.split(' ').next());
        id.unwrap_or_else(|| panic!("no frame: {line}")).parse().unwrap()
    }

    /// The frame that it gets next.
    pub(crate) async fn text(&mut self) -> (u32, String) {
        let line = self.line().await;
        let words: Vec<_> = line.split(' ').collect();
        let ["frame", msg_id, data] = words[..] else { panic!("no frame: {line}") };
        (msg_id.parse().unwrap(), String::from_utf8(unhex(data)).unwrap())
    }

    pub(crate) async fn ask(&mut self, msg_id: u32, data: &str) -> (u32, String) {
        self.send(msg_id, data.as_bytes()).await;
        self.text().await
    }

    pub(crate) async fn refusal(&mut self) -> Refusal {
        let (msg_id, text) = self.text().await;
        assert_eq!(msg_id, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

pub(crate) fn hex(data: &[u8]) -> String {
    if data.is_empty() { "-".to_owned() } else { data.iter().map(|byte| format!("{byte:02x}")).collect() }
}

fn unhex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
