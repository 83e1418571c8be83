//! Clients of the programs, with frames of zinx.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use futures_util::future::{join_all, try_join_all};
use ms_gate::{Frame, HEAD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};

use super::programs::MESSAGE;
use crate::peer::Failure;

/// Data of a message, in bytes.
const DATA: usize = 64;
/// Connections that are made at a time.
const AT_A_TIME: usize = 500;
/// Message that the gate answers by itself.
const HEARTBEAT: u32 = 99_999;

/// Connected clients.
#[derive(Debug)]
pub(super) struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Connects them; each is a member when this returns.
    pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Self, Failure> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let batch = (0..AT_A_TIME.min(count - all.len())).map(|_| async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&Frame::encode(HEARTBEAT, b"")).await?;
                stream.read_exact(&mut [0; HEAD]).await?;
                Ok::<_, Failure>(stream)
            });
            all.extend(try_join_all(batch).await?);
        }
        Ok(Self(all))
    }

    /// Reports the number in each message, and when it came.
    pub(super) fn read_all(self, arrived: mpsc::Sender<(u32, Instant)>) -> Vec<JoinHandle<()>> {
        let reader = |mut stream: TcpStream| {
            let arrived = arrived.clone();
            tokio::spawn(async move {
                let mut frame = [0; HEAD + 4];
                while stream.read_exact(&mut frame).await.is_ok() {
                    let number = (&frame[HEAD..]).get_u32();
                    if arrived.send((number, Instant::now())).await.is_err() {
                        return;
                    }
                }
            })
        };
        self.0.into_iter().map(reader).collect()
    }
}

/// Answers a second, of connections that each have as many messages under way.
pub(super) async fn rate(
    address: SocketAddr,
    (connections, outstanding): (usize, usize),
    time: Duration,
) -> Result<f64, Failure> {
    let frame = Frame::encode(MESSAGE, &[7; DATA]);
    let work = async |_| {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&frame.repeat(outstanding)).await?;
        let (mut buffer, mut answers, began) = (BytesMut::new(), 0_u64, Instant::now());
        while began.elapsed() < time {
            stream.read_buf(&mut buffer).await?;
            let mut again = 0;
            while let Some(answer) = Frame::take(&mut buffer, DATA)? {
                if answer.msg_id != MESSAGE {
                    return Err(format!("message {} came in answer", answer.msg_id).into());
                }
                again += 1;
            }
            answers += again as u64;
            stream.write_all(&frame.repeat(again)).await?;
        }
        Ok::<_, Failure>(answers as f64 / began.elapsed().as_secs_f64())
    };
    let rates: Result<Vec<_>, Failure> = join_all((0..connections).map(work)).await.into_iter().collect();
    Ok(rates?.into_iter().sum())
}
