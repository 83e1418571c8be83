//! The calls of one connection that run beside its task.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    task::AbortHandle,
    time::{Instant, Timeout, timeout_at},
};

use super::Mailbox;
use crate::{
    Code, Context, Status,
    buffer::{FrameBuf, give_scratch, take_scratch},
    server::{compute::ComputePool, dispatch::Route, load::Load, pace::Pace, stopwatch::Stopwatch},
    service::{Reply, reply::ResponseForm},
};

/// One call, decoded.
pub(super) struct Call {
    pub(super) form: ResponseForm,
    pub(super) reply: Reply,
    pub(super) route: Arc<Route>,
    /// Taken while the reply is polled.
    pub(super) context: Option<Context>,
    /// The method was polled.
    pub(super) begun: bool,
}

impl Call {
    /// What is known of such polls as comes next.
    pub(super) fn pace(&self) -> &Pace {
        if self.begun { &self.route.later_pace } else { &self.route.pace }
    }

    /// Drives the method once. When it is ready its frame is at the end of `out`.
    fn poll(&mut self, cx: &mut TaskContext<'_>, out: &mut FrameBuf) -> Poll<()> {
        self.form.poll(&mut self.reply, &mut self.context, cx, out)
    }

    /// Drives the method to its end, on the pool if it is slow. Its answer is in the mailbox then, and the permit goes when
    /// the method is dropped, wherever that is.
    pub(super) fn finish(self, pool: ComputePool, permit: Arc<Permit>) -> impl Future<Output = ()> + Send {
        // Dropped in this order: the method, the permit.
        let mut work = Work { call: self, permit };
        // What waits beside each other is small: it moves a few times, and few methods need the pool.
        async move {
            if work.call.pace().is_slow() {
                Box::pin(work.compute(pool)).await;
            } else {
                poll_fn(|cx| work.poll(cx)).await;
            }
        }
    }
}

struct Work {
    call: Call,
    permit: Arc<Permit>,
}

impl Work {
    /// Rests while the client takes no answers. An answer that is made counts at once as one that waits, on whatever thread
    /// that is: what many methods make at the same moment does not gather unseen.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        ready!(self.permit.mailbox.poll_room(cx));
        let mut out = take_scratch();
        let polled = self.call.poll(cx, &mut out);
        if polled.is_ready() {
            self.permit.finish(&mut out);
        }
        give_scratch(out);
        polled
    }

    async fn compute(mut self, pool: ComputePool) {
        let (form, permit) = (self.call.form, self.permit.clone());
        let run = pool.run(move |cx| {
            let watch = Stopwatch::of_thread();
            let polled = self.poll(cx);
            self.call.pace().observe(watch.spent());
            self.call.begun = true;
            polled
        });
        if run.await.is_none() {
            permit.answer(&mut form.status_frame(&Status::unavailable("the server's runtime is shutting down")));
        }
    }
}

/// The calls under way that have tasks: on the pool, or waiting for a token.
#[derive(Debug)]
pub(super) struct Running {
    count: AtomicUsize,
    /// Those of the whole server.
    load: Arc<Load>,
    /// A handle is missing for as long as it takes to spawn the task.
    tasks: Mutex<HashMap<u64, Option<AbortHandle>>>,
}

impl Running {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self { count: AtomicUsize::new(0), load, tasks: Mutex::default() }
    }

    /// How many methods have not been dropped yet.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Runs `work` in a task of its own, until the deadline. It posts its answer itself.
    pub(super) fn spawn<W, F>(self: &Arc<Self>, mailbox: &Arc<Mailbox>, form: ResponseForm, deadline: Instant, work: W)
    where
        W: FnOnce(Arc<Permit>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.load.enter();
        let (running, mailbox) = (self.clone(), mailbox.clone());
        let permit =
            Arc::new(Permit { running, mailbox, answered: AtomicBool::new(false), returned: AtomicBool::new(false) });
        let work = work(permit.clone());
        let entry = Entry { id: form.id, running: self.clone() };
        self.tasks().insert(form.id, None);
        // Not under the lock: a runtime that shuts down drops the task here, and the entry takes itself off the list.
        let task = tokio::spawn(InTime { work: Some(timeout_at(deadline, work)), form, permit, _entry: entry });
        if let Some(handle) = self.tasks().get_mut(&form.id) {
            *handle = Some(task.abort_handle());
        }
    }

    /// Drops a call, if it still runs.
    pub(super) fn cancel(&self, id: u64) {
        let task = self.tasks().get(&id).cloned().flatten();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Drops all calls.
    pub(super) fn cancel_all(&self) {
        self.tasks().values().flatten().for_each(AbortHandle::abort);
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<u64, Option<AbortHandle>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A call's work until its deadline. Written out because an `async` block would hold it twice.
    struct InTime<F> {
        #[pin]
        work: Option<Timeout<F>>,
        form: ResponseForm,
        // Dropped behind the answer: whoever drains counts permits, and must find it in the mailbox.
        permit: Arc<Permit>,
        _entry: Entry,
    }
}

impl<F: Future<Output = ()>> Future for InTime<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(work) = this.work.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let ended = ready!(work.poll(cx));
        this.work.set(None);
        if ended.is_err() {
            this.permit.answer(&mut this.form.status_frame(&overdue()));
        }
        Poll::Ready(())
    }
}

/// Takes its call off the list, however it ends.
struct Entry {
    id: u64,
    running: Arc<Running>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.tasks().remove(&self.id);
    }
}

/// Counts a call until its method has ended or is dropped, which on the pool may be later than its task.
pub(super) struct Permit {
    running: Arc<Running>,
    mailbox: Arc<Mailbox>,
    /// The deadline may pass while the answer is made.
    answered: AtomicBool,
    returned: AtomicBool,
}

impl Permit {
    /// Posts the call's answer, unless it has one.
    pub(super) fn answer(&self, frame: &mut FrameBuf) {
        if !self.answered.swap(true, Ordering::AcqRel) {
            self.mailbox.post(frame);
        }
    }

    /// The method has ended: posts its answer, and gives the permit back before anybody can see it. Who has an answer may
    /// make the next call at once, and must find a place.
    fn finish(&self, frame: &mut FrameBuf) {
        if self.answered.swap(true, Ordering::AcqRel) {
            self.give_back();
        } else {
            self.mailbox.post_and(frame, || self.give_back());
        }
    }

    fn give_back(&self) {
        if !self.returned.swap(true, Ordering::AcqRel) {
            self.running.load.leave();
            self.running.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back();
        self.mailbox.permit_returned();
    }
}

/// What a call gets whose time is over.
pub(super) fn overdue() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed on the server")
}
