//! The tables of `bench mq`: medians with the least and the greatest.

use std::process::Command;

use super::{Beside, Load, Loaded, Results, Seen};
use crate::statistics::Spread;

pub(super) fn notes(server: usize, client: usize) -> String {
    format!(
        "\
The disk alone (\"floor\") is an append of so many bodies to a growing file with `fdatasync`, before and after the engine
in each round; the ratio is to the geometric mean of the two. The engine runs in this process. Everything else is a
server process on CPU {server} and a client process on CPU {client}, with one runtime thread each, new and empty for each
measurement; the disk alone at 1,000 a second is on the servers' CPU too. Rounds go over all queues in turn.
\"Outstanding\" pushes are tasks, each of which waits for its own push. In \"cycle\", so many messages at most are between
their push and their ack, popped by 4 tasks, up to 128 at a time where the queue can do so. \"Paced\" is
1,000 pushes a second on a schedule; latencies are from the scheduled moment of the push until the message is in the
consumer's hands. Figures are medians over rounds (least - greatest). Redis syncs every write
(`appendfsync always`), beanstalkd too (`-f0`); NATS JetStream does not sync before it answers.
"
    )
}

/// What the distribution has installed.
pub(super) fn programs() -> String {
    let version = |program: &str, flag: &str| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(|line| line.trim().to_owned())
    };
    let found: Vec<_> = [("redis-server", "--version"), ("nats-server", "--version"), ("beanstalkd", "-v")]
        .into_iter()
        .map(|(program, flag)| version(program, flag).unwrap_or_else(|| format!("{program} is not installed")))
        .collect();
    format!("- Servers: {}\n", found.join("; "))
}

pub(super) fn tables(results: &Results) -> String {
    [engine(results), loads(results), latency(results), backlog(results)].concat()
}

fn engine(results: &Results) -> String {
    if results.engine.is_empty() {
        return String::new();
    }
    let mut text = "### The engine alone, durable pushes\n\n\
        | body | outstanding | floor/s | engine/s | engine / floor | bytes written per byte of a body |\n\
        | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for Beside { body, outstanding, floor, engine } in &results.engine {
        let rate = engine.iter().map(|engine| engine.rate);
        let ratio = engine.iter().zip(floor).map(|(engine, floor)| engine.rate / floor);
        let written = engine.iter().map(|engine| engine.amplification);
        let floor = floor.iter().copied();
        text += &format!(
            "| {body} | {outstanding} | {} | {} | {} | {} |\n",
            spread(floor, count),
            spread(rate, count),
            spread(ratio, |ratio| format!("{ratio:.2}x")),
            spread(written, |written| format!("{written:.2}")),
        );
    }
    text
}

fn loads(results: &Results) -> String {
    let mut loads: Vec<Load> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for Loaded { name, load, .. } in &results.loads {
        if !loads.contains(load) && !matches!(load, Load::Paced { .. }) {
            loads.push(*load);
        }
        if !names.contains(name) {
            names.push(name);
        }
    }
    if loads.is_empty() {
        return String::new();
    }
    let title = |load: &Load| match load {
        Load::Push { outstanding, body } => format!("push, {body} B, {outstanding} outstanding"),
        Load::Take { outstanding, body } => format!("pop and ack, {body} B, {outstanding} outstanding"),
        Load::Cycle { outstanding, body } => format!("cycle, {body} B, {outstanding} outstanding"),
        Load::Paced { body } => format!("paced, {body} B"),
    };
    let titles: Vec<_> = loads.iter().map(title).collect();
    let mut text = format!(
        "\n### Over the network, messages per second\n\n| queue | {} |\n| --- |{}\n",
        titles.join(" | "),
        " --- |".repeat(loads.len())
    );
    for name in names {
        let cells = loads.iter().map(|load| {
            let found = results.loads.iter().find(|it| it.name == name && it.load == *load);
            let Some(Loaded { seen: rounds, failure: missing, .. }) = found else { return String::new() };
            let rates = rounds.iter().filter_map(|seen| match seen {
                Seen::Rate(rate) => Some(*rate),
                Seen::Latencies(_) => None,
            });
            match missing {
                Some(why) if rounds.is_empty() => format!("not measured: {why}"),
                _ => spread(rates, count),
            }
        });
        text += &format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn latency(results: &Results) -> String {
    if results.disk.is_empty() {
        return String::new();
    }
    let mut text = "\n### At 1,000 messages a second, microseconds\n\n\
        | | p50 | p99 | p99.9 |\n| --- | --- | --- | --- |\n"
        .to_owned();
    let row = |name: &str, latencies: &[u64]| {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| match sorted.len() {
            0 => "-".to_owned(),
            length => format!("{:.0}", sorted[((length - 1) as f64 * share) as usize] as f64 / 1e3),
        };
        format!("| {name} | {} | {} | {} |\n", at(0.5), at(0.99), at(0.999))
    };
    text += &row("the disk alone: append and `fdatasync`", &results.disk);
    text += &row("a call that touches no disk (`peek`)", &results.call);
    let paced = results.loads.iter().filter(|it| matches!(it.load, Load::Paced { .. }));
    for Loaded { name, seen: rounds, failure: missing, .. } in paced {
        let latencies = rounds.iter().filter_map(|seen| match seen {
            Seen::Rate(_) => None,
            Seen::Latencies(latencies) => Some(latencies.as_slice()),
        });
        text += &match missing {
            Some(why) if rounds.is_empty() => format!("| {name} | not measured: {why} | | |\n"),
            _ => row(&format!("{name}: push to pop"), &latencies.collect::<Vec<_>>().concat()),
        };
    }
    text
}

fn backlog(results: &Results) -> String {
    let Some(backlog) = &results.backlog else { return String::new() };
    let mebibytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    format!(
        "\n### A backlog of {} messages of 256 bytes\n\n| | |\n| --- | --- |\n| resident memory | {} |\n\
         | on the disk | {} |\n| restart after SIGKILL until it serves{} | {:.2} s |\n\
         | resident memory after that | {} |\n",
        count(backlog.messages as f64),
        mebibytes(backlog.resident),
        mebibytes(backlog.disk),
        if backlog.cold { ", page cache dropped" } else { ", page cache NOT dropped: that needs root" },
        backlog.restart,
        mebibytes(backlog.resident_after),
    )
}

fn spread(figures: impl Iterator<Item = f64>, show: impl Fn(f64) -> String) -> String {
    match Spread::of(figures) {
        None => "-".to_owned(),
        Some(spread) if spread.least == spread.most => show(spread.median),
        Some(spread) => format!("{} ({} - {})", show(spread.median), show(spread.least), show(spread.most)),
    }
}

/// In three digits.
fn count(figure: f64) -> String {
    let unit = 10_f64.powf((figure.max(1.0).log10().floor() - 2.0).max(0.0));
    let digits = ((figure / unit).round() * unit).round().to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.0, 7.4, 999.6, 123_456.0, 2_000_000.0].map(count), ["0", "7", "1,000", "123,000", "2,000,000"]);
    }
}
