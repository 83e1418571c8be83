//! ms-rpc as its documentation shows it: a typed service, bincode, a deadline on every call, a rate limit on the server.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use ms_register::{Instance, Static};
use ms_rpc::{Blob, CallInfo, CallOptions, Client, ClientProxy, Context, RateLimit, Server};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::peer::{self, Caller, Ends, Failure, Peer, item};

/// Far above what any setting reaches, so that every call draws a token and none is rejected.
const CALLS_PER_SECOND: u32 = 100_000_000;

/// More calls than any setting has in flight.
const MAX_IN_FLIGHT: usize = 4_096;

/// How long all connections of a proxy may take to come up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Calls at a time until then.
const TOGETHER: usize = 64;

/// One [`Client`] for each connection: no registry, no balancer, no retry.
#[derive(Debug)]
pub(crate) struct MsClient;

/// The full [`ClientProxy`]: snapshot, balancer, pool of connections, retry policy.
#[derive(Debug)]
pub(crate) struct MsProxy;

#[ms_rpc::service(name = "goods")]
pub(crate) trait Goods {
    #[idempotent]
    async fn find(&self, id: i64) -> Item;
    async fn echo(&self, blob: Blob) -> Blob;
    #[compute]
    async fn compute(&self, number: i64) -> i64;
    /// The caller's end of the connection that the call came over.
    async fn caller(&self, ctx: Context) -> Option<SocketAddr>;
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Item {
    id: i64,
    name: String,
    price: f64,
    tags: Vec<String>,
}

#[derive(Debug)]
struct Shop;

impl Goods for Shop {
    async fn find(&self, id: i64) -> Item {
        Item { id, name: item::NAME.to_owned(), price: item::PRICE, tags: item::TAGS.map(str::to_owned).into() }
    }

    async fn echo(&self, blob: Blob) -> Blob {
        blob
    }

    async fn compute(&self, number: i64) -> i64 {
        peer::compute(number)
    }

    async fn caller(&self, ctx: Context) -> Option<SocketAddr> {
        ctx.peer().address()
    }
}

pub(crate) fn server(listener: TcpListener) -> Result<Server, Failure> {
    log();
    Ok(Server::from_listener(listener)?
        .limit(RateLimit::per_second(CALLS_PER_SECOND))
        .limits(|limits| limits.max_in_flight = MAX_IN_FLIGHT)
        .serve(GoodsServer::new(Shop)))
}

impl Peer for MsClient {
    const NAME: &'static str = "ms-client";
    const PACKAGE: &'static str = "ms-rpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        let _running = server(listener)?.start().await?;
        std::future::pending().await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        log();
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(GoodsClient::new(Client::connect(&address.to_string()).await?));
        }
        Ok(clients)
    }
}

impl Peer for MsProxy {
    const NAME: &'static str = "ms-proxy";
    const PACKAGE: &'static str = "ms-rpc";
    type Caller = GoodsClient;

    async fn serve(listener: TcpListener) -> Result<(), Failure> {
        MsClient::serve(listener).await
    }

    async fn connect(address: SocketAddr, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
        // An instance has up to 64 connections.
        let each = (1..=64).rev().find(|each| connections.is_multiple_of(*each)).unwrap_or(1);
        through_proxy(address, connections / each, each).await
    }

    async fn connect_instances(address: SocketAddr, instances: usize) -> Result<Vec<GoodsClient>, Failure> {
        through_proxy(address, instances, 1).await
    }
}

/// A proxy of so many instances with so many connections each, all of them up. An address is one instance, so each has another
/// one of the loopback network; the server answers at all of them.
async fn through_proxy(server: SocketAddr, instances: usize, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
    log();
    let address = |number: usize| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number as u32);
    let listed = (0..instances).map(|number| Instance::new(address(number).to_string(), server.port()));
    let builder = ClientProxy::builder(Arc::new(Static::new(listed.collect())));
    let builder = builder.discovery(|bounds| bounds.instances_per_service = instances.max(1));
    let proxy = builder.connections_per_instance(connections).build()?;
    warm(GoodsClient::new(proxy), instances * connections).await
}

/// Calls until every connection of the proxy has been called over.
async fn warm(goods: GoodsClient, connections: usize) -> Result<Vec<GoodsClient>, Failure> {
    let (begin, mut seen) = (Instant::now(), HashSet::new());
    while seen.len() < connections {
        if begin.elapsed() > PATIENCE {
            return Err(format!("{} of {connections} connections were up after {PATIENCE:?}", seen.len()).into());
        }
        for found in join_all((0..TOGETHER).map(|_| way(&goods))).await {
            seen.insert(found?);
        }
    }
    Ok(vec![goods])
}

/// Instance that a call went to, and our side of its connection: connections to different addresses may have the same port there.
async fn way(goods: &GoodsClient) -> Result<(Option<String>, SocketAddr), Failure> {
    let info = CallInfo::default();
    let caller = goods.with(CallOptions::new().info(&info)).caller().await?;
    Ok((info.instance(), caller.ok_or("a connection over TCP without an address")?))
}

/// Listens as an application does, at the default level; where the lines go costs nothing here.
fn log() {
    // Fails from the second time on, and then there is one.
    let _ = tracing_subscriber::fmt().with_writer(io::sink).try_init();
}

impl Caller for GoodsClient {
    async fn find(&mut self, id: i64) -> Result<i64, Failure> {
        let item = Self::find(self, id).await?;
        Ok(std::hint::black_box(item).id)
    }

    async fn echo(&mut self, body: Bytes) -> Result<Ends, Failure> {
        let echoed = Self::echo(self, Blob(body)).await?;
        Ok(Ends::of(&echoed))
    }

    async fn compute(&mut self, number: i64) -> Result<i64, Failure> {
        Ok(Self::compute(self, number).await?)
    }
}
