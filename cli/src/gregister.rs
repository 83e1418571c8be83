//! `ms gregister`: a registry node.

use std::{error::Error, io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use axum::Router;
use clap::Args;
use ms_gregister::{Failed, Networks, Node};
use ms_http::{Health, HttpServer, Readiness};
use ms_register::ServiceName;
use serde::Deserialize;
use tracing::error;

use crate::{door::DoorArgs, file, registry, signals};

/// Arguments of the server. A missing argument is taken from the file of `--config`, or else has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct GregisterArgs {
    /// A TOML file with keys of the same names.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where HTTP is served. Default 127.0.0.1:9595; an address that is not of loopback needs --cert or a token, and networks.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// The directory of what is registered; it is made if it is not there. Default: gregister-data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The longest lease of a candidate in an election, in seconds, 1 to 3600: a candidate that asks for more gets this. A new store elects nobody
    /// for so long; give no less than the store had that it takes the place of. Default: 10.
    #[arg(long)]
    candidate_ttl: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    door: DoorArgs,
    /// Networks that the node may dial to probe nodes that joined by `/register`, such as 10.0.0.0/8,192.168.1.7.
    /// Default: loopback addresses.
    #[arg(long)]
    networks: Option<String>,
    #[arg(long, help = registry::help("Shows another registry in `/getNodes`, read-only, and stores nothing"))]
    backend: Option<String>,
    /// The service of the other registry that is shown. Default: mq.
    #[arg(long)]
    service: Option<String>,
}

impl GregisterArgs {
    /// With what the file says where nothing was given.
    fn with_file(self) -> Result<Self, Box<dyn Error>> {
        let Some(path) = &self.config else { return Ok(self) };
        let file: Self = file::read("config", path)?;
        Ok(Self {
            config: self.config,
            http: self.http.or(file.http),
            data: self.data.or(file.data),
            candidate_ttl: self.candidate_ttl.or(file.candidate_ttl),
            door: self.door.or(file.door),
            networks: self.networks.or(file.networks),
            backend: self.backend.or(file.backend),
            service: self.service.or(file.service),
        })
    }

    fn candidate_ttl(&self) -> Result<Duration, Box<dyn Error>> {
        let Some(seconds) = self.candidate_ttl else { return Ok(Node::CANDIDATE_TTL) };
        let valid = (1.0..=3600.0).contains(&seconds);
        valid.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "candidate-ttl: give 1 to 3600 seconds".into())
    }

    fn networks(&self, address: SocketAddr) -> Result<Networks, Box<dyn Error>> {
        match &self.networks {
            Some(networks) => Ok(networks.parse().map_err(|error| format!("networks: {error}"))?),
            None if address.ip().is_loopback() || self.backend.is_some() => Ok(Networks::default()),
            None => {
                Err(format!("networks: {address} can be reached by others: give the networks that it may dial").into())
            }
        }
    }
}

pub(crate) async fn run(args: GregisterArgs) -> Result<(), Box<dyn Error>> {
    let args = args.with_file()?;
    let address = args.http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9595)));
    let door = args.door.clone().open()?;
    door.check("http", address)?;
    let networks = args.networks(address)?;
    let access = door.access();
    let health = Health::start().map_err(|error| error.to_string())?;
    let (node, router, what) = match &args.backend {
        Some(backend) => {
            if args.data.is_some() {
                return Err("data: with --backend nothing is stored".into());
            }
            if args.candidate_ttl.is_some() {
                return Err("candidate-ttl: with --backend nobody is elected".into());
            }
            let (router, url) = mirror(backend, args.service.as_deref()).await?;
            (None, router, format!("gregister shows {url}"))
        }
        None if args.service.is_some() => return Err("service: it needs --backend".into()),
        None => {
            let candidate_ttl = args.candidate_ttl()?;
            let node = open(args.data.unwrap_or_else(|| "gregister-data".into()), candidate_ttl).await?;
            (Some(node.clone()), ms_gregister::router(node, networks), "gregister".to_owned())
        }
    };
    let mut server = HttpServer::bind(address).await.map_err(|error| format!("http: {address}: {error}"))?;
    if let Some(tls) = &door.tls {
        server = server.tls(tls);
    }
    let routes = access.clone().guard(router).merge(health.routes(access));
    let (address, protocol) = (server.address(), if door.tls.is_some() { "HTTPS" } else { "HTTP" });
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    health.set(Readiness::Ready);
    // The reader may be gone.
    let _ = writeln!(std::io::stdout(), "{what} is ready: {protocol} on {address}");
    tokio::select! {
        // Confirmed changes are on the disk; requests that wait for changes are cut off.
        second = signal => drop(second),
        () = server.serve(routes, std::future::pending()) => {}
        failed = failure(node.as_ref()) => {
            error!("{failed}");
            return Err(failed.into());
        }
    }
    Ok(())
}

async fn open(data: PathBuf, candidate_ttl: Duration) -> Result<Node, Box<dyn Error>> {
    let opened = tokio::task::spawn_blocking(move || {
        Node::open(&data, candidate_ttl).map_err(|error| format!("data: {}: {error}", data.display()))
    });
    Ok(opened.await??)
}

/// Routes that show another registry, and its URL without its secrets.
async fn mirror(backend: &str, service: Option<&str>) -> Result<(Router, String), Box<dyn Error>> {
    let service: ServiceName = service.unwrap_or(ms_mq::SERVICE).parse()?;
    let registry = registry::connect(backend).await.map_err(|failure| failure.about("backend"))?;
    let url = registry.url().to_owned();
    Ok((ms_gregister::mirror(registry, service), url))
}

async fn failure(node: Option<&Node>) -> Failed {
    match node {
        Some(node) => node.failed().await,
        None => std::future::pending().await,
    }
}
