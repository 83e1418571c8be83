//! The open connections of a server, to be told to drain and waited for.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::calls::Outbox;
use crate::meter;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Address of the server, as the label of its metrics.
    server: String,
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, Entry>,
    draining: bool,
    aborted: bool,
}

#[derive(Debug)]
struct Entry {
    outbox: Arc<Outbox>,
    /// The handshake is under way: nothing is lost by an abort.
    shakes_hands: bool,
    /// `None` for as long as it takes to spawn the task.
    task: Option<AbortHandle>,
}

impl Connections {
    /// No connections yet, of the server that listens on `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { server: address.to_string(), ..Self::default() }
    }

    /// Number of connections.
    pub(crate) fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    /// Runs a connection until it ends or is aborted. `shakes_hands`: until it calls [`Listed::established`] it may be aborted
    /// at the beginning of a drain.
    pub(crate) fn spawn<F>(self: &Arc<Self>, shakes_hands: bool, connection: impl FnOnce(Arc<Outbox>, Listed) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let outbox = Arc::new(Outbox::default());
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        if open.draining {
            outbox.drain();
        }
        open.by_number.insert(number, Entry { outbox: outbox.clone(), shakes_hands, task: None });
        drop(open);
        meter::connections(&self.server, 1.0);
        let listed = Listed { number, connections: self.clone() };
        // Spawned outside the lock: a runtime that shuts down drops the task here, which takes itself off the list.
        let task = tokio::spawn(connection(outbox, listed));
        let mut open = self.lock();
        let is_over = open.aborted || (open.draining && shakes_hands);
        if let Some(entry) = open.by_number.get_mut(&number) {
            entry.task = Some(task.abort_handle());
        }
        drop(open);
        if is_over {
            task.abort();
        }
    }

    /// Tells all to finish, and waits for them; false when `deadline` came first.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        {
            let mut open = self.lock();
            open.draining = true;
            for entry in open.by_number.values() {
                entry.outbox.drain();
                entry.task.iter().filter(|_| entry.shakes_hands).for_each(AbortHandle::abort);
            }
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
        open.by_number.values().filter_map(|entry| entry.task.as_ref()).for_each(AbortHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its connection off the list, however it ends.
#[derive(Debug)]
pub(crate) struct Listed {
    number: u64,
    connections: Arc<Connections>,
}

impl Listed {
    /// The handshake is over.
    pub(crate) fn established(&self) {
        if let Some(entry) = self.connections.lock().by_number.get_mut(&self.number) {
            entry.shakes_hands = false;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.by_number.remove(&self.number);
        drop(open);
        meter::connections(&self.connections.server, -1.0);
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
        connections.spawn(false, |outbox, listed| {
            told = outbox.is_draining();
            async move {
                let _listed = listed;
                pending().await
            }
        });
        assert!(told, "it would serve until the drain's deadline");
        assert!(!connections.drain(Duration::ZERO).await);
        connections.abort();
        connections.spawn(false, |_, listed| async move {
            let _listed = listed;
            pending().await
        });
        assert!(connections.drain(Duration::from_secs(5)).await);
    }
}
