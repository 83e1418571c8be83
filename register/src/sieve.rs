//! Separates the instances of a read from entries that are none, and warns of each of those once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::{About, Instance, ServiceName};

/// One entry that a back end read: an instance, or the reason why it is none.
pub type Found = Result<Instance, Skipped>;

/// An entry of a registry that is no instance. It is skipped, with one warning per key and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    key: String,
    reason: String,
}

impl Skipped {
    /// The entry under `key`, as an operator finds it in the registry, and the broken rule ("its port is 0").
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// The warnings of one registry client. They are forgotten with the entries that caused them.
#[derive(Debug)]
pub(crate) struct Sieve {
    about: About,
    warned: Mutex<HashMap<ServiceName, HashMap<String, String>>>,
}

impl Sieve {
    pub(crate) fn new(about: About) -> Self {
        Self { about, warned: Mutex::default() }
    }

    /// The instances of one full read, sorted by id, each id once.
    pub(crate) fn sift(&self, service: &ServiceName, found: Vec<Found>) -> Vec<Instance> {
        let (mut instances, mut skipped) = (Vec::with_capacity(found.len()), HashMap::new());
        for entry in found {
            match entry {
                Ok(instance) => instances.push(instance),
                Err(Skipped { key, reason }) => drop(skipped.insert(key, reason)),
            }
        }
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        instances.dedup_by(|later, first| later.id() == first.id());
        self.warn(service, skipped);
        instances
    }

    fn warn(&self, service: &ServiceName, skipped: HashMap<String, String>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let before = warned.remove(service).unwrap_or_default();
        for (key, reason) in skipped.iter().filter(|(key, reason)| before.get(*key) != Some(*reason)) {
            warn!("{key} of `{service}` in {} is skipped, it is no instance: {reason}", self.about.url());
        }
        if !skipped.is_empty() {
            warned.insert(service.clone(), skipped);
        }
    }
}
