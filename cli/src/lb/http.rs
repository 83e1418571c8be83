//! `ms lb http`.

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use ms_http::{Health, HttpServer, Readiness};
use ms_lb::{Proxy, Routes};
use ms_register::Registration;
use ms_rpc::SecondSignal;
use tokio::{sync::oneshot, time::timeout};
use tracing::warn;

use super::{plan::Plan, say};
use crate::{
    door::{Door, DoorArgs},
    registry, signals,
};

/// Arguments of the HTTP load balancer.
#[derive(Args, Debug)]
pub(crate) struct HttpArgs {
    /// go-micro-service's file; a missing one is written with defaults.
    #[arg(short, long = "original", value_name = "FILE", default_value = "http-load-balance.cfg")]
    c: PathBuf,
    /// Settings in TOML, over any registry, instead of -c.
    #[arg(long, value_name = "FILE", conflicts_with = "c")]
    config: Option<PathBuf>,
    /// Where it listens, instead of where the file says; an address that is not of loopback needs --cert or a token, or --insecure.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served. Default: nowhere.
    #[arg(long, value_name = "IP:PORT")]
    health: Option<SocketAddr>,
    #[command(flatten)]
    door: DoorArgs,
}

/// Time for the registry to tell of all services, before the balancer says that it is ready.
const SETTLE: Duration = Duration::from_secs(3);
/// Time for a registry to confirm that the balancer has left.
const LEAVE: Duration = Duration::from_secs(3);
/// Time for requests under way, at the end.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(args: HttpArgs) -> Result<(), Box<dyn Error>> {
    let mut plan = match &args.config {
        Some(path) => Plan::settings(path, args.listen)?,
        None => Plan::original(&args.c, args.listen).await?,
    };
    let door = args.door.open()?;
    door.check("http", plan.listen)?;
    let health = Health::start().map_err(|error| error.to_string())?;
    let services = registry::connect(&plan.registry).await.map_err(|failure| failure.about("registry"))?;
    if door.tls.is_some() {
        plan.proxy.scheme = "https";
    }
    // The token is this door's, and no business of the services.
    plan.proxy.keeps_authorization = door.tokens.is_some();
    let routes = Routes::new(&services, std::mem::take(&mut plan.rules), &plan.ejection)?;
    let proxy = Proxy::new(routes.clone(), plan.proxy.clone());
    let mut server = HttpServer::bind(plan.listen).await.map_err(|error| format!("http: {}: {error}", plan.listen))?;
    server = server.body_pause(proxy.silence());
    if let Some(tls) = &door.tls {
        server = server.tls(tls);
    }
    let listening = server.address();
    routes.settle(SETTLE).await;
    let router = match &door.tokens {
        Some(_) => door.access().guard(proxy.router()),
        // Browsers are clients of a load balancer.
        None => proxy.router(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    // An error is the end too.
    let mut serving = tokio::spawn(server.serve(router, async { drop(stopped.await) }));
    watched(args.health, &door, &health).await?;
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    // Callers that find it are served: it listens by now.
    let listed = register(plan, listening).await?;
    health.set(Readiness::Ready);
    say(&format!("load balancer is ready: {} on {listening}", if door.tls.is_some() { "HTTPS" } else { "HTTP" }));
    let second = signal.await;
    health.set(Readiness::ShuttingDown);
    if let Some(listed) = listed
        && let Err(error) = listed.deregister(LEAVE).await
    {
        warn!("{error}");
    }
    let _ = stop.send(());
    tokio::select! {
        ended = timeout(DRAIN, &mut serving) => {
            if ended.is_err() {
                warn!("requests that take longer than {DRAIN:?} are cut off");
            }
        }
        () = second.wait() => warn!("a second signal: requests under way are cut off"),
    }
    serving.abort();
    Ok(())
}

async fn register(plan: Plan, listening: SocketAddr) -> Result<Option<Registration>, Box<dyn Error>> {
    let Some(entry) = plan.entry(listening)? else { return Ok(None) };
    let registry = registry::connect(&entry.registry).await.map_err(|failure| failure.about("register"))?;
    Ok(Some(registry.register(&entry.service, entry.instance).await?))
}

/// Serves health and metrics until the process ends.
async fn watched(address: Option<SocketAddr>, door: &Door, health: &Health) -> Result<(), Box<dyn Error>> {
    let Some(address) = address else { return Ok(()) };
    door.check("health", address)?;
    let server = HttpServer::bind(address).await.map_err(|error| format!("health: {address}: {error}"))?;
    let server = match &door.tls {
        Some(tls) => server.tls(tls),
        None => server,
    };
    tokio::spawn(server.serve(health.routes(door.access()), std::future::pending()));
    Ok(())
}
