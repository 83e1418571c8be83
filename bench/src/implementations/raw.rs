//! The ceiling: a hand-written tokio loop on frames of the size and shape of ours.
//!
//! No deadline, no limiter, no serde, no handler that could wait: what is left is what the kernel and the runtime
//! cost. Callers append to a shared buffer under a short lock; one task per connection reads everything there is,
//! yields once, and writes everything that gathered in one call. The server answers a whole read batch in one write.

mod client;
mod frame;
mod inbound;
mod outbound;
mod server;
mod table;

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use crate::peer::{Caller, Ends, Failure, Peer};
use client::Client;

/// The hand-written loop.
#[derive(Debug)]
pub(crate) struct Raw;

impl Peer for Raw {
    const NAME: &'static str = "raw";
    const PACKAGE: &'static str = "tokio";
    type Caller = Client;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                if let Err(failure) = server::serve(stream).await {
                    eprintln!("raw: {failure}");
                }
            });
        }
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            clients.push(Client::start(stream));
        }
        Ok(clients)
    }
}

impl Caller for Client {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        self.call(frame::Request::Find(id), frame::item_id).await
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        self.call(frame::Request::Echo(body), |body| frame::result(body).map(Ends::of)).await
    }
}
