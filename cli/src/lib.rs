//! The command `ms`, for its own program and for tests that run it as another one.

mod caller;
mod door;
mod exit;
mod file;
mod gmq;
mod gregister;
mod lb;
mod mq;
mod node;
mod open_files;
mod output;
mod registry;
mod services;
mod signals;
mod times;
mod tls;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use exit::Failure;
use tracing_subscriber::EnvFilter;

/// Services of any registry, queue nodes and what they hold, and a small registry.
#[derive(Debug, Parser)]
#[command(name = "ms", version = registry::VERSION.as_str())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node of the registry gregister.
    #[command(after_help = "Example:\n  ms gregister --data /var/lib/gregister")]
    Gregister(gregister::GregisterArgs),
    /// Runs a load balancer before services of a registry: for HTTP or MQTT, or beside a program that knows no registry.
    Lb(lb::LbArgs),
    /// Runs a node of the message queue.
    #[command(after_help = "Example:\n  ms mq-node --data /var/lib/mq --node-id 2 --nodes 1,2,3")]
    MqNode(node::NodeArgs),
    /// Pushes, pops, and operates the queues of all nodes.
    #[command(after_help = mq::EXIT_CODES)]
    Mq(mq::MqArgs),
    /// Lists the services of a registry.
    #[command(after_help = "Example:\n  ms services --registry etcd://127.0.0.1:2379")]
    Services(services::ServicesArgs),
    /// Lists the instances of a service.
    #[command(after_help = "Example:\n  ms instances goods --watch")]
    Instances(services::InstancesArgs),
    /// Shows the methods of a service, as an instance tells them.
    #[command(after_help = "Example:\n  ms describe goods")]
    Describe(services::ServiceArgs),
    /// Asks every instance of a service for its health; exit code 4 unless all serve.
    #[command(after_help = "Example:\n  ms health goods --json")]
    Health(services::ServiceArgs),
    /// Calls a method by names, and prints its result in JSON.
    #[command(
        after_help = "Examples:\n  ms call goods find 5\n  ms call goods find -d '{\"id\": 5}' --deadline 200ms -m tenant=blue"
    )]
    Call(services::CallArgs),
    /// Makes certificates for development.
    Tls(tls::TlsArgs),
}

/// The command: reads the arguments of this process, and does what they say. Starts a runtime, and logs to stderr.
#[tokio::main]
pub async fn main() -> ExitCode {
    let command = Cli::parse().command;
    let default = match command {
        Command::MqNode(_) | Command::Gregister(_) | Command::Lb(_) => "info,nacos_sdk=warn,zookeeper_client=error",
        // Its results are its output.
        _ => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // Where stderr takes nothing, as a file on a full disk, the command goes on without a log.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    if matches!(command, Command::Gregister(_) | Command::Lb(_) | Command::MqNode(_)) {
        open_files::raise();
    }
    let done = match command {
        Command::Gregister(args) => gregister::run(args).await.map_err(Failure::from),
        Command::Lb(args) => lb::run(args).await.map_err(Failure::from),
        Command::MqNode(args) => node::run(args).await.map_err(Failure::from),
        Command::Mq(args) => mq::run(args).await,
        Command::Services(args) => services::services(args).await,
        Command::Instances(args) => services::instances(args).await,
        Command::Describe(args) => services::describe(args).await,
        Command::Health(args) => services::health(args).await,
        Command::Call(args) => services::call(args).await,
        Command::Tls(args) => tls::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Closed) {
                let _ = writeln!(std::io::stderr(), "ms: {failure}");
            }
            failure.code()
        }
    }
}
