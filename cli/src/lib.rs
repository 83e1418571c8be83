//! The command `ms`, for its own program and for tests that run it as another one.

mod caller;
mod door;
mod exit;
mod file;
mod gate;
mod gmq;
mod gregister;
mod lb;
mod log;
mod mq;
mod node;
mod open_files;
mod output;
mod registry;
mod rules;
mod services;
mod signals;
mod times;
mod tls;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use exit::Failure;
use gmq::Translated;
use log::Log;

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
    /// Runs a gate between many clients, over TCP and WebSocket, and back ends.
    #[command(after_help = gate::EXAMPLE)]
    Gate(Box<gate::GateArgs>),
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
    /// Runs a queue node by the command line of gmq's gnode, or its ini file.
    #[command(disable_help_flag = true)]
    Gnode(gmq::Words),
    #[command(hide = true, disable_help_flag = true)]
    GmqRegister(gmq::Words),
    /// Pushes and pops over gmq's TCP protocol, by the command line of gmq's gclient.
    #[command(disable_help_flag = true)]
    Gclient(gmq::Words),
    /// Serves the routes of gmq-web for the nodes of a register.
    #[command(disable_help_flag = true)]
    GmqWeb(gmq::Words),
}

/// The command: reads the arguments of this process, and does what they say. Starts a runtime, and logs to stderr.
#[tokio::main]
pub async fn main() -> ExitCode {
    let (command, log) = match command(std::env::args_os()) {
        Ok(found) => found,
        Err(failure) => return ended(Err(failure)),
    };
    let default = match command {
        Command::Gate(_) | Command::Gregister(_) | Command::Lb(_) | Command::MqNode(_) => {
            "info,nacos_sdk=warn,zookeeper_client=error"
        }
        // Its results are its output.
        _ => "warn",
    };
    if let Err(text) = log.start(default) {
        return ended(Err(Failure::Other(text)));
    }
    if matches!(command, Command::Gate(_) | Command::Gregister(_) | Command::Lb(_) | Command::MqNode(_)) {
        open_files::raise();
    }
    let done = match command {
        Command::Gate(args) => gate::run(*args).await.map_err(Failure::from),
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
        Command::Gclient(words) => gmq::client::run(words).await,
        Command::GmqWeb(words) => gmq::web::run(words).await,
        Command::Gnode(_) | Command::GmqRegister(_) => Err(Failure::Usage("a command line leads to itself".to_owned())),
    };
    ended(done)
}

/// The command of this process, and its log: the command lines of gmq's programs stand for others.
fn command(arguments: impl Iterator<Item = OsString>) -> Result<(Command, Log), Failure> {
    let command = Cli::parse_from(gmq::by_program(arguments)).command;
    let translated = match command {
        Command::Gnode(words) => gmq::gnode(&words),
        Command::GmqRegister(words) => gmq::gregister(&words),
        other => return Ok((other, Log::default())),
    };
    let Translated { arguments, log } = translated?;
    let arguments = ["ms".to_owned()].into_iter().chain(arguments);
    Ok((Cli::try_parse_from(arguments).map_err(|error| Failure::Usage(error.to_string()))?.command, log))
}

/// Says why the command has failed.
fn ended(done: Result<(), Failure>) -> ExitCode {
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
