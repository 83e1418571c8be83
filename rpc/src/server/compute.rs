//! Methods that compute: on as many threads as there are cores, so that they delay each other but nobody else.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll, Wake},
};

use tokio::sync::{Notify, oneshot};

/// A bounded share of the runtime's blocking threads. A thread that is done takes the next turn by itself: while cores are
/// short, the task that waits for the result is long in coming.
#[derive(Clone, Debug)]
pub(crate) struct ComputePool {
    threads: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    turns: VecDeque<Arc<Turn>>,
    /// Threads at work.
    busy: usize,
}

/// One poll, until a thread begins it or nobody wants it any more.
#[derive(Default)]
struct Turn(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl ComputePool {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores, queue: Arc::default() }
    }

    /// Polls `work` to its end, each time on a thread of the pool; between polls it occupies none.
    ///
    /// `None`: the work was lost, by a panic or with its runtime.
    pub(crate) async fn run<W, R>(&self, mut work: W) -> Option<R>
    where
        W: FnMut(&mut TaskContext<'_>) -> Poll<R> + Send + 'static,
        R: Send + 'static,
    {
        let woken = Arc::new(Woken::default());
        loop {
            let waker = woken.clone().into();
            let (done, polled) = oneshot::channel();
            let _asked = self.ask(Box::new(move || {
                let polled = work(&mut TaskContext::from_waker(&waker));
                // Without anybody to take it, it is dropped here.
                let _ = done.send((work, polled));
            }));
            let (back, polled) = polled.await.ok()?;
            work = back;
            match polled {
                Poll::Ready(result) => return Some(result),
                Poll::Pending => woken.0.notified().await,
            }
        }
    }

    /// Queues up; the turn is given up with what is returned.
    fn ask(&self, work: Box<dyn FnOnce() + Send>) -> Asked {
        let turn = Arc::new(Turn(Mutex::new(Some(work))));
        let mut queue = lock(&self.queue);
        queue.turns.push_back(turn.clone());
        let another = queue.busy < self.threads;
        queue.busy += usize::from(another);
        drop(queue);
        if another {
            let queue = self.queue.clone();
            tokio::task::spawn_blocking(move || work_off(&queue));
        }
        Asked(turn)
    }
}

/// Takes turn after turn, until there is none.
fn work_off(queue: &Mutex<Queue>) {
    let next = || {
        let mut queue = lock(queue);
        let turn = queue.turns.pop_front();
        queue.busy -= usize::from(turn.is_none());
        turn
    };
    while let Some(turn) = next() {
        if let Some(work) = turn.take() {
            // Whoever waits for it learns of a panic by getting nothing.
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }
}

impl Turn {
    fn take(&self) -> Option<Box<dyn FnOnce() + Send>> {
        lock(&self.0).take()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

struct Asked(Arc<Turn>);

impl Drop for Asked {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_not_begun() {
        let pool = ComputePool { threads: 1, queue: Arc::default() };
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let first = pool.run(move |_| Poll::Ready(gate.recv().is_ok()));
        let (begun, was_begun) = std::sync::mpsc::channel();
        let second = pool.run(move |_| Poll::Ready(begun.send(()).is_ok()));
        let (mut first, mut second) = (pin!(first), Box::pin(second));
        tokio::select! {
            biased;
            _ = &mut first => panic!("the gate is shut"),
            _ = &mut second => panic!("there is one thread"),
            () = tokio::task::yield_now() => {}
        }
        drop(second);
        assert!(was_begun.recv().is_err(), "it is dropped at once, while the thread is busy");
        go.send(()).unwrap();
        assert_eq!(first.await, Some(true));
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_work_only() {
        let pool = ComputePool { threads: 1, queue: Arc::default() };
        assert_eq!(pool.run(|_| -> Poll<()> { panic!("on purpose") }).await, None);
        assert_eq!(pool.run(|_| Poll::Ready(7)).await, Some(7));
    }
}
