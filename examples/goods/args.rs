//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use ms_rpc::{
    Balancing, Codec, Compression, RateLimit,
    tls::{Tls, TlsError},
};

/// The goods service: without a role, two goods-centers and an order-center in one process, on a registry in memory.
#[derive(Debug, Parser)]
#[command(name = "goods")]
pub(crate) struct Cli {
    /// Without a role: mutual TLS between the centers, with certificates that are made at the start. A stranger is refused.
    #[arg(long)]
    pub(crate) tls: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// An RPC server with the service `goods`, listed in a registry.
    GoodsCenter {
        /// Such as etcd://127.0.0.1:2379, nacos://127.0.0.1:8848, zookeeper://127.0.0.1:2181 or static://127.0.0.1:9112.
        #[arg(long)]
        registry: String,
        /// Start even if the registry is down, and use it when it comes up.
        #[arg(long)]
        background: bool,
        #[command(flatten)]
        args: CenterArgs,
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// A web application that calls `goods`.
    OrderCenter {
        /// Such as etcd://127.0.0.1:2379, nacos://127.0.0.1:8848, zookeeper://127.0.0.1:2181 or static://127.0.0.1:9112.
        #[arg(long)]
        registry: String,
        /// Start even if the registry is down, and use it when it comes up.
        #[arg(long)]
        background: bool,
        #[command(flatten)]
        args: OrderArgs,
        #[command(flatten)]
        tls: TlsArgs,
    },
}

/// Mutual TLS, with files such as those that `ms tls dev` writes.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsArgs {
    /// PEM file of the authorities that sign the peers' certificates.
    #[arg(long, requires = "cert")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of this program's certificate, `spiffe://TRUST-DOMAIN/SERVICE`.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of the certificate's key.
    #[arg(long, requires = "ca")]
    pub(crate) key: Option<PathBuf>,
    /// Trust domain of the certificates.
    #[arg(long, default_value = "dev")]
    pub(crate) trust_domain: String,
}

impl TlsArgs {
    pub(crate) fn tls(self) -> Result<Option<Tls>, TlsError> {
        let (Some(ca), Some(cert), Some(key)) = (self.ca, self.cert, self.key) else { return Ok(None) };
        Tls::mutual(ca, cert, key).trust_domain(self.trust_domain).build().map(Some)
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CenterArgs {
    /// The address to listen on; the registry lists one that peers can dial.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// The address under which peers reach it, as HOST:PORT, where it is not the one that is listened on.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The share of calls relative to the other goods-centers, for balancers that go by it.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) weight: f64,
    /// Calls per second; more are rejected, or wait. Default: no limit.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// Calls at once after a pause. Default: as many as per second.
    #[arg(long, requires = "limit")]
    pub(crate) burst: Option<u32>,
    /// How many milliseconds a call over the limit waits before it is rejected.
    #[arg(long, requires = "limit", default_value_t = 0)]
    pub(crate) limit_wait_ms: u64,
}

impl CenterArgs {
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        let per_second = self.limit?;
        let limit = RateLimit::per_second(per_second).burst(self.burst.unwrap_or(per_second));
        Some(limit.wait_up_to(Duration::from_millis(self.limit_wait_ms)))
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OrderArgs {
    /// Where HTTP is served.
    #[arg(long, default_value = "127.0.0.1:9003")]
    pub(crate) http: SocketAddr,
    /// bincode or json.
    #[arg(long, default_value_t = Codec::Bincode)]
    pub(crate) codec: Codec,
    /// none, gzip or zlib.
    #[arg(long, default_value_t = Compression::None)]
    pub(crate) compression: Compression,
    /// How calls are spread: p2c, least-connections, round-robin, weighted-round-robin, random, weighted-random, ip-hash,
    /// key-hash, consistent-hash, bounded-hash. With `,near=ZONE` the goods-centers of that zone come first, with a pair such
    /// as `,version=v2` only those with this metadata get calls.
    #[arg(long, default_value_t = Balancing::default())]
    pub(crate) balancer: Balancing,
    /// Connections to each goods-center.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// How many milliseconds a call has.
    #[arg(long, default_value_t = 1000)]
    pub(crate) deadline_ms: u64,
}
