//! The watches of one registry client: one source task per service, any number of readers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{Found, Freshness, Instance as Listed, RegisterError, ServiceName, Snapshot, sieve::Sieve};

/// Follows the instances of one service; see [`MsRegister::watch`](crate::MsRegister::watch). Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotWatch {
    receiver: watch::Receiver<Snapshot>,
}

impl SnapshotWatch {
    /// The snapshot now, without waiting.
    pub fn current(&self) -> Snapshot {
        self.receiver.borrow().clone()
    }

    /// Waits for a snapshot that this watch has not returned yet. Snapshots in between are skipped.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn changed(&mut self) -> Result<Snapshot, WatchClosed> {
        self.receiver.changed().await.map_err(|_| WatchClosed)?;
        Ok(self.receiver.borrow_and_update().clone())
    }

    /// Waits until a snapshot fulfils `wanted`; the current one counts.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Result<Snapshot, WatchClosed> {
        let found = self.receiver.wait_for(|snapshot| wanted(snapshot)).await;
        found.map(|snapshot| snapshot.clone()).map_err(|_| WatchClosed)
    }
}

/// The registry behind a watch was closed; the last snapshot stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry was closed")]
pub struct WatchClosed;

/// The writing side of one service's watch: what [`Backend::follow`](crate::Backend::follow) fills. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotCell {
    sender: Arc<watch::Sender<Snapshot>>,
    service: ServiceName,
    sieve: Arc<Sieve>,
    /// Notified of each new snapshot, for a reader that does not count as one.
    changed: Arc<Notify>,
}

impl SnapshotCell {
    pub(crate) fn new(service: &ServiceName, sieve: Arc<Sieve>) -> Self {
        let sender = Arc::new(watch::Sender::new(Snapshot::never()));
        Self { sender, service: service.clone(), sieve, changed: Arc::default() }
    }

    pub(crate) fn subscribe(&self) -> SnapshotWatch {
        SnapshotWatch { receiver: self.sender.subscribe() }
    }

    /// Returns true if anybody still follows the service.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Publishes a successful read: all entries, in any order.
    pub fn refresh(&self, found: Vec<Found>) {
        let instances = self.sieve.sift(&self.service, found);
        self.replace(|snapshot| snapshot.refreshed(instances));
    }

    /// Marks the list: the registry cannot be read.
    pub fn fail(&self, error: &RegisterError) {
        let reason = error.to_string();
        self.replace(|snapshot| snapshot.failed(&reason, Instant::now()));
    }

    /// Shows a list that was kept elsewhere, `age` ago, unless there is one. `error` says why it is not the registry's.
    pub(crate) fn restore(&self, found: Vec<Found>, age: Duration, error: &RegisterError) {
        let (instances, reason) = (self.sieve.sift(&self.service, found), error.to_string());
        self.replace(|snapshot| snapshot.restored(instances, age, &reason, Instant::now()));
    }

    /// Waits for a new snapshot.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The list, if it is what the registry says.
    pub(crate) fn confirmed(&self) -> Option<Vec<Listed>> {
        let snapshot = self.sender.borrow();
        (snapshot.freshness() == Freshness::Live).then(|| snapshot.instances().to_vec())
    }

    fn replace(&self, next: impl FnOnce(&Snapshot) -> Option<Snapshot>) {
        let is_new = self.sender.send_if_modified(|snapshot| match next(snapshot) {
            Some(next) => {
                *snapshot = next;
                true
            }
            None => false,
        });
        if is_new {
            self.changed.notify_one();
        }
    }
}

/// All watches of one registry client.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    by_service: HashMap<ServiceName, (SnapshotCell, Option<AbortHandle>)>,
    closed: bool,
}

impl Watches {
    /// Joins the watch of the cell's service, or starts it: `source` keeps the cell up to date by itself, or returns the task
    /// that does, which is aborted at `close`, or at the next `open` after the last reader has gone.
    pub(crate) fn open(
        &self,
        cell: SnapshotCell,
        source: impl FnOnce(SnapshotCell) -> Option<AbortHandle>,
    ) -> SnapshotWatch {
        let mut sources = self.lock();
        if sources.closed {
            return cell.subscribe();
        }
        sources.by_service.retain(|name, (open, task)| {
            let wanted = open.is_watched() || *name == cell.service;
            if let Some(task) = task.as_ref().filter(|_| !wanted) {
                task.abort();
            }
            wanted
        });
        if let Some((open, _)) = sources.by_service.get(&cell.service) {
            return open.subscribe();
        }
        let watch = cell.subscribe();
        let task = source(cell.clone());
        sources.by_service.insert(cell.service.clone(), (cell, task));
        watch
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut sources = self.lock();
        sources.closed = true;
        for (_, (_, task)) in sources.by_service.drain() {
            if let Some(task) = task {
                task.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.close();
    }
}
