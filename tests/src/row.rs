use std::{fmt, time::Duration};

use crate::Tally;

/// What one scenario showed: its fault, and each goal beside what was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done to the system.
    pub fault: String,
    /// The goals.
    pub checks: Vec<Check>,
    /// What else was seen, such as how many calls were made.
    pub notes: Vec<String>,
}

/// One goal, and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Such as `failed calls: 0`.
    pub goal: String,
    /// Such as `failed calls: 3`.
    pub measured: String,
    /// Whether the one fulfils the other.
    pub met: bool,
    /// Whether it holds on any machine: a count, or a time that is itself the promise. Other figures depend on how fast
    /// and how busy the machine is, and tests leave them alone.
    pub is_promise: bool,
}

impl Row {
    /// A row without a check.
    pub fn new(fault: impl Into<String>) -> Self {
        Self { fault: fault.into(), checks: Vec::new(), notes: Vec::new() }
    }

    /// A count that has to be met exactly.
    pub fn count(&mut self, what: &str, measured: u64, goal: u64) {
        let (goal_text, measured_text) = (format!("{what}: {goal}"), format!("{what}: {measured}"));
        self.add(goal_text, measured_text, measured == goal, true);
    }

    /// A share of all calls that has to be reached.
    pub fn share(&mut self, what: &str, measured: u64, of: u64, goal: f64) {
        let share = measured as f64 / of.max(1) as f64;
        let show = |share: f64| format!("{what}: {:.4} %", 100.0 * share);
        self.add(format!("{}, or more", show(goal)), show(share), share >= goal, true);
    }

    /// A time that is promised; `None` if what was waited for never came.
    pub fn within(&mut self, what: &str, measured: Option<Duration>, goal: Duration) {
        self.time(what, measured, goal, true);
    }

    /// A time that depends on the machine.
    pub fn speed(&mut self, what: &str, measured: Option<Duration>, goal: Duration) {
        self.time(what, measured, goal, false);
    }

    /// Any other figure that depends on the machine.
    pub fn figure(&mut self, goal: impl Into<String>, measured: impl Into<String>, met: bool) {
        self.add(goal.into(), measured.into(), met, false);
    }

    /// Something that was seen, without a goal.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Why calls failed, where some did.
    pub fn failures(&mut self, tally: &Tally) {
        let failures = tally.first_failures();
        if !failures.is_empty() {
            self.note(format!("failures: {failures}"));
        }
    }

    /// Whether every goal is met.
    pub fn is_met(&self) -> bool {
        self.checks.iter().all(|check| check.met)
    }

    /// For tests.
    ///
    /// # Panics
    /// A promise is broken.
    pub fn assert_promises(&self) {
        assert!(self.checks.iter().all(|check| check.met || !check.is_promise), "{self}");
    }

    fn time(&mut self, what: &str, measured: Option<Duration>, goal: Duration, is_promise: bool) {
        let met = measured.is_some_and(|measured| measured <= goal);
        let measured = measured.map_or_else(|| "never".to_owned(), show);
        self.add(format!("{what}: at most {}", show(goal)), format!("{what}: {measured}"), met, is_promise);
    }

    fn add(&mut self, goal: String, measured: String, met: bool, is_promise: bool) {
        self.checks.push(Check { goal, measured, met, is_promise });
    }
}

/// For a terminal: a line for each check and note.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.fault)?;
        for check in &self.checks {
            let verdict = if check.met { "met" } else { "NOT MET" };
            writeln!(f, "  {verdict}: {} (goal: {})", check.measured, check.goal)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

/// `12 ms` or `1.23 s`.
fn show(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_asserted_and_figures_are_not() {
        let second = Duration::from_secs(1);
        let mut row = Row::new("a fault");
        row.count("failed calls", 0, 0);
        row.speed("p99", Some(2 * second), second);
        row.assert_promises();
        assert!(!row.is_met());
        row.within("back", None, second);
        assert!(row.to_string().contains("NOT MET: back: never (goal: back: at most 1.00 s)"), "{row}");
        std::panic::catch_unwind(|| row.assert_promises()).unwrap_err();
    }
}
