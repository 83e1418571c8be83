//! The watches of one registry client: one source task per service, any number of readers.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{runtime::Handle, sync::watch};

use crate::{RegisterError, ServiceName, Snapshot};

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

/// The writing side of one service's watch.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotCell(Arc<watch::Sender<Snapshot>>);

impl SnapshotCell {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Snapshot::never())))
    }

    pub(crate) fn subscribe(&self) -> SnapshotWatch {
        SnapshotWatch { receiver: self.0.subscribe() }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Publishes a successful read.
    pub(crate) fn refresh(&self, instances: Vec<crate::Instance>) {
        self.replace(|snapshot| snapshot.refreshed(instances));
    }

    /// Publishes what another cell shows.
    pub(crate) fn mirror(&self, snapshot: Snapshot) {
        self.replace(|before| Some(snapshot.after(before)));
    }

    /// Marks the list: the registry cannot be read.
    pub(crate) fn fail(&self, error: &RegisterError) {
        let reason = error.to_string();
        self.replace(|snapshot| snapshot.failed(&reason, Instant::now()));
    }

    fn replace(&self, next: impl FnOnce(&Snapshot) -> Option<Snapshot>) {
        self.0.send_if_modified(|snapshot| match next(snapshot) {
            Some(next) => {
                *snapshot = next;
                true
            }
            None => false,
        });
    }
}

/// All watches of one registry client.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    by_service: HashMap<ServiceName, (SnapshotCell, tokio::task::AbortHandle)>,
    closed: bool,
}

impl Watches {
    /// Joins the watch of `service`, or starts it: `source` keeps its cell up to date until it is aborted, which happens
    /// at `close`, or at the next `open` after the last reader has gone.
    pub(crate) fn open<F>(
        &self,
        runtime: &Handle,
        service: &ServiceName,
        source: impl FnOnce(SnapshotCell) -> F,
    ) -> SnapshotWatch
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut sources = self.lock();
        if sources.closed {
            return SnapshotCell::new().subscribe();
        }
        sources.by_service.retain(|name, (cell, task)| {
            let wanted = cell.is_watched() || name == service;
            if !wanted {
                task.abort();
            }
            wanted
        });
        if let Some((cell, _)) = sources.by_service.get(service) {
            return cell.subscribe();
        }
        let cell = SnapshotCell::new();
        let watch = cell.subscribe();
        let task = runtime.spawn(source(cell.clone())).abort_handle();
        sources.by_service.insert(service.clone(), (cell, task));
        watch
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut sources = self.lock();
        sources.closed = true;
        for (_, (_, task)) in sources.by_service.drain() {
            task.abort();
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
