//! Life of the task behind a session. The client crate's watchers panic when it is dropped under them, as a runtime
//! does that ends: so they are polled only while it lives.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use spawns_core::{Spawn, Task};
use tokio::runtime::Handle;

/// Cheap to clone; all clones are of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    ended: Arc<RwLock<bool>>,
}

impl Life {
    /// Waits for what the session's task will tell; `None`: the task is gone.
    pub(super) async fn told<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let poll = |context: &mut Context<'_>| {
            // Held while it is polled: meanwhile the task stays.
            let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
            if *ended { Poll::Ready(None) } else { future.as_mut().poll(context).map(Some) }
        };
        poll_fn(poll).await
    }

    /// Runs what opens the session; the task that it starts is the one whose life this is.
    pub(super) async fn begin<T>(&self, runtime: Handle, opening: impl Future<Output = T>) -> T {
        let spawner = Spawner { life: self.clone(), runtime };
        let mut opening = pin!(opening);
        poll_fn(|context| {
            let _scope = spawns_core::enter(&spawner);
            opening.as_mut().poll(context)
        })
        .await
    }
}

struct Spawner {
    life: Life,
    runtime: Handle,
}

impl Spawn for Spawner {
    fn spawn(&self, task: Task) {
        self.runtime.spawn(Living { life: self.life.clone(), task: Box::into_pin(task.future) });
    }
}

struct Living {
    life: Life,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Living {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.task.as_mut().poll(context)
    }
}

/// Before the task itself is dropped.
impl Drop for Living {
    fn drop(&mut self) {
        *self.life.ended.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
