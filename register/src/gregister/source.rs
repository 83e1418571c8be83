//! Reads and follows the instances of one service.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    link::{Answer, Link},
    stored::{self, Listing},
};
use crate::{RegisterError, backoff::Backoff, warned::Warned, watch::SnapshotCell};

/// Cheap to clone; all clones warn of a piece of garbage once.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    link: Link,
    warned: Arc<Mutex<Warned<String, String>>>,
}

impl Reader {
    /// How long the node holds an answer back: so long it takes to notice one that is frozen, and the timeout.
    pub(super) const WAIT: Duration = Duration::from_secs(5);
    /// A full read from time to time corrects whatever was missed.
    pub(super) const REREAD: Duration = Duration::from_secs(30);

    pub(super) fn new(link: Link) -> Self {
        Self { link, warned: Arc::default() }
    }

    pub(super) async fn list(&self, path: &str) -> Result<Listing, RegisterError> {
        match self.link.get("list the instances", path, Duration::ZERO).await? {
            Answer::Body(body) => self.read(path, &body),
            Answer::Same | Answer::Missing => Err(self.link.rejected(&"it has no such path: is it a gregister node?")),
        }
    }

    /// Keeps `cell` up to date for ever.
    pub(super) async fn follow(&self, path: &str, cell: &SnapshotCell) {
        let mut backoff = Backoff::default();
        loop {
            if let Err(error) = self.round(path, cell, &mut backoff).await {
                cell.fail(&error);
                sleep(backoff.next_delay()).await;
            }
        }
    }

    /// A full read, and whatever has changed since then. Each answer is a full list again: the node gives one at once to whoever
    /// knows another store, or a revision that is not of it.
    async fn round(&self, path: &str, cell: &SnapshotCell, backoff: &mut Backoff) -> Result<(), RegisterError> {
        let Listing { mut store, mut revision, instances } = self.list(path).await?;
        cell.refresh(instances);
        backoff.reset();
        let due = Instant::now() + Self::REREAD;
        while Instant::now() < due {
            let wait = Self::WAIT.as_secs();
            let since = format!("{path}?store={store}&revision={revision}&wait={wait}");
            if let Answer::Body(body) = self.link.get("tell what has changed", &since, Self::WAIT).await? {
                let listing = self.read(path, &body)?;
                cell.refresh(listing.instances);
                (store, revision) = (listing.store, listing.revision);
            }
        }
        Ok(())
    }

    fn read(&self, path: &str, body: &[u8]) -> Result<Listing, RegisterError> {
        let (listing, garbage) = stored::decode(body).map_err(|reason| self.link.rejected(&reason))?;
        for (id, reason) in garbage {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.is_first(format!("{path}/{id}"), reason.clone()) {
                warn!("{path}/{id} in {} is skipped, it is no instance: {reason}", self.link.url());
            }
        }
        Ok(listing)
    }
}
