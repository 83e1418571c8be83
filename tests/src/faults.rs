//! What is done to a running system, and how much of it its callers notice: one idea a file, each with its length as a
//! parameter. A scenario reports what it measured; it judges nothing but whether a goal was met.

mod absent;
mod by_hand;
mod crowd;
mod emptied;
mod first_call;
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
pub use first_call::clients_start;
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

macro_rules! scenarios {
    ($($name:literal => |$program:ident, $length:ident| $run:expr;)+) => {
        &[$(Scenario { name: $name, run: |$program, $length| Box::pin(async move { $run.await }) }),+]
    };
}

/// Every scenario, in the order of the report.
pub const ALL: &[Scenario] = scenarios! {
    "etcd-killed" => |program, length| registry_killed(&program, Registry::Etcd, seconds(length.pick(60, 10)));
    "nacos-killed" => |program, length| registry_killed(&program, Registry::Nacos, seconds(length.pick(60, 10)));
    "etcd-wiped" => |program, length| registry_wiped(&program, Registry::Etcd, seconds(4), seconds(length.pick(15, 3)));
    "nacos-wiped" => |program, length| registry_wiped(&program, Registry::Nacos, seconds(4), seconds(length.pick(15, 3)));
    "etcd-paused" => |program, length| registry_paused(&program, Registry::Etcd, seconds(length.pick(20, 8)));
    "nacos-paused" => |program, length| registry_paused(&program, Registry::Nacos, seconds(length.pick(20, 8)));
    "zookeeper-killed" => |program, length| registry_killed(&program, Registry::Zookeeper, seconds(length.pick(60, 10)));
    "zookeeper-wiped" => |program, length| registry_wiped(&program, Registry::Zookeeper, seconds(4), seconds(length.pick(15, 3)));
    "zookeeper-paused" => |program, length| registry_paused(&program, Registry::Zookeeper, seconds(length.pick(20, 8)));
    "gregister-killed" => |program, length| registry_killed(&program, Registry::Gregister, seconds(length.pick(60, 10)));
    "gregister-wiped" => |program, length| registry_wiped(&program, Registry::Gregister, seconds(4), seconds(length.pick(15, 3)));
    "gregister-paused" => |program, length| registry_paused(&program, Registry::Gregister, seconds(length.pick(20, 8)));
    "list-emptied" => |program, length| list_emptied(&program, seconds(length.pick(5, 4)));
    "list-halved" => |program, _length| list_halved(&program);
    "keys-deleted" => |program, length| keys_deleted(&program, Registry::Etcd, length.pick(10, 2));
    "nodes-deleted" => |program, length| keys_deleted(&program, Registry::Zookeeper, length.pick(10, 2));
    "entries-deleted" => |program, length| keys_deleted(&program, Registry::Gregister, length.pick(10, 2));
    "etcd-absent" => |program, _length| registry_absent(&program, Registry::Etcd);
    "nacos-absent" => |program, _length| registry_absent(&program, Registry::Nacos);
    "zookeeper-absent" => |program, _length| registry_absent(&program, Registry::Zookeeper);
    "gregister-absent" => |program, _length| registry_absent(&program, Registry::Gregister);
    "clients-start" => |program, length| clients_start(&program, length.pick(5_000, 1_000));
    "instances-killed" => |program, length| instances_killed(&program, length.pick(200, 10));
    "instance-frozen" => |program, length| instance_frozen(&program, seconds(length.pick(30, 8)));
    "instance-black-holed" => |program, length| instance_black_holed(&program, seconds(length.pick(30, 8)));
    "rolling-restart" => |program, length| rolling_restart(&program, Registry::Etcd, length.pick(10, 1), 5_000);
    "rolling-restart-zookeeper" => |program, length| rolling_restart(&program, Registry::Zookeeper, length.pick(10, 1), 5_000);
    "rolling-restart-gregister" => |program, length| rolling_restart(&program, Registry::Gregister, length.pick(10, 1), 5_000);
    "stale-entry" => |program, length| stale_entry(&program, seconds(length.pick(10, 2)));
    "restart-without-registry" => |program, length| restart_without_registry(&program, length.pick(&[0, 1, 3, 10, 30], &[0, 3]));
    "overload" => |program, length| overload(&program, seconds(length.pick(10, 2)));
    "clients-stop-reading" => |program, _length| clients_stop_reading(&program, 100);
    "idle-and-slow" => |program, length| idle_and_slow(&program, length.pick(10_000, 1_000), length.pick(500, 50));
    "out-of-files" => |program, _length| out_of_files(&program);
    "handlers-panic" => |program, length| handlers_panic(&program, length.pick(10_000, 1_000));
    "clients-reconnect" => |program, length| clients_reconnect(&program, length.pick(2_000, 200), seconds(length.pick(8, 3)));
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
