//! `ms mq-node`: a node of the queue, over RPC and HTTP.

use std::{error::Error, io::Write, net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use futures_util::FutureExt;
use ms_gmq::GmqServer;
use ms_http::{Health, HttpServer, Readiness};
use ms_mq::{
    Caller, HTTP_ADDRESS, Limited, Meter, MqClient, MqNodeServer, NODE_ID, NODES, Node, NodeConfig, NodeId, Ruled,
    SERVICE, STORE_ID, Selection, http,
};
use ms_msgo::Version1;
use ms_register::{Instance, MsRegister, ServiceName};
use ms_rpc::{ClientProxy, SecondSignal, Server};
use serde::Deserialize;
use tokio::time::{timeout, timeout_at};
use tracing::{error, info, warn};

use crate::{caller, door::DoorArgs, file, gmq::GmqArgs, registry, rules::RuleArgs, signals};

/// Arguments of the server. A missing argument is taken from the file of `--config`, or else has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct NodeArgs {
    /// A TOML file with keys of the same names.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    #[arg(long, env = "MS_REGISTRY", hide_env_values = true, help = registry::help("Where the node is listed. Default memory://, nowhere"))]
    registry: Option<String>,
    /// 1 to 1023, another one for each node. Default 1.
    #[arg(long)]
    node_id: Option<u16>,
    /// Numbers of all nodes of the cluster, such as 1,2,3. Clients place dedup keys among them, so that no key moves while a
    /// node is dead. Default: clients go by the nodes that they have seen.
    #[arg(long)]
    nodes: Option<String>,
    /// The share of pushes relative to other nodes. Default 1.
    #[arg(long, allow_negative_numbers = true)]
    weight: Option<f64>,
    /// The directory of the messages; it is made if it is not there. Default: mq-data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where RPC is served. Default 127.0.0.1:9503; an address that is not of loopback needs --cert or a token.
    #[arg(long)]
    rpc: Option<String>,
    /// The address under which peers reach RPC, as HOST:PORT, where it is not the listener's: behind NAT, or in a
    /// container. HTTP is listed under the same host.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where HTTP is served. Default 127.0.0.1:9504; an address that is not of loopback needs --cert or a token.
    #[arg(long)]
    http: Option<SocketAddr>,
    #[command(flatten)]
    #[serde(flatten)]
    gmq: GmqArgs,
    /// Serves msgo's version-1 frames on the port of RPC. They have neither tokens nor TLS.
    #[arg(long)]
    msgo: bool,
    #[command(flatten)]
    #[serde(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    #[serde(flatten)]
    rules: RuleArgs,
    /// A TOML file with what the node shows when it asks other nodes and makes calls: ca, cert, key, trust-domain, dns-suffix, token-file,
    /// insecure, and a table of identities, as in the file of `ms mq --profile`. Default: plaintext, without a token.
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Messages in memory; more are refused. Default 5,000,000.
    #[arg(long)]
    max_live_messages: Option<u64>,
    /// Messages pushed, and pops, that all doors together take in a second; more are refused. Default: no limit.
    #[arg(long, value_name = "COUNT")]
    limit: Option<NonZeroU32>,
    /// Calls that the node makes at a time, of the messages of topic ms.calls; 0: none are made. Default 256.
    #[arg(long, value_name = "COUNT")]
    calls: Option<usize>,
}

impl NodeArgs {
    /// With what the file says where nothing was given.
    fn with_file(self) -> Result<Self, Box<dyn Error>> {
        let Some(path) = &self.config else { return Ok(self) };
        let file: Self = file::read("config", path)?;
        Ok(Self {
            config: self.config,
            registry: self.registry.or(file.registry),
            node_id: self.node_id.or(file.node_id),
            nodes: self.nodes.or(file.nodes),
            weight: self.weight.or(file.weight),
            data: self.data.or(file.data),
            rpc: self.rpc.or(file.rpc),
            advertise: self.advertise.or(file.advertise),
            http: self.http.or(file.http),
            gmq: self.gmq.or(file.gmq),
            msgo: self.msgo || file.msgo,
            door: self.door.or(file.door),
            rules: self.rules.or(file.rules),
            peers: self.peers.or(file.peers),
            max_live_messages: self.max_live_messages.or(file.max_live_messages),
            limit: self.limit.or(file.limit),
            calls: self.calls.or(file.calls),
        })
    }
}

/// At a time: the files that the process may have open are for the queue and for RPC. Fewer pops wait than that.
const HTTP_CONNECTIONS: usize = 256;

/// Calls at a time, by default.
const CALLS_AT_A_TIME: usize = 256;
/// Time for calls under way, at the end.
const CALLS_END: Duration = Duration::from_secs(5);
/// Time for what the other nodes know.
const LEARNING: Duration = Duration::from_secs(30);

/// Time between two reports of the metrics of queues.
const METER: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: NodeArgs) -> Result<(), Box<dyn Error>> {
    let args = args.with_file()?;
    let id = args.node_id.unwrap_or(1);
    let id = NodeId::new(id).ok_or_else(|| format!("node-id: {id} is not one of 1 to 1023"))?;
    let nodes = args.nodes.as_deref().map(|nodes| check_nodes(nodes, id)).transpose()?;
    let weight = args.weight.unwrap_or(1.0);
    if !weight.is_finite() || weight < 0.0 {
        return Err(format!("weight: {weight} is no number from 0 up").into());
    }
    let address = args.http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9504)));
    let door = args.door.open()?;
    let access = door.access();
    let rules = args.rules.open(&door)?;
    let caller = args.peers.as_deref().map(caller::Caller::of_server).transpose()?.unwrap_or_default();
    door.check("http", address)?;
    let gmq = args.gmq.bind(&door).await?;
    let registry = args.registry.as_deref().unwrap_or("memory://");
    let registry = registry::connect(registry).await.map_err(|failure| failure.about("registry"))?;
    let mut config = NodeConfig::new(id);
    config.max_live_messages = args.max_live_messages.unwrap_or(config.max_live_messages);
    config.new_topics = args.gmq.new_topics()?;
    let data = args.data.unwrap_or_else(|| "mq-data".into());
    let node = tokio::task::spawn_blocking(move || {
        Node::open(&data, &config).map_err(|error| format!("data: {}: {error}", data.display()))
    })
    .await??;
    let (damage, _) = node.damage();
    damage.iter().for_each(|damage| warn!("{damage}"));

    let has_peers = check_id_is_free(&registry, &node).await?;
    if has_peers {
        catch_up(&registry, &caller, &node).await;
    }
    let engine = Ruled::new(Limited::new(node.clone(), args.limit), rules)?;
    let mut http = HttpServer::bind(address).await.map_err(|error| format!("http: {address}: {error}"))?;
    http = http.max_connections(HTTP_CONNECTIONS);
    let http_address = http.address();
    let mut server = Server::bind(args.rpc.as_deref().unwrap_or("127.0.0.1:9503"))
        .await
        .map_err(|error| format!("rpc: {error}"))?
        .register_with(registry.clone())
        .weight(weight)
        .measured()
        .metadata(NODE_ID, id.to_string())
        .metadata(STORE_ID, format!("{:x}", node.store_id()))
        .serve(MqNodeServer::new(engine.clone()));
    door.check("rpc", server.address())?;
    // The door was checked: beyond loopback there is TLS, or a token, or the word of the operator.
    server = server.insecure();
    if let Some(tls) = &door.tls {
        server = server.tls(tls);
        http = http.tls(tls);
    }
    if let Some(tokens) = &door.tokens {
        server = server.tokens(tokens);
    }
    if args.msgo {
        server = server.protocol(Version1);
    }
    if let Some(nodes) = nodes {
        server = server.metadata(NODES, nodes);
    }
    let advertised = args.advertise.as_deref().map(Instance::from_address).transpose();
    let advertised = advertised.map_err(|error| format!("advertise: {error}"))?;
    if let Some(advertised) = &advertised {
        server = server.advertise(advertised.address());
    }
    match advertised {
        Some(advertised) => {
            let http = Instance::new(advertised.host(), http_address.port());
            server = server.metadata(HTTP_ADDRESS, http.address());
        }
        // Where it listens on all addresses, callers know one of them from RPC.
        None if http_address.ip().is_unspecified() => {}
        None => server = server.metadata(HTTP_ADDRESS, http_address.to_string()),
    }
    let health = Health::start().map_err(|error| error.to_string())?;
    tokio::spawn(Meter::new(&node).run(METER));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let routes = access.clone().guard(http::router(engine.clone())).merge(health.routes(access));
    let stopped = async { drop(stopped.await) }.shared();
    // An error is the end too.
    let mut http = tokio::spawn(http.serve(routes, stopped.clone()));
    let gmq_address = gmq.as_ref().map(GmqServer::address);
    let registering = args.gmq.registering(id.get(), weight, (gmq_address, http_address))?;
    let mut gmq = gmq.map(|gmq| tokio::spawn(gmq.serve(engine, stopped)));
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    let running = server.start().await?;
    if has_peers {
        // Changes made just before this node was listed.
        catch_up(&registry, &caller, &node).await;
    }
    let calls = args.calls.unwrap_or(CALLS_AT_A_TIME);
    let proxy = caller.proxy(ClientProxy::builder(registry)).build()?;
    let calls = (calls > 0).then(|| Caller::start(node.clone(), proxy, calls));
    health.set(Readiness::Ready);
    // The reader may be gone.
    let gmq_text = gmq_address.map(|address| format!(", gmq on {address}")).unwrap_or_default();
    let (rpc, out) = (running.address(), &mut std::io::stdout());
    let _ = writeln!(out, "node {id} is ready: RPC on {rpc}, HTTP on {http_address}{gmq_text}");
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let registered = registering.map(|node| tokio::spawn(node.run(async { drop(left.await) })));
    let failure = tokio::select! {
        second = signal => {
            health.set(Readiness::ShuttingDown);
            drop(leave);
            tokio::select! {
                () = running.shutdown() => {}
                () = second.wait() => warn!("a second signal: calls in flight are cut off"),
            }
            None
        }
        failure = node.failed() => {
            error!("{failure}");
            health.set(Readiness::Failed(failure.to_string()));
            drop(leave);
            running.shutdown().await;
            Some(failure)
        }
    };
    if let Some(registered) = registered {
        // Bounded, and its panics are its own.
        let _ = registered.await;
    }
    if let Some(calls) = calls {
        calls.stop(CALLS_END).await;
    }
    let _ = stop.send(());
    tokio::task::spawn_blocking(move || node.close()).await?;
    // Requests that were taken are answered, for clients that read.
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    for server in [Some(&mut http), gmq.as_mut()].into_iter().flatten() {
        if timeout_at(end, &mut *server).await.is_err() {
            server.abort();
        }
    }
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// Checks the numbers of `--nodes`; this node's must be among them.
fn check_nodes(nodes: &str, id: NodeId) -> Result<String, Box<dyn Error>> {
    let numbers = nodes.split(',').map(|text| text.trim().parse().ok().and_then(NodeId::new));
    let numbers: Option<Vec<_>> = numbers.collect();
    let numbers =
        numbers.ok_or_else(|| format!("nodes: {nodes:?} is no list of numbers from 1 to 1023, such as 1,2,3"))?;
    if !numbers.contains(&id) {
        return Err(format!("nodes: {nodes} leaves out {id}, the number of this node").into());
    }
    Ok(numbers.iter().map(NodeId::to_string).collect::<Vec<_>>().join(","))
}

/// Learns topics, settings and queues from the nodes that are listed. A node starts without them too.
async fn catch_up(registry: &Arc<dyn MsRegister>, caller: &caller::Caller, node: &Node) {
    let learning = async {
        let peers = MqClient::configured(registry.clone(), Selection::default(), |builder| caller.proxy(builder))?;
        peers.catch_up(node).await.map_err(Box::<dyn Error>::from)
    };
    match timeout(LEARNING, learning).await {
        Ok(Ok(0)) => {}
        Ok(Ok(changes)) => info!("learned topics and queues from other nodes: {changes} changes"),
        Ok(Err(error)) => warn!("topics and settings of other nodes are not known: {error}"),
        Err(_) => warn!("topics and settings of other nodes are not known: they take longer than {LEARNING:?}"),
    }
}

/// A node's number belongs to one directory: another one under the same number would give the same ids. Two that start at
/// the same moment do not see each other. Returns true if other nodes are listed.
async fn check_id_is_free(registry: &Arc<dyn MsRegister>, node: &Node) -> Result<bool, Box<dyn Error>> {
    let service: ServiceName = SERVICE.parse()?;
    let (id, store) = (node.id().to_string(), format!("{:x}", node.store_id()));
    let mut has_peers = false;
    for other in registry.list(&service).await? {
        let metadata = other.metadata();
        if metadata.get(NODE_ID) == Some(&id) && metadata.get(STORE_ID) != Some(&store) {
            let text = format!(
                "node-id: {id} is listed already, for another directory, at {}: give each node a number of its own",
                other.address()
            );
            return Err(text.into());
        }
        has_peers |= metadata.get(NODE_ID) != Some(&id);
    }
    Ok(has_peers)
}
