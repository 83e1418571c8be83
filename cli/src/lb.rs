//! `ms lb`: load balancers, with go-micro-service's files or with settings of one's own.

mod http;
mod mqtt;
mod original;
mod plan;
mod sidecar;

use std::{error::Error, io::Write};

use clap::{Args, Subcommand};

/// Arguments of the load balancers.
#[derive(Args, Debug)]
pub(crate) struct LbArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Carries HTTP requests to instances of services, by rules.
    #[command(after_help = "Examples:\n  ms lb http -c http-load-balance.cfg\n  ms lb http --config lb.toml")]
    Http(http::HttpArgs),
    /// Takes requests over MQTT to services behind brokers, and the answers back.
    #[command(after_help = "Example:\n  ms lb mqtt -c mqtt-load-balance.cfg")]
    Mqtt(mqtt::MqttArgs),
    /// Registers a service in ZooKeeper and names load balancers, for a program beside it that speaks plain HTTP.
    #[command(after_help = "Example:\n  ms lb sidecar -c http-loadbalance-client.cfg")]
    Sidecar(sidecar::SidecarArgs),
}

pub(crate) async fn run(args: LbArgs) -> Result<(), Box<dyn Error>> {
    match args.kind {
        Kind::Http(args) => http::run(args).await,
        Kind::Mqtt(args) => mqtt::run(args).await,
        Kind::Sidecar(args) => sidecar::run(args).await,
    }
}

/// Says that a server is ready. The reader may be gone.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
