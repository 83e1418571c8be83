//! The command `ms`.

mod mq;
mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Queue nodes, and what they hold.
#[derive(Debug, Parser)]
#[command(name = "ms", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node of the message queue.
    MqNode(node::NodeArgs),
    /// Speaks to the nodes of the message queue.
    Mq(mq::MqArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,nacos_sdk=warn,zookeeper_client=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Cli::parse().command {
        Command::MqNode(args) => node::run(args).await,
        Command::Mq(args) => mq::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ms: {error}");
            ExitCode::FAILURE
        }
    }
}
