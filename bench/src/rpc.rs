//! `bench rpc`: measure, print, write.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    implementations::{self, Implementation},
    marked, origin,
    peer::Failure,
    process, report,
    rounds::Run,
    settings::{self, Setting},
};

/// What to measure, and where to write it.
#[derive(Args, Debug)]
pub(crate) struct Rpc {
    /// Fewer and shorter rounds: at most 3 minutes, instead of at most 15.
    #[arg(long)]
    quick: bool,
    /// Measure these implementations alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure TLS: plaintext and TLS of this framework and of tonic, in the settings of its goals.
    #[arg(long, conflicts_with_all = ["only", "settings"])]
    tls: bool,
    /// Measure these settings alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    settings: Vec<String>,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
}

/// Implementation that others are compared to.
const CEILING: &str = "raw";

/// Implementations of `--tls`; the first is what the others are compared to.
const TLS: [&str; 5] = ["ms-client", "ms-tls", "ms-guarded", "tonic", "tonic-tls"];
const TLS_SETTINGS: [&str; 5] = ["1x1", "1x64", "4x256", "echo-64k", "idle"];

/// Measures, prints the tables, and writes them.
pub(crate) fn run(rpc: &Rpc) -> Result<(), Failure> {
    let mut run = Run {
        implementations: rpc.only.iter().map(|name| Implementation::named(name)).collect::<Result<_, _>>()?,
        settings: rpc.settings.iter().map(|name| Setting::named(name)).collect::<Result<_, _>>()?,
        quick: rpc.quick,
        ceiling: if rpc.tls { TLS[0] } else { CEILING },
        budget: Duration::from_secs(if rpc.quick { 150 } else { 840 }),
    };
    if rpc.tls {
        run.implementations = TLS.iter().map(|name| Implementation::named(name)).collect::<Result<_, _>>()?;
        run.settings = TLS_SETTINGS.iter().map(|name| Setting::named(name)).collect::<Result<_, _>>()?;
    }
    if run.implementations.is_empty() {
        run.implementations = implementations::ALL.to_vec();
    }
    if run.settings.is_empty() {
        run.settings = settings::ALL.to_vec();
    }
    let outcomes = process::runtime(std::num::NonZeroUsize::MIN)?.block_on(run.measure())?;
    let (origin, versions) = (origin::describe()?, origin::versions(&run.implementations));
    let measured = format!("{origin}{versions}\n{NOTES}\n{}", report::tables(&outcomes));
    println!("{measured}");
    let (title, mark) = if rpc.tls { ("TLS", "tls") } else { ("Side by side", "rpc") };
    marked::write(&rpc.output, title, mark, &measured)
}

const NOTES: &str = "\
Server and client are separate processes, new for each measurement. With one thread a side, the server stays on CPU 0
and the client on CPU 1, each on tokio's current-thread runtime. \"4 x 256\" is 4 connections with 256 calls in flight
in all. Figures are medians over rounds (least - greatest); rounds go over all implementations in turn, and a ratio to
`raw` is the median of the ratios within the rounds, with its 95 % interval [low, high] from 6 rounds on. Every answer
is checked. In the run of TLS ratios are to `ms-client`, which is plaintext. Latencies of open loops count from the scheduled moment of the call. In `half-peak`, `raw` runs at the same
rate right before and right after; a ratio is to the geometric mean of the two, and \"raw / raw\", the second by the
first, shows how far equal things differ there. In `compute`, a call takes 1 ms of its thread's CPU time, where the
implementation runs it by default; \"x one thread\" compares with a server of one thread on one CPU.
CPU time is that of the whole process in the window; an idle connection's bytes are growth of resident memory.
";
