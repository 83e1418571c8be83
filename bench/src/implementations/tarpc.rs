//! tarpc as its documentation shows it: bincode over length-delimited TCP, a task per request on the server.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tarpc::{
    client,
    context::{self, Context},
    serde_transport::Transport,
    server::{BaseChannel, Channel},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_serde::formats::Bincode;

use crate::peer::{self, Caller, Ends, Failure, Peer, item};

/// tarpc over TCP with bincode.
#[derive(Debug)]
pub(crate) struct Tarpc;

#[tarpc::service]
pub(crate) trait Goods {
    /// One item.
    async fn find(id: i64) -> Item;
    /// The same bytes; `Bytes` is tarpc's fastest way to carry them.
    async fn echo(body: Bytes) -> Bytes;
    /// The same number, after a millisecond of work in place: tarpc has no other place for it.
    async fn compute(number: i64) -> i64;
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Item {
    id: i64,
    name: String,
    price: f64,
    tags: Vec<String>,
}

#[derive(Clone, Debug)]
struct Shop;

impl Goods for Shop {
    async fn find(self, _: Context, id: i64) -> Item {
        Item { id, name: item::NAME.to_owned(), price: item::PRICE, tags: item::TAGS.map(str::to_owned).into() }
    }

    async fn echo(self, _: Context, body: Bytes) -> Bytes {
        body
    }

    async fn compute(self, _: Context, number: i64) -> i64 {
        peer::compute(number)
    }
}

impl Peer for Tarpc {
    const NAME: &'static str = "tarpc";
    const PACKAGE: &'static str = "tarpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let transport = Transport::from((stream, Bincode::default()));
            let requests = BaseChannel::with_defaults(transport).execute(Shop.serve());
            tokio::spawn(requests.for_each(|answer| async {
                tokio::spawn(answer);
            }));
        }
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let transport = Transport::from((stream, Bincode::default()));
            clients.push(GoodsClient::new(client::Config::default(), transport).spawn());
        }
        Ok(clients)
    }
}

impl Caller for GoodsClient {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        let item = Self::find(self, context::current(), id).await?;
        Ok(item.id)
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        let echoed = Self::echo(self, context::current(), body).await?;
        Ok(Ends::of(&echoed))
    }

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        Ok(Self::compute(self, context::current(), number).await?)
    }
}
