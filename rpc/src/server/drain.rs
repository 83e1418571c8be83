//! The open connections of a server, to be told to drain and waited for.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::connection::Mailbox;

#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, (Arc<Mailbox>, AbortHandle)>,
}

impl Connections {
    /// Runs a connection until it ends or is aborted.
    pub(crate) fn spawn<F>(self: &Arc<Self>, connection: impl FnOnce(Arc<Mailbox>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mailbox = Arc::new(Mailbox::default());
        let connection = connection(mailbox.clone());
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        let entry = Entry { number, connections: self.clone() };
        let task = tokio::spawn(async move {
            connection.await;
            drop(entry);
        });
        open.by_number.insert(number, (mailbox, task.abort_handle()));
    }

    /// Tells all to finish, and waits for them; false when `deadline` came first.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        for (mailbox, _) in self.lock().by_number.values() {
            mailbox.drain();
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
        for (_, task) in self.lock().by_number.values() {
            task.abort();
        }
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
        self.connections.lock().by_number.remove(&self.number);
        self.connections.ended.notify_waiters();
    }
}
