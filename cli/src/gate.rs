//! `ms gate`: a gate between many clients and back ends.

mod place;

use std::{error::Error, io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ms_gate::{Gate, RouteFile, Routes, RunningGate};
use ms_http::{Health, HttpServer, Readiness};
use ms_register::MsRegister;
use ms_rpc::{Balancer, ClientProxy, SecondSignal, Server, tls::Tls};
use serde::Deserialize;
use tracing::warn;

use crate::{
    door::{Door, DoorArgs},
    file, registry, signals,
};

use place::Place;

pub(crate) const EXAMPLE: &str = "Examples:\n  ms gate --registry etcd://127.0.0.1:2379 --route conf/route.json\n  \
    ms gate --dinx conf/dinx.json --route conf/route.json\n  ms gate --registry etcd://127.0.0.1:2379 --messages im=2,3 --echo 1";

/// Arguments of the server. A missing argument is taken from the file of `--config`, or else has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct GateArgs {
    /// A TOML file with keys of the same names.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    #[arg(long, env = "MS_REGISTRY", hide_env_values = true, help = registry::help("Where back ends and gates are listed, each group as the service of its name"))]
    registry: Option<String>,
    /// A zinx cluster's list of gates and back ends, in place of a registry; read again when it changes.
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    dinx: Option<PathBuf>,
    /// ID of this gate in the file of --dinx. Default: that of the only gate.
    #[arg(long, value_name = "ID")]
    node_id: Option<u32>,
    /// A zinx cluster's route.json: groups that take the messages; read again when it changes.
    #[arg(long, value_name = "FILE")]
    route: Option<PathBuf>,
    /// Messages that a group takes, such as im=2,3; for a gate without --route.
    #[arg(long, value_name = "GROUP=IDS", conflicts_with = "route")]
    messages: Vec<String>,
    /// Message that the gate answers itself, with its own content.
    #[arg(long, value_name = "ID")]
    echo: Vec<u32>,
    /// Group of the gates, the name of their service. Default: gate.
    #[arg(long, value_name = "GROUP")]
    name: Option<String>,
    /// Where clients are served over TCP. Default 127.0.0.1:10000; an address that is not of loopback needs --cert.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// Where clients are served over WebSocket. Default: the port above that of TCP.
    #[arg(long)]
    ws: Option<SocketAddr>,
    /// Where the gate's service is served to back ends. Default: two ports above that of TCP, on loopback.
    #[arg(long)]
    rpc: Option<SocketAddr>,
    /// The address under which peers reach RPC, as HOST:PORT, where it is not the listener's: behind NAT, or in a container.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where health and metrics are served over HTTP. Default: three ports above that of TCP, on loopback.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Origin of pages whose scripts may connect, such as https://chat.example.com; `*`: of all. Default: of none.
    #[arg(long)]
    origin: Vec<String>,
    /// Balancer among the back ends of a group. consistent-hash keeps a client at one back end. Default: p2c.
    #[arg(long)]
    balancer: Option<String>,
    /// Time of a back end for a message, in milliseconds. Default 5000.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Messages a second of one connection; 0: any number. Default 1000.
    #[arg(long, value_name = "COUNT")]
    rate: Option<u32>,
    /// Connections at a time. Default 100,000.
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<usize>,
    /// Connections of one address at a time. Default 1,000.
    #[arg(long, value_name = "COUNT")]
    max_per_address: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    door: DoorArgs,
    /// Authorities that sign the back ends' certificates, in PEM: they are called by TLS alone, with --cert as this gate's own.
    #[arg(long, value_name = "FILE")]
    backend_ca: Option<PathBuf>,
    /// Trust domain of the back ends' identities, for --backend-ca: spiffe://TRUST-DOMAIN/GROUP.
    #[arg(long, value_name = "TRUST-DOMAIN")]
    backend_domain: Option<String>,
}

impl GateArgs {
    /// With what the file says where nothing was given.
    fn with_file(self) -> Result<Self, Box<dyn Error>> {
        let Some(path) = &self.config else { return Ok(self) };
        let file: Self = file::read("config", path)?;
        let or = |own: Vec<String>, file: Vec<String>| if own.is_empty() { file } else { own };
        let has_list = self.registry.is_some() || self.dinx.is_some();
        let has_routes = self.route.is_some() || !self.messages.is_empty();
        Ok(Self {
            config: self.config,
            registry: if has_list { self.registry } else { file.registry },
            dinx: if has_list { self.dinx } else { file.dinx },
            node_id: self.node_id.or(file.node_id),
            route: if has_routes { self.route } else { file.route },
            messages: if has_routes { self.messages } else { file.messages },
            echo: if self.echo.is_empty() { file.echo } else { self.echo },
            name: self.name.or(file.name),
            tcp: self.tcp.or(file.tcp),
            ws: self.ws.or(file.ws),
            rpc: self.rpc.or(file.rpc),
            advertise: self.advertise.or(file.advertise),
            http: self.http.or(file.http),
            origin: or(self.origin, file.origin),
            balancer: self.balancer.or(file.balancer),
            timeout_ms: self.timeout_ms.or(file.timeout_ms),
            rate: self.rate.or(file.rate),
            max_connections: self.max_connections.or(file.max_connections),
            max_per_address: self.max_per_address.or(file.max_per_address),
            door: self.door.or(file.door),
            backend_ca: self.backend_ca.or(file.backend_ca),
            backend_domain: self.backend_domain.or(file.backend_domain),
        })
    }

    /// The registry: that of the file of `--dinx`, or another one.
    async fn registry(&self) -> Result<Arc<dyn MsRegister>, Box<dyn Error>> {
        let (what, url) = match (&self.dinx, &self.registry) {
            (Some(path), None) => ("dinx", format!("file://{}", path.display())),
            (None, Some(url)) => ("registry", url.clone()),
            (None, None) => return Err("registry: where are the back ends listed? Give --registry, or --dinx".into()),
            (Some(_), Some(_)) => return Err("dinx: give it, or --registry, but not both".into()),
        };
        Ok(registry::connect(&url).await.map_err(|failure| failure.about(what))?)
    }

    /// Routes that were given as arguments.
    fn routes(&self) -> Result<Routes, Box<dyn Error>> {
        let mut routes = Routes::new();
        for messages in &self.messages {
            let wrong = || format!("messages: `{messages}` is not of the form GROUP=ID,ID");
            let (group, ids) = messages.split_once('=').ok_or_else(wrong)?;
            for id in ids.split(',') {
                let id = id.trim().parse().map_err(|_| wrong())?;
                routes = routes.add(id, group).map_err(|error| format!("messages: {error}"))?;
            }
        }
        Ok(routes)
    }

    /// Client of the back ends.
    fn proxy(&self, registry: Arc<dyn MsRegister>, door: &DoorArgs) -> Result<ClientProxy, Box<dyn Error>> {
        let mut builder = ClientProxy::builder(registry).name("ms gate");
        if let Some(balancer) = &self.balancer {
            builder = builder.balancer(balancer.parse::<Balancer>().map_err(|error| format!("balancer: {error}"))?);
        }
        match (self.backend_ca.clone(), &self.backend_domain) {
            (None, None) => {}
            (Some(ca), Some(domain)) => {
                let tls = match door.certificate() {
                    Some((cert, key)) => Tls::mutual(ca, cert, key),
                    None => Tls::one_way_client(ca),
                };
                let tls = tls.trust_domain(domain).build().map_err(|error| format!("backend-ca: {error}"))?;
                builder = builder.tls(&tls);
            }
            (Some(_), None) => return Err("backend-ca: it needs --backend-domain, which names the back ends".into()),
            (None, Some(_)) => return Err("backend-domain: it needs --backend-ca, which signs the back ends".into()),
        }
        Ok(builder.build()?)
    }
}

pub(crate) async fn run(args: GateArgs) -> Result<(), Box<dyn Error>> {
    let args = args.with_file()?;
    let door = args.door.clone().open()?;
    let file = match &args.route {
        Some(path) => Some(RouteFile::read(path).await.map_err(|error| format!("route: {error}"))?),
        None => None,
    };
    let routes = match &file {
        Some(file) => file.routes().clone(),
        None => args.routes()?,
    };
    if routes == Routes::new() && args.echo.is_empty() {
        return Err("route: which group takes which messages? Give --route, or --messages".into());
    }
    let registry = args.registry().await?;
    let place = Place::of(&args, &registry).await?;
    place.check(&door)?;
    let gate = open_doors(&args, &place, &door, args.proxy(registry.clone(), &args.door)?).await?.routes(routes);
    let mut server = Server::bind(&place.rpc.to_string()).await.map_err(|error| format!("rpc: {error}"))?;
    // The door was checked: beyond loopback there is TLS, or a token, or the word of the operator.
    server = server.register_with(registry).measured().insecure();
    if let Some(advertised) = &place.advertise {
        server = server.advertise(advertised.address());
    }
    let mut http = HttpServer::bind(place.http).await.map_err(|error| format!("http: {}: {error}", place.http))?;
    if let Some(tls) = &door.tls {
        (server, http) = (server.tls(tls), http.tls(tls));
    }
    if let Some(tokens) = &door.tokens {
        server = server.tokens(tokens);
    }
    let health = Health::start()?;
    let (http_address, routes) = (http.address(), health.routes(door.access()));
    let http = tokio::spawn(http.serve(routes, std::future::pending()));
    let rpc = server.address();
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    let running = gate.start(server).await?;
    let following = file.map(|file| file.follow(&running));
    health.set(Readiness::Ready);
    say_ready(&running, rpc, http_address);
    let second = signal.await;
    health.set(Readiness::ShuttingDown);
    drop(following);
    tokio::select! {
        () = running.shutdown() => {}
        () = second.wait() => warn!("a second signal: clients are cut off"),
    }
    http.abort();
    Ok(())
}

/// A gate that listens for clients.
async fn open_doors(args: &GateArgs, place: &Place, door: &Door, proxy: ClientProxy) -> Result<Gate, Box<dyn Error>> {
    let mut gate = Gate::new(proxy).named(&place.group).limits(|limits| {
        let default = limits.clone();
        limits.backend_timeout = args.timeout_ms.map_or(default.backend_timeout, Duration::from_millis);
        limits.messages_per_second = args.rate.unwrap_or(default.messages_per_second);
        limits.burst = args.rate.unwrap_or(default.burst);
        limits.max_connections = args.max_connections.unwrap_or(default.max_connections);
        limits.max_per_address = args.max_per_address.unwrap_or(default.max_per_address);
    });
    for id in &args.echo {
        gate = gate.handle(*id, async |_, _, data| Some(data));
    }
    gate = args.origin.iter().fold(gate, Gate::origin);
    if let Some(tls) = &door.tls {
        gate = gate.tls(tls);
    }
    let gate = gate.tcp(&place.tcp.to_string()).await.map_err(|error| format!("tcp: {error}"))?;
    Ok(gate.web_socket(&place.ws.to_string()).await.map_err(|error| format!("ws: {error}"))?)
}

fn say_ready(gate: &RunningGate, rpc: SocketAddr, http: SocketAddr) {
    let text = |address: Option<SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    let (tcp, ws) = (text(gate.tcp_address()), text(gate.web_socket_address()));
    // The reader may be gone.
    let _ = writeln!(
        std::io::stdout(),
        "gate {} is ready: TCP on {tcp}, WebSocket on {ws}, RPC on {rpc}, HTTP on {http}",
        gate.id()
    );
}
