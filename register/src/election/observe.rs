//! Following who leads.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use super::Master;
use crate::{Freshness, RegisterError, WatchClosed};

/// The master at one moment, as far as it is known. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MasterSnapshot {
    freshness: Freshness,
    master: Option<Arc<Master>>,
    problem: Option<RegisterError>,
}

impl MasterSnapshot {
    /// The master, if there is one. While the registry cannot be read it is the last one known, which may lead no more.
    pub fn master(&self) -> Option<&Master> {
        self.master.as_deref()
    }

    /// How far it can be trusted.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Reason why the registry cannot be read; `None`: it can.
    pub fn problem(&self) -> Option<&RegisterError> {
        self.problem.as_ref()
    }
}

/// Follows the master of one service; see [`Election::observe`](super::Election::observe). Cheap to clone.
#[derive(Clone, Debug)]
pub struct MasterWatch {
    receiver: watch::Receiver<MasterSnapshot>,
    _source: Arc<Source>,
}

impl MasterWatch {
    /// The last snapshot, without waiting.
    pub fn current(&self) -> MasterSnapshot {
        self.receiver.borrow().clone()
    }

    /// Waits for a change that this watch has not returned yet.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn changed(&mut self) -> Result<MasterSnapshot, WatchClosed> {
        self.receiver.changed().await.map_err(|_| WatchClosed)?;
        Ok(self.receiver.borrow_and_update().clone())
    }

    /// Waits until what is known fulfils `wanted`; what is known now counts.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&MasterSnapshot) -> bool,
    ) -> Result<MasterSnapshot, WatchClosed> {
        let found = self.receiver.wait_for(|snapshot| wanted(snapshot)).await;
        found.map(|snapshot| snapshot.clone()).map_err(|_| WatchClosed)
    }
}

/// The task behind a watch; it ends with the last clone.
#[derive(Debug)]
struct Source(Option<AbortHandle>);

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// The writing side of a watch: what [`ElectionBackend::follow_master`](crate::ElectionBackend::follow_master) fills.
#[derive(Debug)]
pub struct MasterCell(watch::Sender<MasterSnapshot>);

impl MasterCell {
    /// Publishes a successful read.
    pub fn refresh(&self, master: Option<Master>) {
        self.0.send_if_modified(|snapshot| {
            let same = snapshot.freshness == Freshness::Live && snapshot.master() == master.as_ref();
            if !same {
                let master = master.map(Arc::new);
                *snapshot = MasterSnapshot { freshness: Freshness::Live, master, problem: None };
            }
            !same
        });
    }

    /// Marks the last master: the registry cannot be read.
    pub fn fail(&self, error: RegisterError) {
        self.0.send_if_modified(|snapshot| {
            let same = snapshot.problem.as_ref().is_some_and(|before| before.to_string() == error.to_string());
            if snapshot.freshness == Freshness::Live {
                snapshot.freshness = Freshness::Stale;
            }
            snapshot.problem = Some(error);
            !same
        });
    }
}

/// The watches of one registry client.
#[derive(Debug)]
pub(crate) struct Observers {
    closed: watch::Sender<bool>,
}

impl Observers {
    pub(crate) fn new() -> Self {
        Self { closed: watch::Sender::new(false) }
    }

    /// Starts a watch, which `source` keeps up to date.
    pub(crate) fn open<F>(&self, runtime: Option<&Handle>, source: impl FnOnce(MasterCell) -> F) -> MasterWatch
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let never = MasterSnapshot { freshness: Freshness::Never, master: None, problem: None };
        let (sender, receiver) = watch::channel(never);
        let mut closed = self.closed.subscribe();
        let Some(runtime) = runtime.filter(|_| !*closed.borrow()) else {
            return MasterWatch { receiver, _source: Arc::new(Source(None)) };
        };
        let source = source(MasterCell(sender));
        let task = runtime.spawn(async move {
            tokio::select! {
                () = source => {}
                // An error: the registry client is gone, and with it who could close it.
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
        MasterWatch { receiver, _source: Arc::new(Source(Some(task.abort_handle()))) }
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}
