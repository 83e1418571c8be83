//! Reads and follows the instances of one service.

use std::collections::{BTreeMap, BTreeSet};

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions};
use tokio::time::{Instant, timeout_at};

use super::{
    link::Link,
    stored::{Form, Stored},
};
use crate::{Found, RegisterError, ServiceName, ServicesCell, Skipped, SnapshotCell, backoff::reread};

/// The entries under one directory as of one revision.
#[derive(Debug)]
pub(super) struct Listing {
    revision: i64,
    by_key: BTreeMap<Vec<u8>, Found>,
    form: Form,
}

impl Listing {
    pub(super) fn found(&self) -> Vec<Found> {
        self.by_key.values().cloned().collect()
    }

    fn put(&mut self, directory: &str, pair: &KeyValue) {
        let found = match (self.form.decode)(directory, pair.key(), pair.value()) {
            Ok(Stored::Instance(instance)) => Ok(instance),
            Ok(Stored::Deleted) => return drop(self.by_key.remove(pair.key())),
            Err(reason) => Err(Skipped::new(String::from_utf8_lossy(pair.key()), reason)),
        };
        self.by_key.insert(pair.key().to_vec(), found);
    }
}

pub(super) async fn list(link: &Link, directory: &str, form: Form) -> Result<Listing, RegisterError> {
    let mut listing = Listing { revision: 0, by_key: BTreeMap::new(), form };
    let put = |pair: &KeyValue| listing.put(directory, pair);
    listing.revision = link.each("list the instances", directory, GetOptions::new(), put).await?;
    Ok(listing)
}

/// One full read, and a watch from there on.
pub(super) async fn follow(link: &Link, directory: &str, form: Form, cell: &SnapshotCell) -> Result<(), RegisterError> {
    let mut listing = list(link, directory, form).await?;
    cell.refresh(listing.found());
    let due = Instant::now() + reread();
    let mut watch = link.watch(directory, WatchOptions::new().with_prefix(), listing.revision).await?;
    while let Ok(response) = timeout_at(due, watch.next()).await {
        let response = response?;
        for event in response.events() {
            let Some(pair) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => listing.put(directory, pair),
                EventType::Delete => drop(listing.by_key.remove(pair.key())),
            }
        }
        if !response.events().is_empty() {
            cell.refresh(listing.found());
        }
    }
    Ok(())
}

/// The services below a prefix as of one revision, with the keys of each.
#[derive(Debug, Default)]
struct Names {
    revision: i64,
    keys: BTreeMap<ServiceName, BTreeSet<String>>,
}

impl Names {
    /// Reads all below `prefix`, which ends with a slash.
    async fn read(link: &Link, prefix: &str) -> Result<Self, RegisterError> {
        let mut names = Self::default();
        let visit = |pair: &KeyValue| names.change(prefix, pair, true);
        names.revision = link.each("list the services", prefix, GetOptions::new().with_keys_only(), visit).await?;
        Ok(names)
    }

    fn change(&mut self, prefix: &str, pair: &KeyValue, is_there: bool) {
        let rest = std::str::from_utf8(pair.key()).ok().and_then(|key| key.strip_prefix(prefix)?.split_once('/'));
        // No name of a service: keys of elections, and whatever others wrote.
        let Some((Ok(service), id)) = rest.map(|(service, id)| (ServiceName::new(service), id)) else { return };
        if is_there {
            self.keys.entry(service).or_default().insert(id.to_owned());
        } else if let Some(keys) = self.keys.get_mut(&service) {
            keys.remove(id);
            if keys.is_empty() {
                self.keys.remove(&service);
            }
        }
    }

    fn list(&self) -> Vec<ServiceName> {
        self.keys.keys().cloned().collect()
    }
}

/// The names of all services below `prefix`, which ends with a slash.
pub(super) async fn services(link: &Link, prefix: &str) -> Result<Vec<ServiceName>, RegisterError> {
    Ok(Names::read(link, prefix).await?.list())
}

/// One full read of the names, and a watch from there on.
pub(super) async fn follow_services(link: &Link, prefix: &str, cell: &ServicesCell) -> Result<(), RegisterError> {
    let mut names = Names::read(link, prefix).await?;
    cell.refresh(names.list());
    let due = Instant::now() + reread();
    let mut watch = link.watch(prefix, WatchOptions::new().with_prefix(), names.revision).await?;
    while let Ok(response) = timeout_at(due, watch.next()).await {
        for event in response?.events() {
            if let Some(pair) = event.kv() {
                names.change(prefix, pair, event.event_type() == EventType::Put);
            }
        }
        cell.refresh(names.list());
    }
    Ok(())
}
