//! The same node over gmq's text protocol: connections that many tasks share, each with commands of up to 64 tasks on their way.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    broker::{Broker, Consumer, Home, Producer},
    ms::Ms,
};
use crate::peer::Failure;

const QUEUE: &str = "bench default";
/// Tasks of one connection.
const SHARED: usize = 64;
/// Type of a heartbeat, which is no answer.
const HEARTBEAT: u16 = 105;
const ERROR: u16 = 102;

pub(crate) struct Gmq {
    node: Ms,
    address: SocketAddr,
    /// The newest connection, and its tasks.
    newest: Mutex<Option<(Line, usize)>>,
}

impl Gmq {
    /// A connection for one task more.
    async fn line(&self) -> Result<Line, Failure> {
        let newest = || self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((line, tasks)) = &mut *newest()
            && *tasks < SHARED
        {
            *tasks += 1;
            return Ok(line.clone());
        }
        let line = Line::connect(self.address).await?;
        *newest() = Some((line.clone(), 1));
        Ok(line)
    }
}

impl Broker for Gmq {
    const NAME: &'static str = "ms-mq, gmq";
    type Producer = Line;
    type Consumer = Line;

    async fn start(home: &Home) -> Result<Self, Failure> {
        let node = <Ms as Broker>::start(home).await?;
        let address = node.gmq();
        Ok(Self { node, address, newest: Mutex::new(None) })
    }

    async fn producer(&self) -> Result<Line, Failure> {
        self.line().await
    }

    async fn consumer(&self) -> Result<Line, Failure> {
        self.line().await
    }

    async fn stop(self) {
        self.node.stop().await;
    }
}

type Answer = (u16, Bytes);
type Asked = (Bytes, oneshot::Sender<Answer>);

/// A connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Line(mpsc::Sender<Asked>);

impl Line {
    async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (asks, asked) = mpsc::channel(SHARED);
        let (read, write) = stream.into_split();
        let waiting = Arc::default();
        tokio::spawn(ask(write, asked, Arc::clone(&waiting)));
        tokio::spawn(answer(read, waiting));
        Ok(Self(asks))
    }

    async fn ask(&self, request: Bytes) -> Result<Bytes, Failure> {
        let (answer, answered) = oneshot::channel();
        self.0.send((request, answer)).await.map_err(|_| "the connection has ended")?;
        match answered.await? {
            (ERROR, text) => Err(String::from_utf8_lossy(&text).into_owned().into()),
            (_, data) => Ok(data),
        }
    }
}

type Waiting = Mutex<VecDeque<oneshot::Sender<Answer>>>;

/// Writes what all tasks ask.
async fn ask(
    mut write: tokio::net::tcp::OwnedWriteHalf,
    mut asked: mpsc::Receiver<Asked>,
    waiting: Arc<Waiting>,
) -> io::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), BytesMut::new());
    while asked.recv_many(&mut batch, SHARED).await > 0 {
        {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (request, answer) in batch.drain(..) {
                bytes.extend_from_slice(&request);
                waiting.push_back(answer);
            }
        }
        write.write_all(&bytes).await?;
        bytes.clear();
    }
    Ok(())
}

/// Hands out the answers, in the order of what was asked.
async fn answer(mut read: tokio::net::tcp::OwnedReadHalf, waiting: Arc<Waiting>) -> io::Result<()> {
    let mut input = BytesMut::new();
    while read.read_buf(&mut input).await? > 0 {
        while let Some([k0, k1, l0, l1, l2, l3]) = input.first_chunk().copied() {
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            if input.len() < 6 + length {
                break;
            }
            input.advance(6);
            let (kind, data) = (u16::from_be_bytes([k0, k1]), input.split_to(length).freeze());
            if kind == HEARTBEAT {
                continue;
            }
            let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(first) = first {
                // The task may have ended.
                let _ = first.send((kind, data));
            }
        }
    }
    Ok(())
}

impl Producer for Line {
    async fn push(&mut self, body: Bytes) -> Result<(), Failure> {
        let request = [&b"pub bench  0\n"[..], &(body.len() as u32).to_be_bytes(), &body].concat();
        self.ask(request.into()).await?;
        Ok(())
    }
}

impl Consumer for Line {
    type Receipt = String;

    /// One message, whatever is asked for: the protocol has no more.
    async fn pop(&mut self, _: usize) -> Result<Vec<(Bytes, String)>, Failure> {
        let message = self.ask(format!("pop {QUEUE}\n").into()).await?;
        let id = message.split(|byte| *byte == b'"').nth(3).ok_or("a message without an id")?;
        Ok(vec![(message.clone(), String::from_utf8_lossy(id).into_owned())])
    }

    async fn ack(&mut self, receipts: Vec<String>) -> Result<(), Failure> {
        for id in receipts {
            self.ask(format!("ack {id} {QUEUE}\n").into()).await?;
        }
        Ok(())
    }
}
