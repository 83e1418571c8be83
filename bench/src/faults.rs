//! `bench faults`: break, measure, print, write. A goal that is not met is a line of the report, not an error.

use std::{env, num::NonZeroUsize, path::PathBuf, time::Instant};

use clap::Args;
use ms_tests::{
    NodeProgram, Row,
    faults::{self, Length, Scenario},
};

use crate::{marked, origin, peer::Failure, process};

/// Which scenarios to run, and where to write what they showed.
#[derive(Args, Debug)]
pub(crate) struct Faults {
    /// Short outages and few rounds: whether it works, not how well.
    #[arg(long)]
    quick: bool,
    /// Run these scenarios alone, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The file to write; what stands in it outside the measured part stays.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/RESULTS.md"))]
    output: PathBuf,
}

/// Runs the scenarios one after another, prints what they showed, and writes it.
pub(crate) fn run(faults: &Faults) -> Result<(), Failure> {
    let scenarios = chosen(&faults.only)?;
    process::allow_many_sockets()?;
    let program = NodeProgram::new(env::current_exe()?, &["node"]);
    let length = if faults.quick { Length::Quick } else { Length::Full };
    let runtime = process::runtime(NonZeroUsize::MIN.saturating_add(1))?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        let begin = Instant::now();
        eprintln!("{} ...", scenario.name);
        let outcome = runtime.block_on(runtime.spawn((scenario.run)(program.clone(), length)))?;
        match &outcome {
            Ok(row) => eprintln!("{row}  ({:.0} s)\n", begin.elapsed().as_secs_f64()),
            Err(failure) => eprintln!("  it could not be measured: {failure}\n"),
        }
        outcomes.push((scenario.name, outcome));
    }
    let measured = format!("{}\n{NOTES}\n{}", origin::describe()?, table(&outcomes));
    println!("{measured}");
    marked::write(&faults.output, "What breaks, and what callers notice of it", "faults", &measured)
}

const NOTES: &str = "\
Instances are processes of their own; clients share one process with two threads. Registries are real, started for each
row. Calls are made on a schedule, whether or not earlier ones have ended, with a deadline of 1 s each.
";

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    let named = |name: &String| {
        faults::ALL.iter().find(|known| known.name == name).ok_or_else(|| {
            let known: Vec<_> = faults::ALL.iter().map(|known| known.name).collect();
            format!("no scenario is named `{name}`; there are {}", known.join(", "))
        })
    };
    if names.is_empty() {
        return Ok(faults::ALL.iter().collect());
    }
    Ok(names.iter().map(named).collect::<Result<_, _>>()?)
}

fn table(outcomes: &[(&str, Result<Row, Failure>)]) -> String {
    let mut text =
        "| row | fault | goal | measured | met | seen besides |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for (name, outcome) in outcomes {
        text += &match outcome {
            Ok(row) => {
                let goals = list(row.checks.iter().map(|check| &check.goal));
                let measured = list(row.checks.iter().map(|check| &check.measured));
                let met = if row.is_met() { "yes" } else { "**no**" };
                let notes = list(&row.notes);
                format!("| {name} | {} | {goals} | {measured} | {met} | {notes} |\n", cell(&row.fault))
            }
            Err(failure) => format!("| {name} | | | not measured: {} | **no** | |\n", cell(&failure.to_string())),
        };
    }
    text
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    texts.into_iter().map(|text| cell(text)).collect::<Vec<_>>().join("<br>")
}

/// As it can stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stays_a_row() {
        let mut row = Row::new("a|b");
        row.count("failed calls", 1, 0);
        row.note("first\nsecond");
        let table = table(&[("some-fault", Ok(row)), ("other", Err("no etcd".into()))]);
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| some-fault | a\\|b | failed calls: 0 | failed calls: 1 | **no** | first second |",
                "| other | | | not measured: no etcd | **no** | |",
            ]
        );
    }

    #[test]
    fn scenarios_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), faults::ALL.len());
        assert!(chosen(&["no-such".to_owned()]).unwrap_err().to_string().contains("instances-killed"));
    }
}
