//! What is measured, and for how long.

use crate::peer::Failure;

/// All settings, in the order of the report. Half the peak comes after the peak that it halves.
pub(crate) const ALL: &[Setting] = &[
    Setting::new("1x1", "find, 1 connection, 1 call in flight", Load::closed(1, 1, None)),
    Setting::new("1x64", "find, 1 connection, 64 calls in flight", Load::closed(1, 64, None)),
    PEAK,
    Setting {
        threads: 2,
        ..Setting::new("4x256-2t", "find, 4 x 256, two threads on each side, not pinned", Load::closed(4, 256, None))
    },
    Setting::new("echo-1k", "echo 1 KiB, 1 x 64", Load::closed(1, 64, Some(1 << 10))),
    Setting::new("echo-64k", "echo 64 KiB, 1 x 64", Load::closed(1, 64, Some(64 << 10))),
    Setting::new("echo-64k-4x256", "echo 64 KiB, 4 x 256", Load::closed(4, 256, Some(64 << 10))),
    Setting::new(
        "half-peak",
        "find, open loop over 4 connections at half of the implementation's own 4 x 256 peak",
        Load::HalfPeak,
    ),
    Setting::new(
        "1000-connections",
        "find, open loop, 1,000 connections, 10,000 calls/s in all",
        Load::Trickle { connections: 1_000, rate: 10_000.0 },
    ),
    Setting {
        threads: 2,
        ..Setting::new(
            "compute",
            "16 calls of 1 ms computing over one connection, and a find beside them every 2 ms; the server with two threads",
            Load::Compute { in_flight: 16 },
        )
    },
    Setting::new("idle", "idle connections, after one call on each", Load::Idle { few: 500, many: 2_000 }),
];

/// Settings that are measured only when they are named.
const ON_REQUEST: &[Setting] = &[
    Setting::new(
        "instances-10",
        "find, 16 calls in flight, 10 instances in turn, a connection each",
        Load::Instances { instances: 10, in_flight: 16 },
    ),
    Setting::new(
        "instances",
        "find, 16 calls in flight, 10,000 instances in turn, a connection each",
        Load::Instances { instances: 10_000, in_flight: 16 },
    ),
];

/// Where an implementation's peak is taken.
pub(crate) const PEAK: Setting =
    Setting::new("4x256", "find, 4 connections, 256 calls in flight in all", Load::closed(4, 256, None));

/// One row of the goals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Threads of each side's runtime; a side with one thread is pinned.
    pub(crate) threads: usize,
    pub(crate) load: Load,
}

impl Setting {
    const fn new(name: &'static str, title: &'static str, load: Load) -> Self {
        Self { name, title, threads: 1, load }
    }

    /// The setting of that name.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let all = || ALL.iter().chain(ON_REQUEST);
        all().find(|known| known.name == name).copied().ok_or_else(|| {
            let known: Vec<_> = all().map(|known| known.name).collect();
            format!("no setting is named `{name}`; there are {}", known.join(", ")).into()
        })
    }
}

/// What the driver does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// The next call begins when one ends.
    Closed {
        /// Connections.
        connections: usize,
        /// Calls in flight, over all of them.
        in_flight: usize,
        /// Bytes of an echoed body; `find` without.
        echo: Option<usize>,
    },
    /// Calls begin at half of the peak's rate.
    HalfPeak,
    /// Few calls over many connections.
    Trickle {
        /// Connections.
        connections: usize,
        /// Calls a second in all.
        rate: f64,
    },
    /// The next call begins when one ends, and goes to the next instance.
    Instances {
        /// Instances of the service, with one connection to each.
        instances: usize,
        /// Calls in flight, over all of them.
        in_flight: usize,
    },
    /// Calls that take a millisecond of CPU time, the next beginning when one ends, and quick ones beside them. Measured
    /// with one thread on the server too, for comparison.
    Compute {
        /// Computing calls in flight.
        in_flight: usize,
    },
    /// Nothing, after one call on each connection: what `many` connections add to a server that holds `few`.
    Idle {
        /// Connections before the first look at memory.
        few: usize,
        /// Connections added before the second.
        many: usize,
    },
}

impl Load {
    const fn closed(connections: usize, in_flight: usize, echo: Option<usize>) -> Self {
        Self::Closed { connections, in_flight, echo }
    }
}

/// How long a measurement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) warm_up_ms: u64,
    pub(crate) window_ms: u64,
}

impl Effort {
    /// What the setting deserves: about a quarter of an hour over all settings for six implementations, three minutes if
    /// `quick`.
    pub(crate) fn of(setting: &Setting, quick: bool) -> Self {
        let (rounds, warm_up_ms, window_ms) = match (setting.load, quick) {
            (Load::Closed { in_flight: 1, .. }, false) => (21, 100, 400),
            (Load::Closed { in_flight: 1, .. }, true) => (21, 50, 150),
            (Load::Closed { .. }, false) => (7, 300, 1_000),
            (Load::Closed { .. }, true) => (3, 150, 350),
            (Load::Instances { .. }, false) => (5, 500, 1_000),
            (Load::Instances { .. }, true) => (3, 300, 500),
            // The fewest rounds that have a 95 % interval; the ceiling is measured twice in each.
            (Load::HalfPeak, false) => (6, 300, 2_000),
            (Load::HalfPeak, true) => (1, 200, 800),
            (Load::Trickle { .. }, false) => (3, 500, 2_500),
            (Load::Trickle { .. }, true) => (1, 300, 1_000),
            (Load::Compute { .. }, false) => (3, 200, 1_500),
            (Load::Compute { .. }, true) => (1, 200, 600),
            (Load::Idle { .. }, false) => (3, 0, 20_000),
            (Load::Idle { .. }, true) => (1, 0, 20_000),
        };
        Self { rounds, warm_up_ms, window_ms }
    }
}
