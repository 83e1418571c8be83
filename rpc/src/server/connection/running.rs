//! The calls that run beside a connection's task.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::task::AbortHandle;

use super::Mailbox;

#[derive(Debug, Default)]
pub(super) struct Running {
    count: AtomicUsize,
    /// A handle is missing for as long as it takes to spawn the task.
    tasks: Mutex<HashMap<u64, Option<AbortHandle>>>,
}

impl Running {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Runs `work`, which posts its answer, under the call's id.
    pub(super) fn spawn<F>(self: &Arc<Self>, id: u64, mailbox: Arc<Mailbox>, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.tasks().insert(id, None);
        let permit = Permit { id, running: self.clone(), mailbox };
        // Not under the lock: a runtime that shuts down drops the task here, and the permit takes itself off the list.
        let task = tokio::spawn(async move {
            work.await;
            // Last: whoever drains counts permits, and must find the answer in the mailbox.
            drop(permit);
        });
        if let Some(handle) = self.tasks().get_mut(&id) {
            *handle = Some(task.abort_handle());
        }
    }

    pub(super) fn cancel(&self, id: u64) {
        let task = self.tasks().get(&id).cloned().flatten();
        if let Some(task) = task {
            task.abort();
        }
    }

    pub(super) fn cancel_all(&self) {
        self.tasks().values().flatten().for_each(AbortHandle::abort);
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<u64, Option<AbortHandle>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call until its handler is dropped, however that comes.
struct Permit {
    id: u64,
    running: Arc<Running>,
    mailbox: Arc<Mailbox>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.running.tasks().remove(&self.id);
        self.running.count.fetch_sub(1, Ordering::AcqRel);
        self.mailbox.permit_returned();
    }
}
