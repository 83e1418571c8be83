//! `ms gregister`: a registry node.

use std::{error::Error, io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use axum::Router;
use clap::Args;
use ms_gregister::{Access, Failed, Networks, Node};
use ms_register::ServiceName;
use serde::Deserialize;
use tokio::net::TcpListener;
use tracing::error;

use crate::{
    file,
    health::{Health, State},
    registry, signals,
};

/// Arguments of the server. One that is not given is taken from the file of `--config`, or else has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct GregisterArgs {
    /// A TOML file with keys of the same names.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where HTTP is served. Default 127.0.0.1:9595; an address that is not of loopback needs a token and networks.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// The directory of what is registered; it is made if it is not there. Default: gregister-data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The longest lease of a candidate in an election, in seconds, 1 to 3600: a candidate that asks for more gets this. A new store elects nobody
    /// for so long; give no less than the store had that it takes the place of. Default: 10.
    #[arg(long)]
    candidate_ttl: Option<f64>,
    /// The word that every request must say. Better in the file: others on this machine see arguments.
    #[arg(long)]
    token: Option<String>,
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
        let file: Self = file::read(path)?;
        Ok(Self {
            config: self.config,
            http: self.http.or(file.http),
            data: self.data.or(file.data),
            candidate_ttl: self.candidate_ttl.or(file.candidate_ttl),
            token: self.token.or(file.token),
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

    fn access(&self, address: SocketAddr) -> Result<Access, Box<dyn Error>> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        if !address.ip().is_loopback() {
            if token.is_none() {
                let text = format!("token: {address} can be reached by others: give a token that they must say");
                return Err(text.into());
            }
            if self.networks.is_none() && self.backend.is_none() {
                let text = format!("networks: {address} can be reached by others: give the networks that it may dial");
                return Err(text.into());
            }
        }
        let mut access = Access::open();
        if let Some(token) = token {
            access = access.with_token(token);
        }
        if let Some(networks) = &self.networks {
            let networks: Networks = networks.parse().map_err(|error| format!("networks: {error}"))?;
            access = access.with_networks(networks);
        }
        Ok(access)
    }
}

pub(crate) async fn run(args: GregisterArgs) -> Result<(), Box<dyn Error>> {
    let args = args.with_file()?;
    let address = args.http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9595)));
    let access = args.access(address)?;
    let health = Health::start()?;
    let own_routes = health.routes(access.clone());
    let (node, router, what) = match &args.backend {
        Some(backend) => {
            if args.data.is_some() {
                return Err("data: with --backend nothing is stored".into());
            }
            if args.candidate_ttl.is_some() {
                return Err("candidate-ttl: with --backend nobody is elected".into());
            }
            let (router, url) = mirror(backend, args.service.as_deref(), access).await?;
            (None, router, format!("gregister shows {url}"))
        }
        None if args.service.is_some() => return Err("service: it needs --backend".into()),
        None => {
            let candidate_ttl = args.candidate_ttl()?;
            let node = open(args.data.unwrap_or_else(|| "gregister-data".into()), candidate_ttl).await?;
            (Some(node.clone()), ms_gregister::router(node, access), "gregister".to_owned())
        }
    };
    let listener = TcpListener::bind(address).await.map_err(|error| format!("http: {address}: {error}"))?;
    let address = listener.local_addr()?;
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    health.set(State::Ready);
    // The reader may be gone.
    let _ = writeln!(std::io::stdout(), "{what} is ready: HTTP on {address}");
    tokio::select! {
        // Confirmed changes are on the disk; requests that wait for changes are cut off.
        second = signal => drop(second),
        () = ms_gregister::serve(listener, router.merge(own_routes), usize::MAX, std::future::pending()) => {}
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
async fn mirror(backend: &str, service: Option<&str>, access: Access) -> Result<(Router, String), Box<dyn Error>> {
    let service: ServiceName = service.unwrap_or(ms_mq::SERVICE).parse()?;
    let registry = registry::connect(backend).await.map_err(|failure| failure.about("backend"))?;
    let url = registry.url().to_owned();
    Ok((ms_gregister::mirror(registry, service, access), url))
}

async fn failure(node: Option<&Node>) -> Failed {
    match node {
        Some(node) => node.failed().await,
        None => std::future::pending().await,
    }
}
