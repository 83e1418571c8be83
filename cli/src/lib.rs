//! The command `ms`, for its own program and for tests that run it as another one.

mod file;
mod gregister;
mod mq;
mod node;
mod open_files;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Queue nodes and what they hold, and a small registry.
#[derive(Debug, Parser)]
#[command(name = "ms", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node of the registry gregister.
    Gregister(gregister::GregisterArgs),
    /// Runs a node of the message queue.
    MqNode(node::NodeArgs),
    /// Speaks to the nodes of the message queue.
    Mq(mq::MqArgs),
}

/// The command: reads the arguments of this process, and does what they say. Starts a runtime, and logs to stderr.
#[tokio::main]
pub async fn main() -> ExitCode {
    let command = Cli::parse().command;
    let default = match command {
        Command::MqNode(_) | Command::Gregister(_) => "info,nacos_sdk=warn,zookeeper_client=error",
        // What it does is said by what it prints.
        Command::Mq(_) => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // Where stderr takes nothing, as a file on a full disk, the command goes on without a log.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    if matches!(command, Command::Gregister(_) | Command::MqNode(_)) {
        open_files::raise();
    }
    let done = match command {
        Command::Gregister(args) => gregister::run(args).await,
        Command::MqNode(args) => node::run(args).await,
        Command::Mq(args) => mq::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "ms: {error}");
            ExitCode::FAILURE
        }
    }
}
