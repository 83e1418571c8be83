//! Side by side with the peers, `cargo run -p bench --release -- rpc`, and what is left of it all when things break,
//! `cargo run -p bench --release -- faults`, queues beside each other, `cargo run -p bench --release -- mq`,
//! crowds at a port with TLS, `cargo run -p bench --release -- crowd`, load balancers,
//! `cargo run -p bench --release -- lb`, a gate, `cargo run -p bench --release -- gate`, and registries at scale,
//! `cargo run -p bench --release -- registry`.

mod child;
mod crowd;
mod drive;
mod driver;
mod faults;
mod gate;
mod implementations;
mod lb;
mod marked;
mod mq;
mod origin;
mod peer;
mod process;
mod registry;
mod report;
mod rounds;
mod rpc;
mod sample;
mod serve;
mod settings;
mod statistics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures implementations side by side; reports, and judges nothing")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls over TCP: a hand-written loop, and the frameworks.
    Rpc(rpc::Rpc),
    /// Instances, registries and networks that break under load.
    Faults(faults::Faults),
    /// Queues: this one, the disk alone, Redis streams, beanstalkd, NATS JetStream.
    Mq(mq::Mq),
    /// Silent strangers and crowds at a port with TLS.
    Crowd(crowd::Crowd),
    /// The HTTP load balancer beside nginx.
    Lb(lb::Lb),
    /// The load balancer that is measured.
    #[command(hide = true)]
    LbFront(lb::LbFront),
    /// A gate: idle clients, messages, pushes to a crowd.
    Gate(gate::GateBench),
    /// A gate that is measured, and what is beside it.
    #[command(hide = true)]
    GateProgram(gate::GateProgram),
    /// Registries with thousands of instances, and crowds that watch them.
    Registry(registry::RegistryBench),
    /// Instances that are listed there.
    #[command(hide = true)]
    RegistryInstances(registry::Instances),
    /// A node of the queue that is measured.
    #[command(hide = true)]
    QueueNode {
        /// Where its messages are.
        directory: std::path::PathBuf,
        /// The only one that it uses.
        cpu: usize,
    },
    /// An instance that is there to be broken.
    #[command(hide = true)]
    Node {
        /// What it serves, in JSON.
        options: String,
    },
    /// The server's side of a measurement.
    #[command(hide = true)]
    Serve(serve::Serve),
    /// The client's side of a measurement.
    #[command(hide = true)]
    Drive(drive::Drive),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Rpc(rpc) => rpc::run(&rpc),
        Command::Faults(faults) => faults::run(&faults),
        Command::Mq(mq) => mq::run(&mq),
        Command::Crowd(crowd) => crowd::run(&crowd),
        Command::Lb(lb) => lb::run(&lb),
        Command::LbFront(front) => lb::serve(&front),
        Command::Gate(bench) => gate::run(&bench),
        Command::GateProgram(program) => gate::serve(&program),
        Command::Registry(bench) => registry::run(&bench),
        Command::RegistryInstances(instances) => registry::serve(&instances),
        Command::QueueNode { directory, cpu } => mq::serve(&directory, cpu),
        Command::Node { options } => ms_tests::run_node(&options),
        Command::Serve(serve) => serve::run(&serve),
        Command::Drive(drive) => driver::start(&drive),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
