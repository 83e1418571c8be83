//! The client's process: connects, makes the calls of its plan, says when the measured window begins and what it saw.

mod beside;
mod closed;
mod open;
mod turns;
mod window;

use std::{
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    peer::{Caller, Ends, Failure, Peer},
    process::Usage,
};
use turns::Turns;

/// How to call, and what.
#[derive(Args, Clone, Debug)]
pub(crate) struct Drive {
    /// Which implementation.
    #[arg(long)]
    pub(crate) implementation: String,
    /// Where its server listens.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Threads of the runtime.
    #[arg(long, default_value = "1")]
    pub(crate) threads: NonZeroUsize,
    /// The CPU to stay on.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// The calls.
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// The calls to make.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How calls follow each other.
    #[arg(long)]
    pub(crate) pace: Pace,
    /// Connections.
    #[arg(long)]
    pub(crate) connections: usize,
    /// Each connection goes to another instance of the service, and calls take the instances in turn.
    #[arg(long)]
    pub(crate) instances: bool,
    /// Calls in flight, over all connections; with `--pace open` the most there can be.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
    /// Echo a body of this many bytes, rather than `find` an item.
    #[arg(long)]
    pub(crate) echo: Option<usize>,
    /// Calls a second in all, with `--pace open`.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rate: f64,
    /// Milliseconds before the window.
    #[arg(long, default_value_t = 200)]
    pub(crate) warm_up_ms: u64,
    /// Milliseconds of the window.
    #[arg(long, default_value_t = 1000)]
    pub(crate) window_ms: u64,
}

impl Plan {
    /// Whether latencies are recorded: not where many calls wait for each other.
    fn is_timed(self) -> bool {
        matches!(self.pace, Pace::Open | Pace::Beside) || self.in_flight == 1
    }
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// The next call begins when one ends.
    Closed,
    /// Calls begin on a schedule, whether or not earlier ones have ended.
    Open,
    /// Computing calls in a closed loop, which are counted, and others on a schedule beside them, which are timed.
    Beside,
    /// One call on each connection, then none.
    Idle,
}

/// What a driver prints, one JSON object a line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Told {
    /// The window begins now; or, without calls, every connection is up and idle.
    Begun,
    /// The window has just ended.
    Ended(Seen),
}

/// What a driver saw in its window.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Calls that ended, each with the right answer.
    pub(crate) calls: u64,
    /// The window's true length.
    pub(crate) seconds: f64,
    /// Latencies in microseconds, where calls were timed.
    pub(crate) latency: Option<Latency>,
    /// CPU time of the driver in the window, in microseconds.
    pub(crate) cpu_us: i64,
    /// The driver's resident memory at the end, in bytes.
    pub(crate) rss: u64,
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// Connects and makes the calls; compiled once for each implementation.
pub(crate) async fn run<P: Peer>(address: SocketAddr, plan: Plan) -> Result<(), Failure> {
    let work = Work::of(plan);
    if plan.instances {
        let callers = P::connect_instances(address, plan.connections).await?;
        return closed::run(vec![Turns::over(callers)], &work, plan).await;
    }
    let mut callers = P::connect(address, plan.connections).await?;
    match plan.pace {
        Pace::Closed => closed::run(callers, &work, plan).await,
        Pace::Beside => beside::run(callers, &work, plan).await,
        Pace::Open => open::run(callers, &work, plan).await,
        Pace::Idle => {
            for caller in &mut callers {
                work.call(caller, 1).await?;
            }
            say(Told::Begun)?;
            tokio::time::sleep(Duration::from_millis(plan.window_ms)).await;
            let Usage { cpu_us, rss } = Usage::now()?;
            say(Told::Ended(Seen { calls: callers.len() as u64, seconds: 0.0, latency: None, cpu_us, rss }))
        }
    }
}

/// One kind of call.
#[derive(Clone, Debug)]
enum Work {
    Find,
    Echo { body: Bytes, ends: Ends },
}

impl Work {
    fn of(plan: Plan) -> Self {
        match plan.echo {
            None => Self::Find,
            Some(length) => {
                let body: Bytes = (0..length).map(|index| (index % 251) as u8).collect();
                Self::Echo { ends: Ends::of(&body), body }
            }
        }
    }

    /// Makes one call, and checks its answer.
    async fn call(&self, caller: &mut impl Caller, id: i64) -> Result<(), Failure> {
        match self {
            Self::Find => match caller.find(id).await? {
                found if found == id => Ok(()),
                found => Err(format!("asked for item {id}, and got item {found}").into()),
            },
            Self::Echo { body, ends } => match caller.echo(body.clone()).await? {
                echoed if echoed == *ends => Ok(()),
                echoed => Err(format!("sent {ends:?}, and got {echoed:?}").into()),
            },
        }
    }
}

fn say(told: Told) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &told)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
