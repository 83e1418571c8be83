//! The wire format a second time, written from its description and sharing nothing with the library: what both agree on
//! is the format. Frames are built by hand, so that every byte of them can be wrong.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

pub const REQUEST: u8 = 0;
pub const RESPONSE: u8 = 1;
pub const PING: u8 = 2;
pub const PONG: u8 = 3;
pub const CANCEL: u8 = 4;
pub const GOAWAY: u8 = 5;
pub const HELLO: u8 = 9;

pub const BINCODE: u8 = 0;
pub const JSON: u8 = 1;
pub const NO_VALUE: u8 = 255;

pub const SERVICE_ERROR: u8 = 1;
pub const NOT_EXECUTED: u8 = 2;

/// Nothing that is expected takes longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// 17 bytes of header with the right length, and the body.
pub fn frame(kind: u8, compression: u8, codec: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let length = (17 + body.len()) as u32;
    let mut bytes = vec![0x1d, 2];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[kind, compression, codec]);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn control(kind: u8, id: u64) -> Vec<u8> {
    frame(kind, 0, NO_VALUE, id, &[])
}

/// A list of tag, length, value.
pub fn hello(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (tag, value) in entries {
        body.push(*tag);
        body.extend_from_slice(&(value.len() as u16).to_be_bytes());
        body.extend_from_slice(value);
    }
    frame(HELLO, 0, NO_VALUE, 0, &body)
}

pub fn client_hello() -> Vec<u8> {
    hello(&[(16, b"raw")])
}

pub fn server_hello() -> Vec<u8> {
    hello(&[
        (2, &7u64.to_be_bytes()),
        (4, &(4u32 << 20).to_be_bytes()),
        (5, &1024u32.to_be_bytes()),
        (6, &[0, 1]),
        (7, &[0, 1, 2]),
    ])
}

pub fn goaway(last_id: u64, reason: &str) -> Vec<u8> {
    let mut body = last_id.to_be_bytes().to_vec();
    body.extend_from_slice(&(reason.len() as u16).to_be_bytes());
    body.extend_from_slice(reason.as_bytes());
    frame(GOAWAY, 0, NO_VALUE, 0, &body)
}

/// A request whose every field can be wrong.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    pub compression: u8,
    pub codec: u8,
    pub head_length: Option<u16>,
    pub flags: u8,
    pub timeout_ms: u32,
    pub service: Vec<u8>,
    pub method: Vec<u8>,
    pub argc: u8,
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub extra: Vec<u8>,
    pub arguments: Vec<u8>,
}

impl Request {
    /// A good one, in JSON.
    pub fn json(id: u64, method: &str, argc: u8, arguments: &str) -> Self {
        Self {
            id,
            compression: 0,
            codec: JSON,
            head_length: None,
            flags: 0,
            timeout_ms: 10_000,
            service: b"shop".to_vec(),
            method: method.as_bytes().to_vec(),
            argc,
            pairs: Vec::new(),
            extra: Vec::new(),
            arguments: arguments.as_bytes().to_vec(),
        }
    }

    /// A good one, in bincode, if `arguments` are.
    pub fn bincode(id: u64, method: &str, argc: u8, arguments: Vec<u8>) -> Self {
        Self { codec: BINCODE, arguments, ..Self::json(id, method, argc, "") }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = vec![self.flags];
        head.extend_from_slice(&self.timeout_ms.to_be_bytes());
        for name in [&self.service, &self.method] {
            head.push(name.len() as u8);
            head.extend_from_slice(name);
        }
        head.push(self.argc);
        head.push(self.pairs.len() as u8);
        for (key, value) in &self.pairs {
            head.push(key.len() as u8);
            head.extend_from_slice(key);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value);
        }
        head.extend_from_slice(&self.extra);
        let head_length = self.head_length.unwrap_or(head.len() as u16);
        let body = [&head_length.to_be_bytes()[..], &head, &self.arguments].concat();
        frame(REQUEST, self.compression, self.codec, self.id, &body)
    }
}

/// A response whose every field can be wrong.
#[derive(Clone, Debug)]
pub struct Response {
    pub id: u64,
    pub compression: u8,
    pub codec: u8,
    pub code: u8,
    pub flags: u8,
    pub message: String,
    pub pairs: Vec<(&'static str, &'static [u8])>,
    pub value: Vec<u8>,
}

impl Response {
    /// A good one, in bincode, if `value` is.
    pub fn ok(id: u64, value: &[u8]) -> Self {
        let value = value.to_vec();
        Self { id, compression: 0, codec: BINCODE, code: 0, flags: 0, message: String::new(), pairs: Vec::new(), value }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = vec![self.code, self.flags, 0, 0, 0, 0];
        head.extend_from_slice(&(self.message.len() as u16).to_be_bytes());
        head.extend_from_slice(self.message.as_bytes());
        head.push(self.pairs.len() as u8);
        for (key, value) in &self.pairs {
            head.push(key.len() as u8);
            head.extend_from_slice(key.as_bytes());
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value);
        }
        let body = [&(head.len() as u16).to_be_bytes()[..], &head, &self.value].concat();
        frame(RESPONSE, self.compression, self.codec, self.id, &body)
    }
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub compression: u8,
    pub codec: u8,
    pub id: u64,
    pub body: Vec<u8>,
}

/// The head of a response, and the value behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: u64,
    pub codec: u8,
    pub code: u8,
    pub flags: u8,
    pub message: String,
    pub value: Vec<u8>,
}

impl Frame {
    pub fn answer(&self) -> Answer {
        assert_eq!(self.kind, RESPONSE, "{self:?}");
        let head_length = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let (head, value) = self.body[2..].split_at(head_length);
        let message_length = usize::from(u16::from_be_bytes([head[6], head[7]]));
        Answer {
            id: self.id,
            codec: self.codec,
            code: head[0],
            flags: head[1],
            message: String::from_utf8(head[8..8 + message_length].to_vec()).unwrap(),
            value: value.to_vec(),
        }
    }

    /// The last id taken, and the reason.
    pub fn goaway(&self) -> (u64, String) {
        assert_eq!((self.kind, self.id), (GOAWAY, 0), "{self:?}");
        let (last_id, reason) = self.body.split_first_chunk::<8>().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([reason[0], reason[1]])), reason.len() - 2);
        (u64::from_be_bytes(*last_id), String::from_utf8(reason[2..].to_vec()).unwrap())
    }

    /// The names of a request.
    pub fn names(&self) -> (String, String) {
        assert_eq!(self.kind, REQUEST, "{self:?}");
        let text = |at: usize| {
            let end = at + 1 + usize::from(self.body[at]);
            (String::from_utf8(self.body[at + 1..end].to_vec()).unwrap(), end)
        };
        let (service, end) = text(7);
        (service, text(end).0)
    }
}

/// One end of a socket, in bytes.
#[derive(Debug)]
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A client that has exchanged HELLO.
    pub async fn client(address: SocketAddr) -> Self {
        Self::connect(address).await.greeted().await
    }

    /// The same, whose socket takes little that is not read.
    pub async fn client_that_buffers_little(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(address).await.unwrap();
        Self { stream }.greeted().await
    }

    async fn greeted(mut self) -> Self {
        self.send(&client_hello()).await;
        assert_eq!(self.frame().await.kind, HELLO);
        self
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("nothing is read there").unwrap();
    }

    /// The next frame; `None` when the other side has closed its own.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.next_within()).await.expect("nothing came")
    }

    pub async fn next_within(&mut self) -> Option<Frame> {
        let mut header = [0; 17];
        if self.stream.read(&mut header[..1]).await.unwrap() == 0 {
            return None;
        }
        self.stream.read_exact(&mut header[1..]).await.unwrap();
        assert_eq!(header[..2], [0x1d, 2]);
        let length = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 17];
        self.stream.read_exact(&mut body).await.unwrap();
        let id = u64::from_be_bytes(header[9..17].try_into().unwrap());
        Some(Frame { kind: header[6], compression: header[7], codec: header[8], id, body })
    }

    pub async fn frame(&mut self) -> Frame {
        self.next().await.expect("it was closed")
    }

    /// Sends a request and reads its answer.
    pub async fn call(&mut self, request: &Request) -> Answer {
        self.send(&request.bytes()).await;
        self.frame().await.answer()
    }
}

/// A listener whose connections are spoken to by hand.
#[derive(Debug)]
pub struct RawServer {
    pub listener: TcpListener,
}

impl RawServer {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub async fn accept(&self) -> Raw {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("nobody dialled").unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }

    /// A connection on which HELLO was exchanged.
    pub async fn serve(&self) -> Raw {
        let mut raw = self.accept().await;
        raw.send(&server_hello()).await;
        assert_eq!(raw.frame().await.kind, HELLO);
        raw
    }
}
