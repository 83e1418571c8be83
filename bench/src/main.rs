//! Side by side with the peers: `cargo run -p bench --release -- rpc`.

mod child;
mod drive;
mod implementations;
mod origin;
mod peer;
mod process;
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
        Command::Serve(serve) => serve::run(&serve),
        Command::Drive(drive) => drive::start(&drive),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
