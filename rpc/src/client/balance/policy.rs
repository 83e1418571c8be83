//! A balancer, the instances that it may choose from, and what it remembers from one list to the next.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::atomic::AtomicU32};

use ms_register::Instance;

use super::Balancer;
use crate::shard::Cursor;

/// A [`Balancer`], and which instances it chooses from: those of one version alone, those nearby first.
///
/// ```
/// use ms_rpc::{Balancer, Balancing};
///
/// let balancing = Balancer::P2c.near("eu-1").only("version", "v2");
/// assert_eq!("p2c,near=eu-1,version=v2".parse(), Ok(balancing));
/// ```
///
/// As text: the balancer's name, `near=ZONE`, and any pairs of metadata, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Balancing {
    balancer: Balancer,
    near: Option<String>,
    only: BTreeMap<String, String>,
}

impl Balancer {
    /// Locality first: see [`Balancing::near`].
    pub fn near(self, zone: impl Into<String>) -> Balancing {
        Balancing::from(self).near(zone)
    }

    /// A selector: see [`Balancing::only`].
    pub fn only(self, key: impl Into<String>, value: impl Into<String>) -> Balancing {
        Balancing::from(self).only(key, value)
    }
}

impl Balancing {
    /// The metadata key that says where an instance is.
    pub const ZONE: &str = "zone";

    /// Instances whose metadata `zone` is this one get the calls, as long as one of them is connected and answers; only
    /// then the others. How many they are does not matter: a zone must be able to carry the calls made in it.
    #[must_use]
    pub fn near(mut self, zone: impl Into<String>) -> Self {
        self.near = Some(zone.into());
        self
    }

    /// Only instances with this pair in their metadata get calls, such as `version=v2`. With several, those that have all.
    #[must_use]
    pub fn only(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.only.insert(key.into(), value.into());
        self
    }

    pub(crate) fn balancer(&self) -> Balancer {
        self.balancer
    }

    /// Whether it has what [`only`](Self::only) asks for.
    pub(crate) fn selects(&self, instance: &Instance) -> bool {
        self.only.iter().all(|(key, value)| instance.metadata().get(key) == Some(value))
    }

    /// Whether some instances come first.
    pub(crate) fn has_zone(&self) -> bool {
        self.near.is_some()
    }

    pub(crate) fn is_near(&self, instance: &Instance) -> bool {
        self.near.is_some() && instance.metadata().get(Self::ZONE) == self.near.as_ref()
    }

    /// What is asked for, in words.
    pub(crate) fn wanted(&self) -> String {
        let pairs: Vec<_> = self.only.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
}

impl From<Balancer> for Balancing {
    fn from(balancer: Balancer) -> Self {
        Self { balancer, ..Self::default() }
    }
}

impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.balancer)?;
        if let Some(zone) = &self.near {
            write!(f, ",near={zone}")?;
        }
        self.only.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

impl FromStr for Balancing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let mut balancing = Self::from(parts.next().unwrap_or_default().parse::<Balancer>()?);
        for part in parts {
            balancing = match part.split_once('=') {
                Some(("near", zone)) if !zone.is_empty() => balancing.near(zone),
                Some((key, value)) if !key.is_empty() && key != "near" => balancing.only(key, value),
                _ => {
                    return Err(format!(
                        "balancer {text:?}: {part:?} is neither `near=ZONE` nor a pair like `version=v2`"
                    ));
                }
            };
        }
        Ok(balancing)
    }
}

/// What a service is balanced by.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) balancing: Balancing,
    /// Whose turn it is, for each thread.
    pub(super) next: Cursor,
    /// Whose turn it is, for all threads.
    pub(super) next_by_weight: AtomicU32,
}

impl Policy {
    pub(crate) fn new(balancing: Balancing) -> Self {
        Self { balancing, ..Self::default() }
    }
}
