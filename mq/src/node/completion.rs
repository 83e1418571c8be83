//! One outcome that many wait for. Waking a task from another thread costs a system call; so only one of them is woken from
//! there, and it wakes the others from its own.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::MqError;

/// One outcome, for all callers of a group.
#[derive(Debug, Default)]
pub(super) struct Completion {
    waiting: Mutex<Waiting>,
    /// The outcome is there.
    complete: AtomicBool,
    /// All that waited have been woken.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    outcome: Option<Result<(), MqError>>,
    wakers: Vec<Option<Waker>>,
}

impl Completion {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waiting: wakes one, which wakes the rest. The caller then calls [`tell`](Self::tell) a little later, because
    /// nobody can say when that one is polled.
    pub(super) fn complete(&self, outcome: Result<(), MqError>) {
        let first = {
            let mut waiting = self.lock();
            waiting.outcome = Some(outcome);
            self.complete.store(true, Ordering::Release);
            let first = waiting.wakers.iter_mut().find_map(Option::take);
            self.told.store(waiting.wakers.iter().all(Option::is_none), Ordering::Relaxed);
            first
        };
        if let Some(first) = first {
            first.wake();
        }
    }

    /// Wakes all that wait for an outcome which is there.
    pub(super) fn tell(&self) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Returns true if nobody is left to be woken.
    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Ends when the outcome is there.
    pub(super) fn wait(self: &Arc<Self>) -> Waiter {
        Waiter { completion: self.clone(), place: None }
    }
}

/// Waits for an outcome.
#[derive(Debug)]
pub(super) struct Waiter {
    completion: Arc<Completion>,
    /// Its waker's.
    place: Option<usize>,
}

impl Future for Waiter {
    type Output = Result<(), MqError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { completion, place } = &mut *self;
        if completion.complete.load(Ordering::Acquire) {
            completion.tell();
        }
        let mut waiting = completion.lock();
        if let Some(outcome) = &waiting.outcome {
            return Poll::Ready(outcome.clone());
        }
        match place {
            Some(place) => match &mut waiting.wakers[*place] {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            },
            None => {
                *place = Some(waiting.wakers.len());
                waiting.wakers.push(Some(context.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.completion.complete.load(Ordering::Acquire) {
            self.completion.tell();
            return;
        }
        let Some(place) = self.place else { return };
        let left = {
            let mut waiting = self.completion.lock();
            let left = waiting.wakers.get_mut(place).and_then(Option::take);
            if waiting.outcome.is_none() { None } else { Some(left) }
        };
        // The outcome came in between, and this waiter may have had to pass it on.
        if left.is_some() {
            self.completion.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Task {
        woken: Arc<Woken>,
        waiter: Waiter,
    }

    impl Task {
        fn new(completion: &Arc<Completion>) -> Self {
            Self { woken: Arc::default(), waiter: completion.wait() }
        }

        fn poll(&mut self) -> Poll<Result<(), MqError>> {
            self.woken.0.store(false, Ordering::Relaxed);
            Pin::new(&mut self.waiter).poll(&mut Context::from_waker(&self.woken.clone().into()))
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn three(completion: &Arc<Completion>) -> [Task; 3] {
        [(); 3].map(|()| {
            let mut task = Task::new(completion);
            assert!(task.poll().is_pending());
            task
        })
    }

    #[test]
    fn the_first_that_is_polled_wakes_the_others() {
        let completion = Arc::new(Completion::default());
        let mut tasks = three(&completion);
        assert!(tasks[0].poll().is_pending(), "a second poll waits on");
        completion.complete(Err(MqError::Closed));
        assert_eq!([&tasks[0], &tasks[1], &tasks[2]].map(Task::is_woken), [true, false, false]);
        assert!(!completion.is_told());
        assert_eq!(tasks[0].poll(), Poll::Ready(Err(MqError::Closed)));
        assert!(completion.is_told() && tasks[1].is_woken() && tasks[2].is_woken());
        assert_eq!(tasks[2].poll(), Poll::Ready(Err(MqError::Closed)));
        assert_eq!(Task::new(&completion).poll(), Poll::Ready(Err(MqError::Closed)), "who comes late knows at once");
    }

    #[test]
    fn one_that_is_dropped_passes_it_on() {
        let completion = Arc::new(Completion::default());
        let [first, second, third] = three(&completion);
        drop(first);
        completion.complete(Ok(()));
        assert!(second.is_woken() && !third.is_woken());
        drop(second);
        assert!(third.is_woken());
    }

    #[test]
    fn one_that_is_never_polled_again_holds_nobody_back() {
        let completion = Arc::new(Completion::default());
        let [_first, second, third] = three(&completion);
        completion.complete(Ok(()));
        completion.tell();
        assert!(second.is_woken() && third.is_woken());
    }
}
