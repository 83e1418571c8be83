//! What is done to a running system, and how much of it its callers notice: one idea a file, each with its length as a
//! parameter. A scenario reports what it measured; it judges nothing but whether a goal was met.

mod absent;
mod by_hand;
mod crowd;
mod emptied;
mod frozen;
mod killed;
mod outage;
mod overload;
mod panics;
mod reconnect;
mod registry;
mod rolling;
mod scene;
mod stale;
mod stalled;
mod unlisted;
mod wiped;

use std::{future::Future, pin::Pin, time::Duration};

use crate::{Failure, NodeProgram, Row};

pub use absent::registry_absent;
pub use by_hand::keys_deleted;
pub use crowd::{idle_and_slow, out_of_files};
pub use emptied::{list_emptied, list_halved};
pub use frozen::{instance_black_holed, instance_frozen};
pub use killed::instances_killed;
pub use outage::{registry_killed, registry_paused};
pub use overload::overload;
pub use panics::handlers_panic;
pub use reconnect::clients_reconnect;
pub use registry::Registry;
pub use rolling::rolling_restart;
pub use stale::stale_entry;
pub use stalled::clients_stop_reading;
pub use unlisted::restart_without_registry;
pub use wiped::registry_wiped;

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

impl Scenario {
    const fn new(name: &'static str, run: fn(NodeProgram, Length) -> Running) -> Self {
        Self { name, run }
    }
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
pub const ALL: &[Scenario] = &[
    Scenario::new("etcd-killed", |program, length| {
        Box::pin(async move { registry_killed(&program, Registry::Etcd, seconds(length.pick(60, 10))).await })
    }),
    Scenario::new("nacos-killed", |program, length| {
        Box::pin(async move { registry_killed(&program, Registry::Nacos, seconds(length.pick(60, 10))).await })
    }),
    Scenario::new("etcd-wiped", |program, length| {
        Box::pin(async move { registry_wiped(&program, Registry::Etcd, seconds(4), seconds(length.pick(15, 3))).await })
    }),
    Scenario::new("nacos-wiped", |program, length| {
        Box::pin(
            async move { registry_wiped(&program, Registry::Nacos, seconds(4), seconds(length.pick(15, 3))).await },
        )
    }),
    Scenario::new("etcd-paused", |program, length| {
        Box::pin(async move { registry_paused(&program, Registry::Etcd, seconds(length.pick(20, 8))).await })
    }),
    Scenario::new("nacos-paused", |program, length| {
        Box::pin(async move { registry_paused(&program, Registry::Nacos, seconds(length.pick(20, 8))).await })
    }),
    Scenario::new("list-emptied", |program, length| {
        Box::pin(async move { list_emptied(&program, seconds(length.pick(5, 4))).await })
    }),
    Scenario::new("list-halved", |program, _| Box::pin(async move { list_halved(&program).await })),
    Scenario::new("keys-deleted", |program, length| {
        Box::pin(async move { keys_deleted(&program, length.pick(10, 2)).await })
    }),
    Scenario::new("etcd-absent", |program, _| Box::pin(async move { registry_absent(&program, Registry::Etcd).await })),
    Scenario::new("nacos-absent", |program, _| {
        Box::pin(async move { registry_absent(&program, Registry::Nacos).await })
    }),
    Scenario::new("instances-killed", |program, length| {
        Box::pin(async move { instances_killed(&program, length.pick(200, 10)).await })
    }),
    Scenario::new("instance-frozen", |program, length| {
        Box::pin(async move { instance_frozen(&program, seconds(length.pick(30, 8))).await })
    }),
    Scenario::new("instance-black-holed", |program, length| {
        Box::pin(async move { instance_black_holed(&program, seconds(length.pick(30, 8))).await })
    }),
    Scenario::new("rolling-restart", |program, length| {
        Box::pin(async move { rolling_restart(&program, Registry::Etcd, length.pick(10, 1), 5_000).await })
    }),
    Scenario::new("stale-entry", |program, length| {
        Box::pin(async move { stale_entry(&program, seconds(length.pick(10, 2))).await })
    }),
    Scenario::new("restart-without-registry", |program, length| {
        let absences: &[_] = length.pick(&[0, 1, 3, 10, 30], &[0, 3]);
        let absences: Vec<_> = absences.iter().copied().map(seconds).collect();
        Box::pin(async move { restart_without_registry(&program, &absences).await })
    }),
    Scenario::new("overload", |program, length| {
        Box::pin(async move { overload(&program, seconds(length.pick(10, 2))).await })
    }),
    Scenario::new("clients-stop-reading", |program, _| {
        Box::pin(async move { clients_stop_reading(&program, 100).await })
    }),
    Scenario::new("idle-and-slow", |program, length| {
        Box::pin(async move { idle_and_slow(&program, length.pick(10_000, 1_000), length.pick(500, 50)).await })
    }),
    Scenario::new("out-of-files", |program, _| Box::pin(async move { out_of_files(&program).await })),
    Scenario::new("handlers-panic", |program, length| {
        Box::pin(async move { handlers_panic(&program, length.pick(10_000, 1_000)).await })
    }),
    Scenario::new("clients-reconnect", |program, length| {
        Box::pin(async move { clients_reconnect(&program, length.pick(2_000, 200), seconds(length.pick(8, 3))).await })
    }),
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
