//! A gate, from its settings to its end.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use ms_register::Instance;
use ms_rpc::{Blob, ClientProxy, RunningServer, Server};
use ms_security::tls::Tls;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tracing::info;

use crate::{
    GateError, GateLimits, Member, Routes,
    directory::Directory,
    door::{self, Admission, Kind},
    node::{GateNodeServer, Node, microseconds},
    shared::{Handler, Shared},
};

/// Name of the gates' service, and of their group in routes, unless [`Gate::named`] says otherwise.
pub const GATES: &str = "gate";

/// A gate: it takes the frames of clients, and lets back ends answer them.
///
/// ```no_run
/// use ms_gate::{Gate, Routes};
/// use ms_rpc::{ClientProxy, Server, shutdown_signal};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = ms_register::connect("etcd://127.0.0.1:2379").await?;
/// let gate = Gate::new(ClientProxy::new(registry.clone()))
///     .routes(Routes::new().add(2, "im")?.add(3, "im")?)
///     .handle(1, |_member, _msg_id, data| async move { Some(data) })
///     .tcp("127.0.0.1:10000").await?
///     .web_socket("127.0.0.1:10001").await?
///     .origin("https://chat.example.com");
/// let server = Server::bind("127.0.0.1:10002").await?.register_with(registry);
/// let running = gate.start(server).await?;
/// shutdown_signal().await;
/// running.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a gate does nothing until it is started"]
pub struct Gate {
    proxy: ClientProxy,
    group: String,
    id: Option<String>,
    routes: Routes,
    handlers: HashMap<u32, Handler>,
    origins: Vec<String>,
    limits: GateLimits,
    tls: Option<Tls>,
    doors: Vec<(Kind, TcpListener)>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("group", &self.group).field("doors", &self.doors).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate without doors and routes, whose back ends are called through `proxy`. The balancer of the proxy picks among the back ends
    /// of a group; the key of a client's messages is its member id, so a hashing balancer keeps it at one back end.
    pub fn new(proxy: ClientProxy) -> Self {
        Self {
            proxy,
            group: GATES.to_owned(),
            id: None,
            routes: Routes::new(),
            handlers: HashMap::new(),
            origins: Vec::new(),
            limits: GateLimits::default(),
            tls: None,
            doors: Vec::new(),
        }
    }

    /// Name of the service of all gates, and of their group in routes. Default `gate`.
    pub fn named(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// Id of this gate's instance, where its server does not register: what the callers' registry lists. Default: the id under which the
    /// server registers, or its address.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Groups that take the messages. [`RunningGate::set_routes`] changes them later.
    pub fn routes(mut self, routes: Routes) -> Self {
        self.routes = routes;
        self
    }

    /// Handles messages of this id at the gate itself, whatever the routes say. `Some`: the answer to the client. A handler runs on the
    /// connection's task: it must not block.
    pub fn handle<H, F>(mut self, msg_id: u32, handler: H) -> Self
    where
        H: Fn(Member, u32, Blob) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Blob>> + Send + 'static,
    {
        self.handlers.insert(msg_id, Arc::new(move |member, id, data| handler(member, id, data).boxed()));
        self
    }

    /// Listens for clients over TCP.
    ///
    /// # Errors
    /// [`GateError::Bind`].
    pub async fn tcp(self, address: &str) -> Result<Self, GateError> {
        self.door(Kind::Tcp, address).await
    }

    /// Listens for clients over WebSocket.
    ///
    /// # Errors
    /// [`GateError::Bind`].
    pub async fn web_socket(self, address: &str) -> Result<Self, GateError> {
        self.door(Kind::WebSocket, address).await
    }

    async fn door(mut self, kind: Kind, address: &str) -> Result<Self, GateError> {
        let failed = |source| GateError::Bind { address: address.to_owned(), source };
        self.doors.push((kind, TcpListener::bind(address).await.map_err(failed)?));
        Ok(self)
    }

    /// Lets scripts of pages of this origin connect over WebSocket, such as `https://chat.example.com`; `*`: of all pages. Default: of
    /// none. Clients that are no browsers name no origin, and connect anyway.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// TLS alone for clients. RPC has its own: [`Server::tls`].
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Changes bounds, which are checked when the gate starts.
    pub fn limits(mut self, change: impl FnOnce(&mut GateLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Starts `server` with the gate's own service, by which back ends reach its members, and then lets clients in.
    ///
    /// # Errors
    /// A setting out of its range; TLS without a certificate; the errors of [`Server::start`].
    pub async fn start(self, server: Server) -> Result<RunningGate, GateError> {
        self.limits.check()?;
        if let Some(tls) = &self.tls {
            tls.check_server().map_err(|error| GateError::Tls(error.to_string()))?;
        }
        let shared = Arc::new(Shared::new(
            (self.group.clone(), self.limits, self.routes),
            (self.handlers, self.origins),
            self.proxy,
        ));
        let server = server.serve_as(self.group, GateNodeServer::new(Node(shared.clone()))).start().await?;
        let registered = server.registrations().first().map(|one| one.instance().id().to_owned());
        let address = server.address();
        let own = || Instance::new(address.ip().to_string(), address.port()).id().to_owned();
        let id = self.id.or(registered).unwrap_or_else(own);
        shared.open(Directory::new(id.as_str().into(), microseconds()));
        shared.set_routes(shared.routes.load_full());
        let admission = Admission::new(shared.limits.max_connections, shared.limits.max_per_address);
        let stop = watch::Sender::new(false);
        let mut addresses = Vec::new();
        let mut doors = Vec::new();
        for (kind, listener) in self.doors {
            let failed = |source| GateError::Bind { address: "the listener".to_owned(), source };
            addresses.push((kind, listener.local_addr().map_err(failed)?));
            let (shared, admission, tls) = (shared.clone(), admission.clone(), self.tls.clone());
            doors.push(tokio::spawn(door::open((kind, listener), shared, admission, tls, stop.subscribe())));
        }
        info!("gate {id} takes clients on {addresses:?}");
        Ok(RunningGate { id, addresses, shared, server: Some(server), doors, stop })
    }
}

/// A gate that takes clients. Dropping it cuts all of them off; [`shutdown`](Self::shutdown) is the kind way.
#[must_use = "dropping a running gate stops it"]
pub struct RunningGate {
    id: String,
    addresses: Vec<(Kind, SocketAddr)>,
    shared: Arc<Shared>,
    server: Option<RunningServer>,
    doors: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl fmt::Debug for RunningGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGate").field("id", &self.id).field("doors", &self.addresses).finish_non_exhaustive()
    }
}

impl RunningGate {
    /// Id of this gate: that of its members.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Addresses that it listens on for clients over TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.address(Kind::Tcp)
    }

    /// Address that it listens on for clients over WebSocket.
    pub fn web_socket_address(&self) -> Option<SocketAddr> {
        self.address(Kind::WebSocket)
    }

    fn address(&self, kind: Kind) -> Option<SocketAddr> {
        self.addresses.iter().find(|(known, _)| *known == kind).map(|(_, address)| *address)
    }

    /// Number of connected clients.
    pub fn members(&self) -> usize {
        self.shared.members().len()
    }

    /// Messages go to these groups from now on.
    pub fn set_routes(&self, routes: Routes) {
        self.shared.set_routes(Arc::new(routes));
    }

    /// Changes the routes from elsewhere.
    pub(crate) fn routes_setter(&self) -> impl Fn(Routes) + Send + use<> {
        let shared = self.shared.clone();
        move |routes| shared.set_routes(Arc::new(routes))
    }

    /// Takes no more clients, deregisters, answers what clients have asked for, says goodbye to them, and ends.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.shared.end_all();
        // What back ends work on takes as long at most, and so does the last output.
        let within = self.shared.limits.backend_timeout + self.shared.limits.stall + Duration::from_secs(1);
        let _ = timeout(within, futures_util::future::join_all(&mut self.doors)).await;
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }
}

impl Drop for RunningGate {
    fn drop(&mut self) {
        self.doors.iter().for_each(JoinHandle::abort);
    }
}
