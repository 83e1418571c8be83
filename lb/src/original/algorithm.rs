//! Names of their balancers.

use std::{fmt, str::FromStr};

use ms_rpc::{Balancer, Balancing};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::file::ValueError;
use crate::rule::KeySource;

/// Balancer by its name in their files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Algorithm(String);

impl Algorithm {
    fn known(name: &str) -> Option<(Balancer, KeySource)> {
        Some(match name {
            "roundrobin" => (Balancer::RoundRobin, KeySource::None),
            "weightroundrobin" => (Balancer::WeightedRoundRobin, KeySource::None),
            "random" => (Balancer::Random, KeySource::None),
            "weightrandom" => (Balancer::WeightedRandom, KeySource::None),
            "iphash" => (Balancer::IpHash, KeySource::Client),
            // Number crc32(URL) % n of the list, as theirs.
            "urlhash" | "urhlash" => (Balancer::KeyHash, KeySource::Url),
            "leastconnect" => (Balancer::LeastConnections, KeySource::None),
            _ => return None,
        })
    }

    /// The balancer, and the key that it hashes.
    pub fn balancing(&self) -> (Balancing, KeySource) {
        let (balancer, key) = Self::known(&self.0).unwrap_or((Balancer::RoundRobin, KeySource::None));
        (balancer.into(), key)
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        Self("roundrobin".to_owned())
    }
}

impl FromStr for Algorithm {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, ValueError> {
        match Self::known(name) {
            Some(_) => Ok(Self(name.to_owned())),
            None => Err(ValueError(format!(
                "{name:?} is none of roundrobin, weightroundrobin, random, weightrandom, iphash, urlhash, leastconnect"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
