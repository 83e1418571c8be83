//! Serves named services over TCP, and lists them in registries.

mod advertise;
mod auth;
mod call;
mod calls;
mod capacity;
mod check;
mod connection;
mod dispatch;
mod drain;
mod error;
mod handoff;
mod limit;
mod limits;
mod local;
mod pace;
mod pool;
mod protocol;
mod running;
mod signal;
mod stopwatch;
#[cfg(feature = "tls")]
mod tls;
mod turns;

use std::{
    fmt,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ms_register::{Instance, MsRegister, ServiceName};
use ms_security::Rules;
use tokio::{net::TcpListener, time::timeout};
use tracing::{info, warn};

use crate::{
    Accept, Codec, Compression, HealthState, Layer, Service, Status,
    encodings::Encodings,
    measure::Stats,
    proto::ServerHello,
    service::{
        describe,
        health::{self, Life},
    },
};
use auth::{Audit, Authenticator};
use calls::PoolJob;
use capacity::Capacity;
use dispatch::{Dispatch, Interceptor};
use drain::Connections;
use limit::{Limits, Ticker};
use pool::Pool;
use running::Doors;
use turns::Turns;

pub use dispatch::Incoming;
pub use error::ServerError;
pub use limit::RateLimit;
pub use limits::ServerLimits;
pub(crate) use local::LocalServer;
pub use protocol::{Ending, Guest, Protocol};
pub use running::RunningServer;
pub use signal::{NextSignal, SecondSignal, shutdown_signal};

/// How long a server that is told to stop goes on starting, so that it can stop kindly.
const START_DEADLINE: Duration = Duration::from_secs(3);

/// Serves named services over TCP.
///
/// ```no_run
/// # #[ms_rpc::service(name = "goods")]
/// # pub trait Goods { async fn find(&self, id: i64) -> String; }
/// # struct Shop;
/// # impl Goods for Shop { async fn find(&self, id: i64) -> String { id.to_string() } }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ms_rpc::{RateLimit, Server, shutdown_signal};
///
/// let registry = ms_register::connect("etcd://127.0.0.1:2379").await?;
/// Server::bind("0.0.0.0:9112").await?
///     .register_with(registry)
///     .limit(RateLimit::per_second(2_000).burst(500))
///     .serve(GoodsServer::new(Shop))
///     .run_until(shutdown_signal()).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a server does nothing until it is started"]
pub struct Server {
    listener: Option<TcpListener>,
    address: SocketAddr,
    acceptor: Option<Arc<dyn Accept>>,
    protocols: Vec<Arc<dyn Protocol>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Tls>,
    services: Vec<(String, Arc<dyn Service>)>,
    registries: Vec<Arc<dyn MsRegister>>,
    interceptors: Vec<Interceptor>,
    layers: Vec<Arc<dyn Layer>>,
    encodings: Encodings,
    rates: Limits,
    advertise: Option<String>,
    weight: f64,
    metadata: Vec<(String, String)>,
    limits: ServerLimits,
    authenticator: Option<Authenticator>,
    rules: Rules,
    insecure: bool,
    /// Locked by nobody: it makes the server `Sync`.
    ready: Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    life: Life,
    drain: Duration,
    stats: Option<Arc<Stats>>,
}

/// State that all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dispatch: Dispatch,
    pub(crate) limits: ServerLimits,
    pub(crate) ticker: Ticker,
    pub(crate) compute: Pool<PoolJob>,
    pub(crate) blocking: Pool<PoolJob>,
    pub(crate) turns: Turns,
    pub(crate) capacity: Arc<Capacity>,
    authenticator: Option<Authenticator>,
    audit: Audit,
    /// Published as long as the server lives.
    stats: Option<Arc<Stats>>,
    /// The HELLO frame.
    pub(crate) hello: Vec<u8>,
}

impl Server {
    /// Listens on `address`, such as `0.0.0.0:9112`. Nothing is accepted before the server is started.
    ///
    /// # Errors
    /// [`ServerError::Bind`]: the port is taken, or the address is not one of this machine.
    pub async fn bind(address: &str) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { address: address.to_owned(), source };
        Self::from_listener(TcpListener::bind(address).await.map_err(failed)?)
    }

    /// Takes over a socket that listens already, such as one inherited from a supervisor or bound with options of its own.
    ///
    /// # Errors
    /// [`ServerError::Bind`]: the system cannot say which address it listens on.
    pub fn from_listener(listener: TcpListener) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { address: "the given socket".to_owned(), source };
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener: Some(listener), ..Self::without_listener(address) })
    }

    /// A server that accepts nothing by itself: it serves the streams that are given to
    /// [`RunningServer::serve_over`]. `address` is what [`address`](Self::address) says, and is registered unless
    /// [`advertise`](Self::advertise) says otherwise.
    pub fn without_listener(address: SocketAddr) -> Self {
        Self {
            listener: None,
            address,
            acceptor: None,
            protocols: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
            services: Vec::new(),
            registries: Vec::new(),
            interceptors: Vec::new(),
            layers: Vec::new(),
            encodings: Encodings::default(),
            rates: Limits::default(),
            advertise: None,
            weight: Instance::DEFAULT_WEIGHT,
            metadata: Vec::new(),
            limits: ServerLimits::default(),
            authenticator: None,
            rules: Rules::default(),
            insecure: false,
            ready: Mutex::default(),
            life: Life::default(),
            drain: Duration::from_secs(20),
            stats: None,
        }
    }

    /// How accepted sockets become streams, such as by TLS. Default: they are served as they are.
    pub fn accept_with(mut self, acceptor: impl Accept) -> Self {
        self.acceptor = Some(Arc::new(acceptor));
        self
    }

    /// The address that it listens on, with the port that was chosen if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a service under its own name.
    pub fn serve(self, service: impl Service) -> Self {
        let name = service.descriptor().name;
        self.serve_as(name, service)
    }

    /// Serves a service under another name, such as one of several versions.
    pub fn serve_as(mut self, name: impl Into<String>, service: impl Service) -> Self {
        self.services.push((name.into(), Arc::new(service)));
        self
    }

    /// Lists every service in `registry` from the start to the shutdown. May be called for several registries.
    pub fn register_with(mut self, registry: Arc<dyn MsRegister>) -> Self {
        self.registries.push(registry);
        self
    }

    /// The `host:port` that peers dial. Default: the address that it listens on, or, where that is `0.0.0.0`, the address
    /// of this machine from which the registry is reached.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// The share of calls relative to the service's other instances. Default 1.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Adds a pair to what the registry lists about this instance.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Limits the rate of all calls together, but those of the framework's own services.
    pub fn limit(mut self, limit: RateLimit) -> Self {
        self.rates.server = Some(limit);
        self
    }

    /// Limits the rate of the calls of one service.
    pub fn limit_service(mut self, service: impl Into<String>, limit: RateLimit) -> Self {
        self.rates.services.insert(service.into(), limit);
        self
    }

    /// Limits the rate of the calls of one method.
    pub fn limit_method(mut self, service: impl Into<String>, method: impl Into<String>, limit: RateLimit) -> Self {
        self.rates.methods.insert((service.into(), method.into()), limit);
        self
    }

    /// Calls `interceptor` for each call before its body is touched, those of `ms.health` and `ms.describe` too; an error is
    /// the call's answer, and says that it was not executed. Several run in the order in which they were added. It runs
    /// on the connection's task: it must not block.
    pub fn intercept<F>(mut self, interceptor: F) -> Self
    where
        F: Fn(&mut Incoming<'_>) -> Result<(), Status> + Send + Sync + 'static,
    {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Knows a codec of the user's own beside the built-in ones, and lists it in HELLO.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.encodings.add_codec(codec);
        self
    }

    /// Knows a compression of the user's own beside the built-in ones, and lists it in HELLO. Answers are compressed as the client
    /// wants it, by `compress_above` and `compression_level` of [`limits`](Self::limits).
    pub fn compression(mut self, compression: Compression) -> Self {
        self.encodings.add_compression(compression);
        self
    }

    /// Runs every call within `layer`, but those of the framework's own services. Several run in the order in which they were
    /// added, the first one outermost.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Counts and times every call, by service, method and code: `ms_rpc_calls_total` and `ms_rpc_call_seconds` with the label
    /// `side="server"`. Times are those of batches: from the arrival of requests that were read together to their last answer.
    pub fn measured(mut self) -> Self {
        self.stats = Some(Stats::new("server"));
        self
    }

    /// Changes bounds, which are checked when the server starts.
    ///
    /// ```
    /// # async fn example() -> Result<(), ms_rpc::ServerError> {
    /// let server = ms_rpc::Server::bind("0.0.0.0:9112").await?.limits(|limits| limits.max_in_flight = 64);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(mut self, change: impl FnOnce(&mut ServerLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Puts off the registration until `ready` ends, such as the filling of a cache. The server listens before, and
    /// serves clients that know its address. May be called several times: all must end.
    pub fn ready_when(mut self, ready: impl Future<Output = ()> + Send + 'static) -> Self {
        self.ready.get_mut().unwrap_or_else(PoisonError::into_inner).push(Box::pin(ready));
        self
    }

    /// How long calls in flight may take at shutdown. Default 20 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain = timeout;
        self
    }

    /// Accepts, waits until it is ready, then registers, in this order; returns when every registry has confirmed.
    ///
    /// # Errors
    /// An illegal or repeated service name, an address that cannot be advertised, a registry that refuses or is away.
    pub async fn start(self) -> Result<RunningServer, ServerError> {
        let names = self.check()?;
        let instance = self.instance().await?;
        let shared = Arc::new(self.shared(&instance));
        if let Some(stats) = &shared.stats {
            stats.publish_on(&tokio::runtime::Handle::current());
        }
        let connections = Arc::new(Connections::new(self.address));
        let accept = self.listener.map(|listener| {
            let doors = Doors { acceptor: self.acceptor, protocols: self.protocols };
            tokio::spawn(running::accept(listener, doors, shared.clone(), connections.clone()))
        });
        let mut running = RunningServer {
            address: self.address,
            shared,
            connections,
            accept,
            registrations: Vec::new(),
            life: self.life.clone(),
            propagation: self.registries.iter().map(|registry| registry.propagation()).max().unwrap_or_default(),
            drain: self.drain,
        };
        for ready in self.ready.into_inner().unwrap_or_else(PoisonError::into_inner) {
            ready.await;
        }
        for registry in &self.registries {
            for name in &names {
                // Dropped on an error, `running` takes back what is registered by then.
                running.registrations.push(registry.register(name, instance.clone()).await?);
            }
        }
        self.life.set(HealthState::Serving);
        info!("serving {} on {}", names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", "), self.address);
        Ok(running)
    }

    /// Starts, serves until `signal`, and shuts down: deregister, wait until callers know, finish what is in flight, close.
    /// A second signal, where `signal` brings one ([`shutdown_signal`]), ends the shutdown at once.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn run_until<F>(self, signal: F) -> Result<(), ServerError>
    where
        F: Future<Output: SecondSignal>,
    {
        let (mut start, mut signal) = (pin!(self.start()), pin!(signal));
        let (running, second) = tokio::select! {
            // The signal first, so that it is listened for before anything is registered.
            biased;
            second = &mut signal => match timeout(START_DEADLINE, start).await {
                Ok(running) => (running?, second),
                // Dropped, it takes back what is registered by then.
                Err(_) => return Ok(()),
            },
            running = &mut start => (running?, signal.await),
        };
        tokio::select! {
            () = running.shutdown() => info!("shut down"),
            () = second.wait() => warn!("a second signal: calls in flight are cut off"),
        }
        Ok(())
    }

    /// For callers in this process.
    pub(crate) fn local(&self) -> LocalServer {
        let instance = Instance::new(self.address.ip().to_string(), self.address.port());
        LocalServer::new(Arc::new(self.shared(&instance)))
    }

    async fn instance(&self) -> Result<Instance, ServerError> {
        let address = match (&self.advertise, self.registries.first()) {
            (Some(address), _) => Instance::from_address(address)?,
            (None, Some(registry)) => advertise::choose(self.address, registry.url()).await?,
            (None, None) => Instance::new(self.address.ip().to_string(), self.address.port()),
        };
        for registry in &self.registries {
            if let Some(doubt) = advertise::doubt(self.address, &address, registry.url()) {
                warn!("{doubt}");
            }
        }
        let mut instance = address.with_weight(self.weight);
        for (key, value) in &self.metadata {
            instance = instance.with_metadata(key, value);
        }
        if !self.registries.is_empty() {
            instance.check()?;
        }
        Ok(instance)
    }

    fn shared(&self, instance: &Instance) -> Shared {
        let registered = !self.registries.is_empty();
        let hello = ServerHello {
            instance: if registered { instance.id().to_owned() } else { String::new() },
            incarnation: fastrand::u64(1..),
            scopes: self.registries.iter().filter_map(|registry| registry.scope().map(str::to_owned)).collect(),
            max_frame: self.limits.max_frame as u32,
            max_in_flight: u32::try_from(self.limits.max_in_flight).unwrap_or(u32::MAX),
            codecs: self.encodings.codecs().map(|codec| codec.number()).collect(),
            compressions: self.encodings.compressions().map(|compression| compression.number()).collect(),
        };
        let ticker = Ticker::new();
        let mut services = self.services.clone();
        services.push(describe::service(&self.services));
        let names = self.services.iter().map(|(name, _)| name.clone()).collect();
        services.push(health::service(names, self.life.clone()));
        Shared {
            dispatch: Dispatch::new(
                services,
                self.interceptors.clone(),
                &self.layers.clone().into(),
                Arc::new(self.encodings.clone()),
                &self.rates,
                self.stats.as_deref(),
                &ticker,
            )
            .with_rules(self.rules.clone()),
            limits: self.limits.clone(),
            authenticator: self.authenticator.clone(),
            audit: Audit::default(),
            stats: self.stats.clone(),
            ticker,
            compute: Pool::new(std::thread::available_parallelism().map_or(1, usize::from)),
            blocking: Pool::new(self.limits.blocking_threads),
            turns: Turns::default(),
            capacity: Capacity::new(self.limits.max_in_flight_total, self.limits.max_request_bytes_total),
            hello: hello.to_frame(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.services.iter().map(|(name, _)| name).collect();
        f.debug_struct("Server").field("address", &self.address).field("services", &names).finish_non_exhaustive()
    }
}
