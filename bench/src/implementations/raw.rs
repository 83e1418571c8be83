//! The ceiling: a hand-written tokio loop on frames of the size and shape of ours.
//!
//! No deadline, no limiter, no serde, no handler that could wait: what is left is what the kernel and the runtime
//! cost. Callers append to a shared buffer under a short lock; one task per connection reads everything there is,
//! yields once, and writes everything that gathered in one call. The server answers a whole read batch in one write.

mod client;
mod frame;
mod inbound;
mod item;
mod outbound;
mod server;
mod table;

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use crate::peer::{Caller, Ends, Failure, Peer};
use client::Client;

/// The hand-written loop. It answers `find` from a template, and reads of an answer what shows that it is the right one.
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

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        self.call(frame::Request::Compute(number), frame::item_id).await
    }
}

/// The same loop doing what a typed service has to: the server builds an item of owned strings and encodes it, the
/// client decodes it into owned strings. What it loses against [`Raw`] is the user's types, not the framework.
#[derive(Debug)]
pub(crate) struct RawItem;

impl Peer for RawItem {
    const NAME: &'static str = "raw-item";
    const PACKAGE: &'static str = "tokio";
    type Caller = ItemClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        Raw::serve(listener).await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<ItemClient>, Failure> {
        Ok(Raw::connect(address, connections).await?.into_iter().map(ItemClient).collect())
    }
}

/// A connection of the hand-written loop whose answers become items.
#[derive(Clone, Debug)]
pub(crate) struct ItemClient(Client);

impl Caller for ItemClient {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        let item = self.0.call(frame::Request::Build(id), frame::item).await?;
        Ok(std::hint::black_box(item).id)
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        self.0.echo(body).await
    }

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        self.0.compute(number).await
    }
}
