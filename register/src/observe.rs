//! Watches that show one value of a registry: the master of a service, the names of all services.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use crate::{Freshness, RegisterError, WatchClosed};

/// One value of a registry, as far as it is known. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observation<T> {
    freshness: Freshness,
    value: T,
    problem: Option<RegisterError>,
}

impl<T> Observation<T> {
    /// How far the value can be trusted. While the registry cannot be read it is the last one known.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    pub(crate) fn value(&self) -> &T {
        &self.value
    }

    /// Reason why the registry cannot be read; `None`: it can.
    pub fn problem(&self) -> Option<&RegisterError> {
        self.problem.as_ref()
    }
}

/// Follows one value of a registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer<T> {
    receiver: watch::Receiver<Observation<T>>,
    _source: Arc<Source>,
}

impl<T: Clone> Observer<T> {
    /// The last snapshot, without waiting.
    pub fn current(&self) -> Observation<T> {
        self.receiver.borrow().clone()
    }

    /// Waits for a change that this watch has not returned yet.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn changed(&mut self) -> Result<Observation<T>, WatchClosed> {
        self.receiver.changed().await.map_err(|_| WatchClosed)?;
        Ok(self.receiver.borrow_and_update().clone())
    }

    /// Waits until what is known fulfils `wanted`; what is known now counts.
    ///
    /// # Errors
    /// The registry was closed.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&Observation<T>) -> bool,
    ) -> Result<Observation<T>, WatchClosed> {
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

/// The writing side of a watch.
#[derive(Debug)]
pub struct Cell<T>(watch::Sender<Observation<T>>);

impl<T: PartialEq> Cell<T> {
    /// Publishes a successful read.
    pub(crate) fn replace(&self, value: T) {
        self.0.send_if_modified(|snapshot| {
            let same = snapshot.freshness == Freshness::Live && snapshot.value == value;
            if !same {
                *snapshot = Observation { freshness: Freshness::Live, value, problem: None };
            }
            !same
        });
    }

    /// Marks the last value: the registry cannot be read.
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
    pub(crate) fn open<T, F>(&self, runtime: Option<&Handle>, source: impl FnOnce(Cell<T>) -> F) -> Observer<T>
    where
        T: Default,
        F: Future<Output = ()> + Send + 'static,
    {
        let never = Observation { freshness: Freshness::Never, value: T::default(), problem: None };
        let (sender, receiver) = watch::channel(never);
        let mut closed = self.closed.subscribe();
        let Some(runtime) = runtime.filter(|_| !*closed.borrow()) else {
            return Observer { receiver, _source: Arc::new(Source(None)) };
        };
        let source = source(Cell(sender));
        let task = runtime.spawn(async move {
            tokio::select! {
                () = source => {}
                // An error: the registry client is gone, and with it who could close it.
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
        Observer { receiver, _source: Arc::new(Source(Some(task.abort_handle()))) }
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}
