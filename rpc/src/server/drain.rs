//! The open connections of a server, to be told to drain and waited for.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::connection::Mailbox;
use crate::meter;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The handle is missing for as long as it takes to spawn the task.
    by_number: HashMap<u64, (Arc<Mailbox>, Option<AbortHandle>)>,
    draining: bool,
    aborted: bool,
}

impl Connections {
    /// Runs a connection until it ends or is aborted.
    pub(crate) fn spawn<F>(self: &Arc<Self>, connection: impl FnOnce(Arc<Mailbox>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mailbox = Arc::new(Mailbox::default());
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        if open.draining {
            mailbox.drain();
        }
        open.by_number.insert(number, (mailbox.clone(), None));
        meter::connections(open.by_number.len());
        drop(open);
        let connection = connection(mailbox);
        let entry = Entry { number, connections: self.clone() };
        // Not under the lock: a runtime that shuts down drops the task here, and the entry takes itself off the list.
        let task = tokio::spawn(async move {
            connection.await;
            drop(entry);
        });
        let mut open = self.lock();
        if open.aborted {
            task.abort();
        }
        if let Some((_, handle)) = open.by_number.get_mut(&number) {
            *handle = Some(task.abort_handle());
        }
    }

    /// Tells all to finish, and waits for them; false when `deadline` came first.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        {
            let mut open = self.lock();
            open.draining = true;
            open.by_number.values().for_each(|(mailbox, _)| mailbox.drain());
        }
        let all_ended = async {
            loop {
                let ended = self.ended.notified();
                if self.lock().by_number.is_empty() {
                    return;
                }
                ended.await;
            }
        };
        timeout(deadline, all_ended).await.is_ok()
    }

    /// Cuts all off.
    pub(crate) fn abort(&self) {
        let mut open = self.lock();
        open.aborted = true;
        open.by_number.values().filter_map(|(_, task)| task.as_ref()).for_each(AbortHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its connection off the list, however it ends.
struct Entry {
    number: u64,
    connections: Arc<Connections>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.by_number.remove(&self.number);
        meter::connections(open.by_number.len());
        drop(open);
        self.connections.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_accepted_during_the_end_gets_the_same() {
        let connections = Arc::new(Connections::default());
        assert!(connections.drain(Duration::from_secs(1)).await);
        let mut told = false;
        connections.spawn(|mailbox| {
            told = mailbox.is_draining();
            pending()
        });
        assert!(told, "it would serve until the drain's deadline");
        assert!(!connections.drain(Duration::ZERO).await);
        connections.abort();
        connections.spawn(|_| pending());
        assert!(connections.drain(Duration::from_secs(5)).await);
    }
}
