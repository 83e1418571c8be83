//! A balancer, and the instances that it may choose from.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use ms_register::Instance;

use super::{
    balancer::Balancer,
    candidates::{Balance, Candidates},
    turns::Turns,
};

/// A balancer - one of the built-in ones, or one of the program's own - and the instances that it chooses from: those of one
/// version alone, those nearby first.
///
/// ```
/// use ms_rpc::{Balancer, Balancing};
///
/// let balancing = Balancer::P2c.near("eu-1").only("version", "v2");
/// assert_eq!("p2c,near=eu-1,version=v2".parse(), Ok(balancing));
/// ```
///
/// As text: the balancer's name, `near=ZONE`, and any pairs of metadata, with commas between them. The name of a custom
/// balancer is shown, but cannot be parsed: its code is not in its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Balancing {
    algorithm: Algorithm,
    near: Option<String>,
    only: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    BuiltIn(Balancer),
    Custom(Custom),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::BuiltIn(Balancer::default())
    }
}

type Factory = dyn Fn(&Candidates) -> Box<dyn Balance> + Send + Sync;

/// Balancer of the program's own.
#[derive(Clone)]
pub(super) struct Custom {
    pub(super) name: Arc<str>,
    pub(super) factory: Arc<Factory>,
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.factory, &other.factory)
    }
}

impl Eq for Custom {}

impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.name).finish()
    }
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
    /// Metadata key of an instance's zone.
    pub const ZONE: &str = "zone";

    /// A balancer of the program's own: `factory` makes one whenever the candidates change. `name` stands in errors and in
    /// [`Display`](fmt::Display). Equal only to its own clones.
    ///
    /// ```
    /// use ms_rpc::{Balance, Balancing, Candidates, PickContext};
    ///
    /// /// Hash by the call's key that moves only the keys of an instance that leaves.
    /// #[derive(Debug)]
    /// struct Rendezvous(Vec<u64>);
    ///
    /// impl Balance for Rendezvous {
    ///     fn pick(&self, _: &Candidates, call: &PickContext<'_>) -> usize {
    ///         let key = call.key_hash().unwrap_or_default();
    ///         let score = |id: &u64| (id ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(*id | 1);
    ///         (0..self.0.len()).max_by_key(|at| score(&self.0[*at])).unwrap_or(0)
    ///     }
    /// }
    ///
    /// let hash = |id: &str| id.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    /// let balancing = Balancing::custom("rendezvous", move |candidates: &Candidates| {
    ///     Rendezvous(candidates.iter().map(|candidate| hash(candidate.instance().id())).collect())
    /// });
    /// assert_eq!(balancing.near("eu-1").to_string(), "rendezvous,near=eu-1");
    /// ```
    pub fn custom<B: Balance>(
        name: impl AsRef<str>,
        factory: impl Fn(&Candidates) -> B + Send + Sync + 'static,
    ) -> Self {
        let factory = Arc::new(move |candidates: &Candidates| Box::new(factory(candidates)) as Box<dyn Balance>);
        let algorithm = Algorithm::Custom(Custom { name: name.as_ref().into(), factory });
        Self { algorithm, ..Self::default() }
    }

    /// Locality first: instances whose metadata `zone` is this one get the calls while at least one of them is connected and
    /// not ejected, and only then the others. Their number does not matter: a zone must be able to carry the calls made in it.
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

    pub(super) fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// Returns true if picks read the calls in flight or the load estimate.
    pub(crate) fn watches_load(&self) -> bool {
        match &self.algorithm {
            Algorithm::BuiltIn(balancer) => balancer.watches_load(),
            Algorithm::Custom(_) => true,
        }
    }

    pub(crate) fn needs_ring(&self) -> bool {
        matches!(self.algorithm, Algorithm::BuiltIn(balancer) if balancer.needs_ring())
    }

    /// Returns true if a call's key decides.
    pub(crate) fn hashes(&self) -> bool {
        matches!(self.algorithm, Algorithm::BuiltIn(balancer) if balancer.hashes())
    }

    /// Returns true if a call without a key is hashed by its caller's address.
    pub(crate) fn hashes_addresses(&self) -> bool {
        matches!(self.algorithm, Algorithm::BuiltIn(Balancer::IpHash))
    }

    /// Returns true if the instance has every pair of [`only`](Self::only).
    pub(crate) fn selects(&self, instance: &Instance) -> bool {
        self.only.iter().all(|(key, value)| instance.metadata().get(key) == Some(value))
    }

    /// Returns true if the instances of a zone come first.
    pub(crate) fn has_zone(&self) -> bool {
        self.near.is_some()
    }

    pub(crate) fn is_near(&self, instance: &Instance) -> bool {
        self.near.is_some() && instance.metadata().get(Self::ZONE) == self.near.as_ref()
    }

    /// The pairs of the selector, as text.
    pub(crate) fn wanted(&self) -> String {
        let pairs: Vec<_> = self.only.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
}

impl From<Balancer> for Balancing {
    fn from(balancer: Balancer) -> Self {
        Self { algorithm: Algorithm::BuiltIn(balancer), ..Self::default() }
    }
}

impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.algorithm {
            Algorithm::BuiltIn(balancer) => balancer.fmt(f)?,
            Algorithm::Custom(custom) => f.write_str(&custom.name)?,
        }
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

/// Balancing of one service, and the cursors that outlive its lists.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) balancing: Balancing,
    pub(super) turns: Arc<Turns>,
}

impl Policy {
    pub(crate) fn new(balancing: Balancing) -> Self {
        Self { balancing, ..Self::default() }
    }
}
