//! Separates the instances of a read from entries that are none, and warns of each of those once.

use std::{
    collections::{HashMap, hash_map::Entry},
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

    /// The instances of one full read that can be dialled, sorted by id, each id once, and each address once unless the registry shares them.
    pub(crate) fn sift(&self, service: &ServiceName, found: Vec<Found>) -> Vec<Instance> {
        let (mut instances, mut skipped) = (Vec::with_capacity(found.len()), HashMap::new());
        for entry in found {
            match entry {
                Ok(instance) if instance.is_unspecified() => {
                    let reason = format!("nobody can dial {}", instance.address());
                    skipped.insert(instance.id().to_owned(), reason);
                }
                Ok(instance) => instances.push(instance),
                Err(Skipped { key, reason }) => drop(skipped.insert(key, reason)),
            }
        }
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        instances.dedup_by(|later, first| later.id() == first.id());
        let repeated = if self.about.shares_addresses() { Vec::new() } else { same_address(&instances) };
        for (later, first) in repeated {
            let first = instances[first].id();
            skipped.insert(instances[later].id().to_owned(), format!("it has the address of `{first}`"));
        }
        if !skipped.is_empty() {
            instances.retain(|instance| !skipped.contains_key(instance.id()));
        }
        self.warn(service, skipped);
        instances
    }

    /// Warns of what was not skipped for the same reason in the last read of the service.
    fn warn(&self, service: &ServiceName, skipped: HashMap<String, String>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let before = warned.remove(service).unwrap_or_default();
        for (key, reason) in skipped.iter().filter(|(key, reason)| before.get(*key) != Some(*reason)) {
            warn!("{key} of `{service}` in {} is skipped, it is no instance to call: {reason}", self.about.url());
        }
        if !skipped.is_empty() {
            warned.insert(service.clone(), skipped);
        }
    }
}

/// Indices of instances with an address that stands before, and of the first one with it.
fn same_address(instances: &[Instance]) -> Vec<(usize, usize)> {
    let mut first = HashMap::with_capacity(instances.len());
    let repeated = instances.iter().enumerate().filter_map(|(index, instance)| {
        match first.entry((instance.host(), instance.port())) {
            Entry::Vacant(entry) => {
                entry.insert(index);
                None
            }
            Entry::Occupied(entry) => Some((index, *entry.get())),
        }
    });
    repeated.collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use tracing::{Event, Metadata, Subscriber, field::Field, span, subscriber::with_default};

    use super::*;

    /// Collects warnings.
    #[derive(Clone, Default)]
    struct Warnings(std::sync::Arc<Mutex<Vec<String>>>);

    impl Subscriber for Warnings {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut |_: &Field, value: &dyn Debug| self.0.lock().unwrap().push(format!("{value:?}")));
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn sifted(reads: Vec<Vec<Found>>) -> (Vec<Vec<String>>, Vec<String>) {
        sifted_by(About::new("test://"), reads)
    }

    fn sifted_by(about: About, reads: Vec<Vec<Found>>) -> (Vec<Vec<String>>, Vec<String>) {
        let (sieve, warnings) = (Sieve::new(about), Warnings::default());
        let goods = "goods".parse().unwrap();
        let ids = |instances: Vec<Instance>| instances.iter().map(|one| one.id().to_owned()).collect();
        let lists =
            with_default(warnings.clone(), || reads.into_iter().map(|found| ids(sieve.sift(&goods, found))).collect());
        let texts = warnings.0.lock().unwrap().clone();
        (lists, texts)
    }

    fn skipped(key: &str, reason: &str) -> Found {
        Err(Skipped::new(key, reason))
    }

    #[test]
    fn one_warning_for_each_key_and_reason() {
        let many = || (0..2_000).map(|key| skipped(&key.to_string(), "port")).collect::<Vec<_>>();
        assert_eq!(sifted(vec![many(), many(), many()]).1.len(), 2_000, "however many there are");
        let reads = ["port", "port", "weight", "weight"].map(|reason| vec![skipped("a", reason)]);
        assert_eq!(sifted(reads.to_vec()).1.len(), 2);
    }

    #[test]
    fn addresses_that_nobody_can_dial_are_skipped() {
        let read = || vec![Ok(Instance::new("0.0.0.0", 1)), Ok(Instance::new("::", 1)), Ok(Instance::new("h", 1))];
        let (lists, warnings) = sifted(vec![read(), read()]);
        assert_eq!(lists, [["h:1"], ["h:1"]]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().any(|text| text.contains("nobody can dial [::]:1")), "{warnings:?}");
    }

    #[test]
    fn an_address_that_is_listed_twice_is_one_instance() {
        let read = || {
            vec![
                Ok(Instance::new("h", 1).with_id("b")),
                Ok(Instance::new("h", 2)),
                Ok(Instance::new("h", 1).with_id("a")),
            ]
        };
        let (lists, warnings) = sifted(vec![read(), read()]);
        assert_eq!(lists, [["a", "h:2"], ["a", "h:2"]]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("b of `goods`") && warnings[0].contains("the address of `a`"), "{warnings:?}");
        let (lists, warnings) = sifted_by(About::new("test://").with_shared_addresses(), vec![read()]);
        assert_eq!((lists, warnings), (vec![vec!["a".to_owned(), "b".to_owned(), "h:2".to_owned()]], vec![]));
    }
}
