//! Reads and follows the instances of one service.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions};
use tokio::time::{Instant, timeout_at};

use super::{
    link::Link,
    stored::{self, Stored},
};
use crate::{Found, RegisterError, ServiceName, Skipped, SnapshotCell};

/// Period of full reads, which correct whatever a watch may have missed.
const REREAD: Duration = Duration::from_secs(30);

/// The entries under one directory as of one revision.
#[derive(Debug)]
pub(super) struct Listing {
    revision: i64,
    by_key: BTreeMap<Vec<u8>, Found>,
}

impl Listing {
    pub(super) fn found(&self) -> Vec<Found> {
        self.by_key.values().cloned().collect()
    }

    fn put(&mut self, directory: &str, pair: &KeyValue) {
        let found = match stored::decode(directory, pair.key(), pair.value()) {
            Ok(Stored::Instance(instance)) => Ok(instance),
            Ok(Stored::Deleted) => return drop(self.by_key.remove(pair.key())),
            Err(reason) => Err(Skipped::new(String::from_utf8_lossy(pair.key()), reason)),
        };
        self.by_key.insert(pair.key().to_vec(), found);
    }
}

pub(super) async fn list(link: &Link, directory: &str) -> Result<Listing, RegisterError> {
    let mut listing = Listing { revision: 0, by_key: BTreeMap::new() };
    let put = |pair: &KeyValue| listing.put(directory, pair);
    listing.revision = link.each("list the instances", directory, GetOptions::new(), put).await?;
    Ok(listing)
}

/// One full read, and a watch from there on.
pub(super) async fn follow(link: &Link, directory: &str, cell: &SnapshotCell) -> Result<(), RegisterError> {
    let mut listing = list(link, directory).await?;
    cell.refresh(listing.found());
    let due = Instant::now() + REREAD;
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

/// The names of all services below `prefix`, which ends with a slash.
pub(super) async fn services(link: &Link, prefix: &str) -> Result<Vec<ServiceName>, RegisterError> {
    let mut services = BTreeSet::new();
    let visit = |pair: &KeyValue| {
        let rest = std::str::from_utf8(pair.key()).ok().and_then(|key| key.strip_prefix(prefix));
        // No name of a service: keys of elections, and whatever others wrote.
        services.extend(rest.and_then(|rest| ServiceName::new(rest.split_once('/')?.0).ok()));
    };
    link.each("list the services", prefix, GetOptions::new().with_keys_only(), visit).await?;
    Ok(services.into_iter().collect())
}
