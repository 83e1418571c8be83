use std::{
    future::Future,
    pin::Pin,
    sync::MutexGuard,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Shared, State};
use crate::{
    Answer, Code, Outcome, Status,
    buffer::{FrameBuf, Mark, with_scratch},
    client::{
        home::{STALL, is_on},
        request::{CallRequest, EncodeArguments, not_sent},
    },
    proto::{Frame, Settled},
};

/// One request on its way and its response back: [`Connection::exchange`](super::Connection::exchange).
pub(crate) struct Exchange<'a, 'r, A: ?Sized> {
    shared: &'a Shared,
    request: &'a CallRequest<'r>,
    arguments: &'a A,
    step: Step,
}

enum Step {
    /// Nothing is encoded yet.
    Fresh,
    /// Waiting for a slot.
    Waiting(Box<Waiting>),
    /// The request has an id.
    Sent(u64),
    /// The same, over a connection whose task lives on another runtime.
    Abroad(Box<Abroad>),
    Done,
}

/// Call over a connection whose task lives on another runtime, which may not be driven.
struct Abroad {
    id: u64,
    began: Instant,
    /// Runs of the connection's task by then.
    runs: u32,
    timer: Pin<Box<Sleep>>,
}

struct Waiting {
    frame: FrameBuf,
    /// A ticket that is not in the queue any more has been granted a slot.
    ticket: u64,
    deadline: Pin<Box<Sleep>>,
}

impl<'a, 'r, A: EncodeArguments + ?Sized> Exchange<'a, 'r, A> {
    #[inline]
    pub(super) fn new(shared: &'a Shared, request: &'a CallRequest<'r>, arguments: &'a A) -> Self {
        Self { shared, request, arguments, step: Step::Fresh }
    }

    /// Encodes without a lock: the user's code runs there.
    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        if !self.shared.offered.has(self.request.codec, self.request.compression) {
            return Poll::Ready(Err(self.not_offered()));
        }
        with_scratch(|frame| match self.request.encode(self.arguments, self.shared.max_frame, frame) {
            Ok(()) => self.start(frame, cx),
            Err(status) => Poll::Ready(Err(status)),
        })
    }
}

impl<A: ?Sized> Exchange<'_, '_, A> {
    /// Sends the request, or queues up: behind those that wait already, even if there is room.
    fn start(&mut self, frame: &mut FrameBuf, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        let mut state = self.shared.lock();
        if state.closed.is_some() || (state.waiting.is_empty() && state.has_room()) {
            return self.send(state, frame, cx);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((ticket, cx.waker().clone()));
        self.shared.count(&state);
        drop(state);
        let mut deadline = Box::pin(sleep_until(self.request.deadline()));
        if deadline.as_mut().poll(cx).is_ready() {
            self.leave_queue(ticket);
            return Poll::Ready(Err(self.no_place()));
        }
        self.step = Step::Waiting(Box::new(Waiting { frame: std::mem::take(frame), ticket, deadline }));
        Poll::Pending
    }

    /// Puts the request behind those that wait to be written.
    fn send(
        &mut self,
        mut state: MutexGuard<'_, State>,
        frame: &mut FrameBuf,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer, Status>> {
        if let Some(reason) = &state.closed {
            let message = format!("the connection to {} is closed: {reason}", self.shared.address);
            return Poll::Ready(Err(not_sent(Code::Unavailable, message)));
        }
        let id = state.calls.insert(self.request.remaining(), cx.waker().clone());
        frame.patch(Mark::default(), 9, &id.to_be_bytes());
        state.out.append(frame);
        // A caller that gets a slot wakes the next waiter if there is another slot.
        let woken = [state.notify(), state.next_waiting()];
        self.shared.count(&state);
        let runs = state.runs;
        drop(state);
        self.step = Step::Sent(id);
        wake(woken);
        if is_on(self.shared.runtime) { Poll::Pending } else { self.keep_time(id, runs, cx) }
    }

    /// Begins to watch the deadline of a call whose connection lives on another runtime.
    #[cold]
    fn keep_time(&mut self, id: u64, runs: u32, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        let began = Instant::now();
        let timer = Box::pin(sleep_until(self.request.deadline().min(began + STALL)));
        self.poll_abroad(Box::new(Abroad { id, began, runs, timer }), cx)
    }

    /// Returns the answer; finds out that the other runtime is not driven; ends at the deadline if that runtime does not see to
    /// it.
    #[cold]
    fn poll_abroad(&mut self, mut abroad: Box<Abroad>, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        loop {
            let answer = self.poll_late_answer(abroad.id, cx);
            if answer.is_ready() {
                return answer;
            }
            if abroad.timer.as_mut().poll(cx).is_pending() {
                self.step = Step::Abroad(abroad);
                return Poll::Pending;
            }
            self.shared.give_up_if_stalled(abroad.runs, abroad.began);
            let deadline = self.request.deadline();
            if Instant::now() < deadline {
                abroad.timer.as_mut().reset(deadline);
            } else {
                let answer = self.poll_late_answer(abroad.id, cx);
                if answer.is_ready() {
                    return answer;
                }
                self.leave();
                return Poll::Ready(Err(self.request.overdue(Outcome::Unknown)));
            }
        }
    }

    /// Gives up the call before its answer, and cancels it on the server.
    fn leave(&mut self) {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Fresh | Step::Done => {}
            Step::Waiting(waiting) => self.leave_queue(waiting.ticket),
            Step::Sent(id) => self.cancel(id),
            Step::Abroad(abroad) => self.cancel(abroad.id),
        }
    }

    fn cancel(&self, id: u64) {
        let mut state = self.shared.lock();
        // An answer that came meanwhile leaves nothing to cancel, and neither does an end: it settles every call. A connection
        // that only takes no more calls carries this too, and so drains sooner.
        let task = if state.calls.remove(id) { state.cancel(id) } else { state.last_has_left() };
        let woken = [state.next_waiting(), task];
        self.shared.count(&state);
        drop(state);
        wake(woken);
    }

    /// Sends the request once it is called up.
    #[cold]
    fn poll_place(&mut self, mut waiting: Box<Waiting>, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        let ticket = waiting.ticket;
        if waiting.deadline.as_mut().poll(cx).is_ready() {
            self.leave_queue(ticket);
            return Poll::Ready(Err(self.no_place()));
        }
        let mut state = self.shared.lock();
        if let Some((_, waker)) = state.waiting.iter_mut().find(|(other, _)| *other == ticket) {
            waker.clone_from(cx.waker());
            drop(state);
            self.step = Step::Waiting(waiting);
            return Poll::Pending;
        }
        state.called_up = state.called_up.saturating_sub(1);
        if let Err(overdue) = self.request.refresh_timeout(&mut waiting.frame) {
            let next = state.next_waiting();
            drop(state);
            wake([next, None]);
            return Poll::Ready(Err(overdue));
        }
        self.send(state, &mut waiting.frame, cx)
    }

    /// Leaves the queue; a slot that was granted already goes to the next waiter.
    fn leave_queue(&self, ticket: u64) {
        let mut state = self.shared.lock();
        let before = state.waiting.len();
        state.waiting.retain(|(other, _)| *other != ticket);
        let next = if state.waiting.len() == before { state.place_returned() } else { None };
        self.shared.count(&state);
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// The server does not know the call's codec or compression. Nothing was sent.
    #[cold]
    fn not_offered(&self) -> Status {
        let (name, address) = (self.request.name(), &self.shared.address);
        let lacks = self.shared.offered.lacks(self.request.codec, self.request.compression);
        not_sent(Code::InvalidArgument, format!("{name} was not sent: {address} {lacks}"))
    }

    fn no_place(&self) -> Status {
        let message = format!(
            "{} could not be sent in time: the connection to {} has no room for another call",
            self.request.name(),
            self.shared.address
        );
        not_sent(Code::DeadlineExceeded, message)
    }

    /// Why there is no answer. `closed`: why the connection ended, if it did.
    #[cold]
    fn unanswered(&self, settled: &Settled<Frame>, closed: Option<&str>) -> Status {
        let address = &self.shared.address;
        let why = closed.unwrap_or("the reason is not known");
        let (outcome, message) = match settled {
            Settled::Answer(_) | Settled::Overdue => return self.request.overdue(Outcome::Unknown),
            Settled::Lost { sent: true } => {
                (Outcome::Unknown, format!("the connection to {address} ended before the answer came: {why}"))
            }
            Settled::Lost { sent: false } => {
                (Outcome::NotSent, format!("the connection to {address} ended before the request left: {why}"))
            }
            Settled::NotTaken => (Outcome::NotSent, format!("{address} goes away and did not take the request: {why}")),
        };
        Status::new(Code::Unavailable, message).with_outcome(outcome)
    }

    /// [`poll_answer`](Self::poll_answer) off the usual path: there the one call of it is inlined, which saves 20 instructions.
    #[cold]
    #[inline(never)]
    fn poll_late_answer(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        self.poll_answer(id, cx)
    }

    #[inline(always)]
    fn poll_answer(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<Result<Answer, Status>> {
        let mut state = self.shared.lock();
        let heard = state.heard;
        let Poll::Ready((settled, times)) = state.calls.poll(id, cx.waker()) else {
            drop(state);
            self.step = Step::Sent(id);
            return Poll::Pending;
        };
        let task = match settled {
            // The server may still be at it, and counts the call until it ends.
            Settled::Overdue => state.cancel(id),
            _ => state.last_has_left(),
        };
        let woken = [state.next_waiting(), task];
        let closed = match settled {
            Settled::Answer(_) => None,
            _ => state.closed.clone(),
        };
        self.shared.count(&state);
        drop(state);
        wake(woken);
        if let Some(times) = times.filter(|_| self.request.is_timed()) {
            self.request.set_took(heard.saturating_duration_since(times.began));
        }
        let answer = match settled {
            Settled::Answer(frame) => {
                let compression = match frame.header.compression {
                    number if number == self.request.compression.number() => self.request.compression,
                    _ => &self.shared.preferred,
                };
                let answer = Answer::read(frame, self.shared.max_answer, self.request.codec, compression);
                self.request.answered(answer)
            }
            settled => Err(self.unanswered(&settled, closed.as_deref())),
        };
        if let (Err(_), Some(times)) = (&answer, times) {
            // Another attempt has what is left of the time.
            self.request.set_deadline(times.deadline);
        }
        Poll::Ready(answer)
    }
}

impl<A: EncodeArguments + ?Sized> Future for Exchange<'_, '_, A> {
    type Output = Result<Answer, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Fresh => self.begin(cx),
            Step::Waiting(waiting) => self.poll_place(waiting, cx),
            Step::Sent(id) => self.poll_answer(id, cx),
            Step::Abroad(abroad) => self.poll_abroad(abroad, cx),
            Step::Done => Poll::Ready(Err(Status::new(Code::Internal, "polled after it was ready"))),
        }
    }
}

fn wake(woken: [Option<Waker>; 2]) {
    let [first, second] = woken;
    if let Some(waker) = first {
        waker.wake();
    }
    if let Some(waker) = second {
        waker.wake();
    }
}

/// A call whose future is dropped before its answer is cancelled on the server.
impl<A: ?Sized> Drop for Exchange<'_, '_, A> {
    fn drop(&mut self) {
        self.leave();
    }
}
