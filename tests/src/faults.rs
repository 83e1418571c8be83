//! What is done to a running system, and how much of it its callers notice: one idea a file, each with its length as a
//! parameter. A scenario reports what it measured; it judges nothing but whether a goal was met.

mod killed;
mod scene;

use std::{future::Future, pin::Pin};

use crate::{Failure, NodeProgram, Row};

pub use killed::instances_killed;

/// A scenario under way.
pub type Running = Pin<Box<dyn Future<Output = Result<Row, Failure>> + Send>>;

/// One row of the goals, and how it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Runs it at that length.
    pub run: fn(NodeProgram, Length) -> Running,
}

/// How long a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As its goal says.
    Full,
    /// Long enough to see whether it still works.
    Quick,
}

impl Length {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// Every scenario, in the order of the report.
pub const ALL: &[Scenario] = &[Scenario {
    name: "instances-killed",
    run: |program, length| Box::pin(async move { instances_killed(&program, length.pick(200, 10)).await }),
}];
