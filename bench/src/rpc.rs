//! `bench rpc`: measure, print, write.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    implementations::{self, Implementation},
    origin,
    peer::Failure,
    process, report,
    rounds::Run,
    settings::{self, Setting},
};

const BEGIN: &str = "<!-- measured by `bench rpc`: begin -->\n";
const END: &str = "<!-- measured by `bench rpc`: end -->\n";

/// What to measure, and where to write it.
#[derive(Args, Debug)]
pub(crate) struct Rpc {
    /// Fewer and shorter rounds: at most 3 minutes, instead of at most 15.
    #[arg(long)]
    quick: bool,
    /// Measure these implementations alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure these settings alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    settings: Vec<String>,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    output: PathBuf,
}

/// Measures, prints the tables, and writes them.
pub(crate) fn run(rpc: &Rpc) -> Result<(), Failure> {
    let mut run = Run {
        implementations: rpc.only.iter().map(|name| Implementation::named(name)).collect::<Result<_, _>>()?,
        settings: rpc.settings.iter().map(|name| Setting::named(name)).collect::<Result<_, _>>()?,
        quick: rpc.quick,
        budget: Duration::from_secs(if rpc.quick { 150 } else { 840 }),
    };
    if run.implementations.is_empty() {
        run.implementations = implementations::ALL.to_vec();
    }
    if run.settings.is_empty() {
        run.settings = settings::ALL.to_vec();
    }
    let outcomes = process::runtime(std::num::NonZeroUsize::MIN)?.block_on(run.measure())?;
    let measured = format!("{}\n{NOTES}\n{}", origin::describe(&run.implementations)?, report::tables(&outcomes));
    println!("{measured}");
    let before = fs::read_to_string(&rpc.output).unwrap_or_else(|_| format!("# Side by side\n\n{BEGIN}{END}"));
    fs::write(&rpc.output, replaced(&before, &measured))
        .map_err(|error| format!("cannot write {}: {error}", rpc.output.display()))?;
    Ok(())
}

const NOTES: &str = "\
Server and client are separate processes, new for each measurement. With one thread a side, the server stays on CPU 0
and the client on CPU 1, each on tokio's current-thread runtime. \"4 x 256\" is 4 connections with 256 calls in flight
in all. Figures are medians over rounds (least - greatest); rounds go over all implementations in turn, and a ratio to
`raw` is the median of the ratios within the rounds, with its 95 % interval [low, high] from 6 rounds on. Every answer
is checked. Latencies of open loops count from the scheduled moment of the call. In `half-peak`, `raw` runs at the same
rate right before and right after; a ratio is to the geometric mean of the two, and \"raw / raw\", the second by the
first, shows how far equal things differ there. In `compute`, a call takes 1 ms of its thread's CPU time, where the
implementation runs it by default; \"x one thread\" compares with a server of one thread on one CPU.
CPU time is that of the whole process in the window; an idle connection's bytes are growth of resident memory.
";

/// The text with its measured part exchanged, or with one behind it if it has none.
fn replaced(text: &str, measured: &str) -> String {
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.unwrap_or((text, ""));
    format!("{head}{BEGIN}\n{measured}\n{END}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays() {
        let first = replaced("# Title\n", "one");
        let second = replaced(&format!("{first}\nNotes.\n"), "two");
        assert_eq!(second, format!("# Title\n{BEGIN}\ntwo\n{END}\nNotes.\n"));
    }
}
