//! The server's process: says where it listens, answers for what it has used, ends when its stdin does.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    thread,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    implementations::Implementation,
    peer::Failure,
    process::{self, Usage},
};

/// How to serve.
#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Which implementation.
    #[arg(long)]
    pub(crate) implementation: String,
    /// Threads of the runtime.
    #[arg(long, default_value = "1")]
    pub(crate) threads: NonZeroUsize,
    /// The CPU to stay on.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
}

/// What a server prints, one JSON object a line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Told {
    /// It listens here.
    Listening(SocketAddr),
    /// The answer to a line on its stdin.
    Used(Usage),
}

/// Runs the server until stdin ends.
pub(crate) fn run(serve: &Serve) -> Result<(), Failure> {
    let implementation = Implementation::named(&serve.implementation)?;
    process::allow_many_sockets()?;
    if let Some(cpu) = serve.cpu {
        process::pin(cpu)?;
    }
    let runtime = process::runtime(serve.threads)?;
    let (control, ended) = oneshot::channel();
    // At every address of the loopback network: instances of one server have an address each.
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    say(Told::Listening((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()).into()))?;
    thread::spawn(move || control.send(answer_for_usage()));
    runtime.block_on(async {
        let serving = tokio::spawn((implementation.serve)(listener));
        tokio::select! {
            stopped = serving => stopped?,
            ended = ended => ended?,
        }
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn answer_for_usage() -> Result<(), Failure> {
    for line in io::stdin().lines() {
        line?;
        say(Told::Used(Usage::now()?))?;
    }
    Ok(())
}

fn say(told: Told) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &told)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
