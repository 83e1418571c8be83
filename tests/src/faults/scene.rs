//! What scenarios have in common: instances that serve, a proxy that calls them, calls under way.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ms_register::MsRegister;
use ms_rpc::{Balancer, ClientProxy, Status};
use tokio::time::sleep;

use crate::{Failure, Load, Node, NodeOptions, NodeProgram, ShopClient, Tally};

/// How often a condition is looked at that tells nobody of itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long an instance that serves may take to be called.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts so many nodes with these options, each on a port of its own.
pub(super) async fn nodes(program: &NodeProgram, count: usize, options: &NodeOptions) -> Result<Vec<Node>, Failure> {
    let started = (0..count).map(|_| program.start(options.clone()));
    futures_util::future::try_join_all(started).await
}

/// A list by hand of these nodes.
pub(super) async fn listed_by_hand(nodes: &[Node]) -> Result<Arc<dyn MsRegister>, Failure> {
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    static_list(&addresses).await
}

/// A list by hand.
pub(super) async fn static_list(addresses: &[SocketAddr]) -> Result<Arc<dyn MsRegister>, Failure> {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    Ok(ms_register::connect(&format!("static://{}", addresses.join(","))).await?)
}

/// A client of `shop` through this registry.
pub(super) fn client(registry: &Arc<dyn MsRegister>) -> Result<ShopClient, Failure> {
    Ok(ShopClient::new(in_turn(registry)?))
}

/// Calls every instance, and so meets every fault, however slow it makes its instance.
pub(super) fn in_turn(registry: &Arc<dyn MsRegister>) -> Result<ClientProxy, Failure> {
    Ok(ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin).build()?)
}

/// Calls of `find` at this rate, each noting which instance answered.
pub(super) fn finding(shop: &ShopClient, rate: u32) -> Load {
    let shop = shop.clone();
    Load::start(rate, move |number| {
        let shop = shop.clone();
        async move { shop.find(number).await.map(|found| u64::from(found.port)) }
    })
}

/// Calls of `reserve` at this rate, each with another id and noting which instance answered.
pub(super) fn reserving(shop: &ShopClient, rate: u32) -> Load {
    let shop = shop.clone();
    Load::start(rate, move |number| {
        let shop = shop.clone();
        async move { shop.reserve(number).await.map(u64::from) }
    })
}

/// Calls of `work` at this rate, each of which takes that long.
pub(super) fn working(shop: &ShopClient, rate: u32, length: Duration) -> Load {
    let shop = shop.clone();
    Load::start(rate, move |number| {
        let shop = shop.clone();
        async move { shop.work(length.as_millis() as u64).await.map(|()| number) }
    })
}

/// Both kinds of calls at once.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) finds: Load,
    pub(super) reserves: Load,
}

impl Calls {
    /// Half of `rate` each.
    pub(super) fn start(shop: &ShopClient, rate: u32) -> Self {
        Self { finds: finding(shop, rate / 2), reserves: reserving(shop, rate / 2) }
    }

    pub(super) async fn stop(self) -> Result<Tally, Failure> {
        Ok(self.finds.stop().await?.and(self.reserves.stop().await?))
    }
}

/// Waits until `holds`; says how long that took, or nothing if it took longer than `limit`.
pub(super) async fn until<F>(limit: Duration, mut holds: impl FnMut() -> F) -> Option<Duration>
where
    F: Future<Output = bool>,
{
    let begin = Instant::now();
    while begin.elapsed() <= limit {
        if holds().await {
            return Some(begin.elapsed());
        }
        sleep(LOOK_AGAIN).await;
    }
    None
}

/// Waits until this instance answers calls.
pub(super) async fn until_called(shop: &ShopClient, address: SocketAddr, limit: Duration) -> Option<Duration> {
    until(limit, || async { shop.find(0).await.is_ok_and(|found| found.port == address.port()) }).await
}

/// Waits until all these instances answer calls.
pub(super) async fn warm(shop: &ShopClient, nodes: &[Node]) -> Result<(), Failure> {
    for node in nodes {
        must_be_called(shop, node.address()).await?;
    }
    Ok(())
}

/// Waits until this instance answers calls. That it does not is a failure: there would be nothing to measure.
pub(super) async fn must_be_called(shop: &ShopClient, address: SocketAddr) -> Result<(), Failure> {
    let called = until_called(shop, address, PATIENCE).await;
    if called.is_none() {
        let answer = shop.find(0).await;
        return Err(format!("{address} is not called within {PATIENCE:?}; a call ends with {answer:?}").into());
    }
    Ok(())
}

/// Whether a call failed without anybody knowing whether it was executed.
pub(super) fn is_unknown(status: &Status) -> bool {
    status.outcome() == ms_rpc::Outcome::Unknown
}
