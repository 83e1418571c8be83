//! Methods that compute: on as many threads as there are cores, so that they delay each other but nobody else.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll, Wake},
};

use tokio::sync::{Notify, Semaphore};

/// A bounded share of the runtime's blocking threads.
#[derive(Clone, Debug)]
pub(crate) struct ComputePool {
    threads: Arc<Semaphore>,
}

impl ComputePool {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: Arc::new(Semaphore::new(cores)) }
    }

    /// Polls `work` to its end, each time on a thread of the pool; between polls it occupies none.
    ///
    /// `None`: the runtime shuts down.
    pub(crate) async fn run<W, R>(&self, mut work: W) -> Option<R>
    where
        W: FnMut(&mut TaskContext<'_>) -> Poll<R> + Send + 'static,
        R: Send + 'static,
    {
        let woken = Arc::new(Woken::default());
        loop {
            let thread = self.threads.clone().acquire_owned().await.ok()?;
            let waker = woken.clone().into();
            let polled = tokio::task::spawn_blocking(move || {
                let _thread = thread;
                let polled = work(&mut TaskContext::from_waker(&waker));
                (work, polled)
            });
            let (back, polled) = polled.await.ok()?;
            work = back;
            match polled {
                Poll::Ready(result) => return Some(result),
                Poll::Pending => woken.0.notified().await,
            }
        }
    }
}

#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin};

    use super::*;

    #[tokio::test]
    async fn work_that_waits_in_between_ends() {
        let (send, receive) = tokio::sync::oneshot::channel::<u32>();
        let mut receive = Box::pin(receive);
        let work = move |cx: &mut TaskContext<'_>| receive.as_mut().poll(cx);
        let pool = ComputePool::new();
        let mut running = pin!(pool.run(work));
        tokio::select! {
            biased;
            _ = &mut running => panic!("nothing was sent"),
            () = tokio::task::yield_now() => {}
        }
        send.send(7).unwrap();
        assert_eq!(running.await, Some(Ok(7)));
    }
}
