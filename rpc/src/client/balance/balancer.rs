//! Names of the built-in balancers.

use std::{fmt, str::FromStr};

/// Built-in algorithm that spreads calls over the instances of a service. An instance of weight 0 gets none.
///
/// A configuration names one: `"least-connections".parse()`. A zone, a selector, or an algorithm of the program's own make it
/// a [`Balancing`](crate::Balancing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balancer {
    /// `p2c`: of two instances picked at random, that which can be expected to answer sooner: by the time that its answers
    /// took lately, of which the longest count most, times the calls that it has in flight, by its weight. An instance that
    /// refuses calls counts as slower with each refusal, however fast it refuses.
    #[default]
    P2c,
    /// `least-connections`: the instance with the fewest calls of this proxy in flight, by its weight; among more than 128
    /// the best of 8 taken at random.
    LeastConnections,
    /// `round-robin`: one after the other, for each thread that calls.
    RoundRobin,
    /// `weighted-round-robin`: one after the other, in exact proportion to the weights, well mixed. All threads take turns.
    WeightedRoundRobin,
    /// `random`: any, with equal chances.
    Random,
    /// `weighted-random`: any, with chances in proportion to the weights.
    WeightedRandom,
    /// `ip-hash`: always the same for one address: the instance number `crc32(address) % n` of those listed, sorted by id.
    /// The address, as text, is [`CallOptions::key`](crate::CallOptions::key), or that of the caller of the call that
    /// is being served. Without one it takes turns.
    IpHash,
    /// `key-hash`: always the same for one [`CallOptions::key`](crate::CallOptions::key): the instance number
    /// `crc32(key) % n` of those listed, sorted by id. When one comes or goes, most keys move. A call without a key takes
    /// turns.
    KeyHash,
    /// `consistent-hash`: always the same for one [`CallOptions::key`](crate::CallOptions::key), by a ring: when an
    /// instance goes, only its own keys move. Weights count up to 10. A call without a key takes turns.
    ConsistentHash,
    /// `bounded-hash`, or `bounded-hash:150`: a consistent hash, but an instance that has so many percent of its share of
    /// the calls in flight passes the next ones on to its neighbours on the ring. At least 100; 125 by its plain name.
    BoundedHash(u32),
}

/// Bound of a plain `bounded-hash`, in percent.
const BOUND: u32 = 125;

impl Balancer {
    /// Every balancer.
    pub const ALL: [Self; 10] = [
        Self::P2c,
        Self::LeastConnections,
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::Random,
        Self::WeightedRandom,
        Self::IpHash,
        Self::KeyHash,
        Self::ConsistentHash,
        Self::BoundedHash(BOUND),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::LeastConnections => "least-connections",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::Random => "random",
            Self::WeightedRandom => "weighted-random",
            Self::IpHash => "ip-hash",
            Self::KeyHash => "key-hash",
            Self::ConsistentHash => "consistent-hash",
            Self::BoundedHash(_) => "bounded-hash",
        }
    }

    /// Returns true if picks read the calls in flight.
    pub(super) fn watches_load(self) -> bool {
        matches!(self, Self::P2c | Self::LeastConnections | Self::BoundedHash(_))
    }

    /// Returns true if a call's key decides.
    pub(super) fn hashes(self) -> bool {
        matches!(self, Self::IpHash | Self::KeyHash | Self::ConsistentHash | Self::BoundedHash(_))
    }

    pub(super) fn needs_ring(self) -> bool {
        matches!(self, Self::ConsistentHash | Self::BoundedHash(_))
    }
}

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BoundedHash(percent) if *percent != BOUND => write!(f, "{}:{percent}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl FromStr for Balancer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_prefix("bounded-hash:") {
            let percent = percent.parse().ok().filter(|percent| *percent >= 100);
            let percent =
                percent.ok_or_else(|| format!("balancer {text:?}: give a number of percent, at least 100"))?;
            return Ok(Self::BoundedHash(percent));
        }
        Self::ALL.into_iter().find(|balancer| balancer.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("balancer {text:?} is unknown: use one of {names}")
        })
    }
}
