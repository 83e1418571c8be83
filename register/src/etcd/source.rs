//! Reads and follows the instances of one service.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::{
    link::Link,
    stored::{self, Stored},
};
use crate::{Instance, RegisterError, backoff::Backoff, warned::Warned, watch::SnapshotCell};

/// Cheap to clone; all clones warn of a piece of garbage once.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    link: Link,
    /// The keys that were warned of, each with the revision that wrote it.
    warned: Arc<Mutex<Warned<Vec<u8>, i64>>>,
}

/// The instances under one directory as of one revision.
#[derive(Debug)]
pub(super) struct Listing {
    revision: i64,
    by_key: BTreeMap<Vec<u8>, Instance>,
}

impl Listing {
    pub(super) fn instances(&self) -> Vec<Instance> {
        self.by_key.values().cloned().collect()
    }
}

/// Why a watch gives way to a new read without having failed.
enum Ended {
    /// The belt: nothing is wrong.
    Due,
    /// etcd ended it, or it would never speak again.
    Broken(&'static str),
}

impl Reader {
    /// A full read from time to time corrects whatever a watch may have missed.
    const REREAD: Duration = Duration::from_secs(30);

    pub(super) fn new(link: Link) -> Self {
        Self { link, warned: Arc::default() }
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Listing, RegisterError> {
        let answer = self.link.get("list the instances", directory, &GetOptions::new().with_prefix()).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let mut listing = Listing { revision, by_key: BTreeMap::new() };
        for pair in answer.kvs() {
            self.put(&mut listing, directory, pair);
        }
        Ok(listing)
    }

    /// Keeps `cell` up to date for ever.
    pub(super) async fn follow(&self, directory: &str, cell: &SnapshotCell) {
        let mut backoff = Backoff::default();
        loop {
            match self.round(directory, cell, &mut backoff).await {
                Ok(Ended::Due) => continue,
                Ok(Ended::Broken(reason)) => {
                    debug!("watch of {directory} in {}: {reason}", self.link.url());
                    cell.fail(&self.link.unreachable(format!("the watch broke: {reason}")));
                }
                Err(error) => cell.fail(&error),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// One full read, and a watch from there on.
    async fn round(&self, directory: &str, cell: &SnapshotCell, backoff: &mut Backoff) -> Result<Ended, RegisterError> {
        let mut listing = self.list(directory).await?;
        cell.refresh(listing.instances());
        let due = Instant::now() + Self::REREAD;
        let start = listing.revision + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(start);
        let mut stream = self.link.watch(directory, &options).await?;
        let created = match timeout(self.link.timeout(), self.next(&mut stream)).await {
            Ok(created) => created?,
            Err(_) => return Err(self.link.late("open a watch")),
        };
        if let Some(ended) =
            created.as_ref().map_or(Some(Ended::Broken("it ended at once")), |first| ended(first, start))
        {
            return Ok(ended);
        }
        backoff.reset();
        let mut response = created;
        while let Some(changes) = response {
            if changes.canceled() {
                return Ok(Ended::Broken("it was canceled"));
            }
            if !changes.events().is_empty() {
                self.apply(&mut listing, directory, &changes);
                cell.refresh(listing.instances());
            }
            response = match timeout_at(due, self.next(&mut stream)).await {
                Ok(next) => next?,
                Err(_) => return Ok(Ended::Due),
            };
        }
        Ok(Ended::Broken("it ended"))
    }

    async fn next(&self, stream: &mut WatchStream) -> Result<Option<WatchResponse>, RegisterError> {
        stream.message().await.map_err(|error| self.link.named(&error))
    }

    fn apply(&self, listing: &mut Listing, directory: &str, changes: &WatchResponse) {
        for event in changes.events() {
            let Some(pair) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => self.put(listing, directory, pair),
                EventType::Delete => drop(listing.by_key.remove(pair.key())),
            }
        }
    }

    fn put(&self, listing: &mut Listing, directory: &str, pair: &KeyValue) {
        match stored::decode(directory, pair.key(), pair.value()) {
            Ok(Stored::Instance(instance)) => drop(listing.by_key.insert(pair.key().to_vec(), instance)),
            Ok(Stored::Deleted) => drop(listing.by_key.remove(pair.key())),
            Err(reason) => {
                listing.by_key.remove(pair.key());
                let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
                if warned.is_first(pair.key().to_vec(), pair.mod_revision()) {
                    let key = String::from_utf8_lossy(pair.key());
                    warn!("{key} in {} is skipped, it is no instance: {reason}", self.link.url());
                }
            }
        }
    }
}

/// Whether a watch from `start` can be relied on, by its first response. Seen of etcd: a watch from a compacted revision
/// is canceled and then silent; one from a revision that a wiped etcd has not reached skips all before it in silence.
fn ended(first: &WatchResponse, start: i64) -> Option<Ended> {
    if first.canceled() || first.compact_revision() != 0 {
        return Some(Ended::Broken("its revision was compacted"));
    }
    let revision = first.header().map_or(0, |header| header.revision());
    (revision + 1 < start).then_some(Ended::Broken("etcd has started again on other data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_for_each_write() {
        let mut warned = Warned::default();
        assert!(warned.is_first("a", 1) && warned.is_first("b", 1));
        assert!(!warned.is_first("a", 1));
        assert!(warned.is_first("a", 2));
    }
}
