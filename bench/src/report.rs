//! The tables: medians with the least and the greatest, and ratios to the ceiling in the same rounds.

use crate::{
    rounds::{Outcome, Series},
    sample::Sample,
    settings::Load,
    statistics::Spread,
};

/// All outcomes as Markdown: an overview, then a table for each setting.
pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let mut text = overview(outcomes);
    for Outcome { setting, ceiling, series } in outcomes {
        let rounds = series.first().map_or(0, |series| series.samples.len());
        text += &format!("\n### `{}`: {}\n\nRounds: {rounds}.\n\n", setting.name, setting.title);
        let columns = columns(setting.load);
        let titles = columns.iter().flat_map(|column| column.titles(setting.load, ceiling));
        let rows = series.iter().map(|series| {
            let cells = columns.iter().flat_map(|column| column.cells(series, setting.load));
            std::iter::once(series.implementation.name.to_owned()).chain(cells).collect()
        });
        text += &table(std::iter::once("implementation".to_owned()).chain(titles).collect(), rows);
    }
    text
}

/// The main figure of each setting, and its ratio to the ceiling.
fn overview(outcomes: &[Outcome]) -> String {
    let mains: Vec<_> =
        outcomes.iter().map(|Outcome { setting, series, .. }| (main(setting.load), setting, series)).collect();
    let titles = mains.iter().map(|(column, setting, _)| format!("`{}`: {}", setting.name, column.title));
    let names = outcomes.first().map(|outcome| outcome.series.iter().map(|series| series.implementation.name));
    let rows = names.into_iter().flatten().enumerate().map(|(row, name)| {
        let cells = mains.iter().map(|(column, _, series)| {
            let Some(series) = series.get(row) else { return String::new() };
            let middle = |spread: Option<Spread>, show: fn(f64) -> String| {
                spread.map_or_else(|| "-".to_owned(), |spread| show(spread.median))
            };
            let figure = middle(column.figures(series), column.show);
            if !column.compared {
                return figure;
            }
            format!("{figure} ({})", middle(column.ratios(series), |ratio| format!("{ratio:.2}x")))
        });
        std::iter::once(name.to_owned()).chain(cells).collect()
    });
    table(std::iter::once("implementation".to_owned()).chain(titles).collect(), rows)
}

/// One figure of a setting.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    of: fn(&Sample) -> Option<f64>,
    show: fn(f64) -> String,
    compared: bool,
}

const CALLS: Column =
    Column { title: "calls/s", of: |sample| Some(sample.calls_per_second), show: thousands, compared: true };
const P50: Column =
    Column { title: "p50 us", of: |sample| sample.latency.map(|it| it.p50), show: fraction, compared: true };
const P99: Column =
    Column { title: "p99 us", of: |sample| sample.latency.map(|it| it.p99), show: fraction, compared: true };
const P999: Column =
    Column { title: "p99.9 us", of: |sample| sample.latency.map(|it| it.p999), show: fraction, compared: true };
const SERVER_CPU: Column =
    Column { title: "server CPU us/call", of: |sample| Some(sample.server_us), show: fraction, compared: true };
const CLIENT_CPU: Column =
    Column { title: "client CPU us/call", of: |sample| Some(sample.client_us), show: fraction, compared: false };
const SERVER_RSS: Column =
    Column { title: "server RSS", of: |sample| Some(sample.server_rss as f64), show: mebibytes, compared: false };
const CLIENT_RSS: Column =
    Column { title: "client RSS", of: |sample| Some(sample.client_rss as f64), show: mebibytes, compared: false };
const IDLE: Column =
    Column { title: "bytes a connection", of: |sample| Some(sample.idle_bytes), show: thousands, compared: true };
const RATE: Column = Column { compared: false, ..CALLS };
const CPUS: Column = Column {
    title: "CPUs that the server used",
    of: |sample| Some(sample.server_us * sample.calls_per_second / 1e6),
    show: fraction,
    compared: false,
};
const SPEED_UP: Column =
    Column { title: "x one thread", of: |sample| sample.speed_up, show: fraction, compared: false };

fn main(load: Load) -> Column {
    match load {
        Load::Closed { in_flight: 1, .. } => P50,
        Load::Closed { .. } => CALLS,
        Load::Instances { .. } => Column { compared: true, ..CLIENT_CPU },
        Load::HalfPeak => P99,
        Load::Trickle { .. } => SERVER_CPU,
        Load::Compute { .. } => SPEED_UP,
        Load::Idle { .. } => IDLE,
    }
}

fn columns(load: Load) -> Vec<Column> {
    match load {
        Load::Closed { in_flight: 1, .. } => vec![P50, P99, P999, SERVER_CPU, CLIENT_CPU],
        Load::Closed { .. } => vec![CALLS, SERVER_CPU, CLIENT_CPU, SERVER_RSS, CLIENT_RSS],
        Load::Instances { .. } => {
            vec![Column { compared: true, ..CLIENT_CPU }, CALLS, SERVER_CPU, SERVER_RSS, CLIENT_RSS]
        }
        Load::HalfPeak => vec![RATE, P50, P99, P999, SERVER_CPU],
        Load::Trickle { .. } => vec![SERVER_CPU, RATE, P50, P99, P999, SERVER_RSS],
        Load::Compute { .. } => vec![
            SPEED_UP,
            Column { title: "computing calls/s", ..RATE },
            CPUS,
            Column { title: "find p50 us", compared: false, ..P50 },
            Column { title: "find p99 us", compared: false, ..P99 },
        ],
        Load::Idle { .. } => vec![IDLE, SERVER_RSS],
    }
}

impl Column {
    fn titles(&self, load: Load, ceiling: &str) -> impl Iterator<Item = String> + use<> {
        let ratio = self.compared.then(|| format!("/ {ceiling}"));
        let floor = self.has_floor(load).then(|| format!("{ceiling} / {ceiling}"));
        std::iter::once(self.title.to_owned()).chain(ratio).chain(floor)
    }

    fn cells(&self, series: &Series, load: Load) -> impl Iterator<Item = String> + use<> {
        let show = self.show;
        let range =
            |spread: Spread| format!("{} ({} - {})", show(spread.median), show(spread.least), show(spread.most));
        let figure = self.figures(series).map_or_else(|| "-".to_owned(), range);
        let ratio = self.ratios(series).map_or_else(
            || "-".to_owned(),
            |spread| match spread.interval {
                Some((low, high)) => format!("{:.3} [{low:.3}, {high:.3}]", spread.median),
                None => format!("{:.3} ({:.3} - {:.3})", spread.median, spread.least, spread.most),
            },
        );
        // From the least to the greatest: nothing within it tells an implementation from the ceiling.
        let floor = self.noise_floor(series);
        let floor = floor.map_or_else(|| "-".to_owned(), |spread| format!("{:.2} - {:.2}", spread.least, spread.most));
        std::iter::once(figure).chain(self.compared.then_some(ratio)).chain(self.has_floor(load).then_some(floor))
    }

    fn has_floor(&self, load: Load) -> bool {
        self.compared && matches!(load, Load::HalfPeak)
    }

    fn figures(&self, series: &Series) -> Option<Spread> {
        Spread::of(series.samples.iter().filter_map(self.of))
    }

    /// Round by round, so that what disturbed a round disturbs both of its sides.
    fn ratios(&self, series: &Series) -> Option<Spread> {
        let ratio = |(at, (sample, before)): (usize, (&Sample, &Sample))| {
            let before = (self.of)(before)?;
            let after = series.ceiling_after.get(at).map_or(Some(before), self.of)?;
            Some((self.of)(sample)? / (before * after).sqrt())
        };
        Spread::of(series.samples.iter().zip(&series.ceiling).enumerate().filter_map(ratio))
    }

    /// The ceiling compared with itself, where it was measured twice in a round.
    fn noise_floor(&self, series: &Series) -> Option<Spread> {
        let pairs = series.ceiling.iter().zip(&series.ceiling_after);
        Spread::of(pairs.filter_map(|(before, after)| Some((self.of)(after)? / (self.of)(before)?)))
    }
}

fn table(titles: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let rule = vec!["---".to_owned(); titles.len()];
    [titles, rule].into_iter().chain(rows).map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
}

fn thousands(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if figure < 0.0 { format!("-{grouped}") } else { grouped }
}

fn fraction(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") }
}

fn mebibytes(figure: f64) -> String {
    format!("{:.1} MiB", figure / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            ["0", "999", "1,000", "-1,234,568"].map(str::to_owned),
            [0.0, 999.0, 1e3, -1_234_567.8].map(thousands)
        );
        assert_eq!([fraction(1.234), fraction(12.34)], ["1.23", "12.3"]);
    }
}
