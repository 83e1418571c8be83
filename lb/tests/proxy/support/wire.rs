use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of a client that writes its requests by hand.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Name of the back end that answered.
    pub(crate) fn name(&self) -> String {
        self.header("x-name").unwrap_or_else(|| panic!("no back end answered: {self:?}")).to_owned()
    }

    /// Value of a header of the request, as the back end saw it.
    pub(crate) fn seen(&self, header: &str) -> Option<String> {
        let json = self.json();
        let headers = json["headers"].as_array().unwrap().clone();
        let found = headers.iter().find(|pair| pair[0] == header)?;
        Some(found[1].as_str().unwrap().to_owned())
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, address).await
    }

    /// A client with this address.
    pub(crate) async fn connect_from(client: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((client, 0).into()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Returns false at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut part = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut part)).await.expect("something comes").unwrap_or(0);
        self.read.extend_from_slice(&part[..read]);
        read > 0
    }

    /// Reads until this is there, and takes it with what is before it.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let taken: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            let before = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.more().await, "no {end:?} before the end, but {before:?}");
        }
    }

    /// All that comes before the end of the stream.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// The next answer, with a body of known length.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await, "the body of {answer:?} ends early: {:?}", self.read);
        }
        answer.body = self.read.drain(..length).collect();
        answer
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
        self.answer().await
    }
}

/// One GET over a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    Wire::connect(address).await.get(target).await
}
