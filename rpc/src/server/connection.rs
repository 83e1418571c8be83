//! One connection of a server: one task that reads, answers what is ready at once, and writes.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use tokio::{task::coop::has_budget_remaining, time::Instant};
use tracing::debug;

use super::{
    Shared,
    auth::Authenticating,
    call::refused,
    calls::{Calls, OUTPUT_LIMIT, Outbox, Returned},
    turns::{Number, PARTS, SMALLEST_PART},
};
use crate::{
    Code, Peer, Status,
    meter::{self, Shed},
    net::{Socket, Timer, Writer, instant_of, poll_fill},
    proto::{HEADER, Header, Inbound, Kind, ServerEvent, ServerSide},
};

/// Answers to large requests gather up to this size before they are written: they stay in the cache until then.
const GATHER_LIMIT: usize = 256 << 10;
/// After so many requests in place, answers go out first.
const BATCH: usize = 64;

/// Serves one connection to its end.
pub(crate) struct Connection<T> {
    io: T,
    inbound: Inbound,
    writer: Writer,
    side: ServerSide,
    outbox: Arc<Outbox>,
    calls: Calls,
    /// Kept for its memory.
    returned: Vec<Returned>,
    shared: Arc<Shared>,
    number: Number,
    /// While this is the only busy connection: how many bytes of requests are a part of what has arrived.
    part: Option<usize>,
    timer: Timer,
    /// The authentication of the client, while it is under way: no frame is handled.
    authenticating: Option<Authenticating>,
    /// Why the client is not authenticated: all its requests get it.
    refusal: Option<Status>,
}

/// Reason for the end of the connection.
struct Ended(String);

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl<T: Socket> Connection<T> {
    /// Says HELLO, and serves until the client goes or the server drains. It was accepted at `began`.
    pub(crate) fn new(io: T, outbox: Arc<Outbox>, peer: Peer, shared: Arc<Shared>, began: Instant) -> Self {
        let ends = peer.ends().and_then(instant_of);
        let mut writer = Writer::default();
        writer.buffer().data().extend_from_slice(&shared.hello);
        Self {
            io,
            inbound: Inbound::new(shared.limits.max_frame),
            writer,
            side: ServerSide::new(shared.limits.times(), began, ends),
            calls: Calls::new(peer, outbox.clone()),
            outbox,
            returned: Vec::new(),
            number: shared.turns.number(),
            part: None,
            shared,
            timer: Timer::default(),
            authenticating: None,
            refusal: None,
        }
    }

    /// Works until there is nothing to do.
    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ended> {
        self.work(cx)?;
        loop {
            let sign_due = self.authenticating.as_ref().map(|authenticating| authenticating.sign_due);
            let next =
                [self.side.next_timeout(), self.calls.slots().next_timeout(), sign_due].into_iter().flatten().min();
            let Some(next) = next else {
                self.timer.clear();
                return Ok(());
            };
            if self.timer.poll(next, cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            if let Some(reason) = self.side.timeout(now) {
                return Err(Ended(reason.to_owned()));
            }
            if let Some(authenticating) = &mut self.authenticating
                && authenticating.sign_due <= now
            {
                authenticating.sign_due = now + Authenticating::SIGNS;
                self.writer.buffer().data().extend_from_slice(&Header::control(Kind::Ping, 0).to_bytes(HEADER as u32));
            }
            if self.side.is_identity_over(now) {
                self.side.drain("the client's certificate or token has ended", self.writer.buffer().data());
            }
            self.calls.slots().expire(now, self.writer.buffer());
            self.work(cx)?;
        }
    }

    fn work(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ended> {
        self.collect(cx);
        let mut has_read = false;
        loop {
            if self.authenticate(cx).is_pending() {
                self.flush(cx)?;
                return Ok(());
            }
            let frames = self.serve();
            let more = self.resume() | frames;
            if !more && self.gathers() && matches!(poll_fill(&mut self.inbound, &mut self.io, cx), Poll::Ready(Ok(1..)))
            {
                self.calls.tick(&self.shared.ticker);
                continue;
            }
            self.calls.end_batch();
            let blocked = self.flush(cx)?;
            if self.calls.slots().away() > 0 {
                self.outbox.set_backlog(self.writer.waiting());
            }
            if self.side.is_draining() && !blocked && self.calls.count() == 0 {
                self.side.all_answered();
                continue;
            }
            if blocked && self.writer.waiting() > OUTPUT_LIMIT {
                return Ok(());
            }
            // Calls that wake themselves do not keep the socket waiting: it is read once a turn.
            if more && (frames || has_read) {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match poll_fill(&mut self.inbound, &mut self.io, cx) {
                Poll::Ready(Ok(0)) => return Err(Ended("the client closed the connection".to_owned())),
                Poll::Ready(Ok(read)) => {
                    has_read = true;
                    self.calls.tick(&self.shared.ticker);
                    self.part = self.shared.turns.is_again(self.number).then_some(read / PARTS);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending if more => has_read = true,
                Poll::Pending => {
                    self.rest(blocked);
                    return Ok(());
                }
            }
        }
    }

    /// Goes on with the authentication of the client, if one is under way.
    fn authenticate(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(authenticating) = &mut self.authenticating else { return Poll::Ready(()) };
        let authenticated = ready!(authenticating.poll(cx));
        self.authenticating = None;
        match authenticated {
            Ok(principal) => {
                if let Some(time) = principal.expires().and_then(instant_of) {
                    self.side.ends_at(time);
                }
                self.calls.set_principal(principal.name().to_owned());
            }
            Err(status) => {
                meter::denied("authentication");
                let peer = self.calls.peer();
                self.shared.audit.denied(
                    &peer.name,
                    peer.address,
                    format_args!("not authenticated: {}", status.message()),
                );
                self.refusal = Some(status.not_executed());
            }
        }
        Poll::Ready(())
    }

    /// Holds as little as possible until something happens.
    fn rest(&mut self, blocked: bool) {
        self.inbound.park();
        if !blocked {
            self.writer.park();
        }
        let (under_way, received) = (self.inbound.is_under_way(), self.inbound.received());
        self.side.received(under_way, received, self.calls.now());
    }

    /// Returns true if more should be read before the answers so far are written. An error of this read comes again.
    fn gathers(&self) -> bool {
        let large = self.side.is_open() && self.inbound.expects_large();
        large && self.writer.waiting() < GATHER_LIMIT && !self.calls.is_long()
    }

    /// Takes what other threads left for this task.
    fn collect(&mut self, cx: &TaskContext<'_>) {
        let draining = self.outbox.collect(&mut self.calls.slots().ready, &mut self.returned, cx.waker());
        if self.calls.ready() > 0 || !self.returned.is_empty() {
            self.calls.tick(&self.shared.ticker);
        }
        let now = self.calls.now();
        for returned in self.returned.drain(..) {
            self.calls.slots().come_back(returned, now, self.writer.buffer());
        }
        if self.side.is_shut() {
            // Answers that came too late: our side is shut.
            self.writer = Writer::default();
        }
        if draining {
            self.side.drain("the server is shutting down", self.writer.buffer().data());
        }
    }

    /// Lets calls go on that were woken, up to a batch; true when there are more.
    fn resume(&mut self) -> bool {
        let ready = self.calls.ready();
        if ready == 0 {
            return false;
        }
        let most = if self.part.is_some() { (ready / PARTS).clamp(SMALLEST_PART, BATCH) } else { BATCH };
        for _ in 0..most {
            // Without a budget, whatever is tokio's would only ask to be polled again.
            if self.calls.is_long() || self.writer.waiting() > OUTPUT_LIMIT || !has_budget_remaining() {
                break;
            }
            if !self.calls.resume(&self.shared, self.writer.buffer()) {
                return false;
            }
            self.writer.buffer().seal();
        }
        self.calls.ready() > 0
    }

    /// Handles the frames that have arrived, up to a batch; true when there are more.
    fn serve(&mut self) -> bool {
        let before = self.inbound.buffered();
        for count in 0..BATCH {
            let taken = before.saturating_sub(self.inbound.buffered());
            let is_part = count >= SMALLEST_PART && self.part.is_some_and(|part| taken >= part);
            if is_part || self.calls.is_long() || self.writer.waiting() > OUTPUT_LIMIT {
                break;
            }
            let frame = match self.inbound.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return false,
                Err(_) if self.side.is_closing() => {
                    self.inbound.discard();
                    return false;
                }
                Err(malformed) => {
                    debug!("closing a connection: {malformed}");
                    self.side.malformed(&malformed, self.writer.buffer().data());
                    self.calls.cancel_all();
                    continue;
                }
            };
            let out = self.writer.buffer();
            match self.side.frame(&frame.header, &frame.body, out.data()) {
                ServerEvent::Request => match &self.refusal {
                    None => self.calls.take(&self.shared, frame, out),
                    Some(status) => {
                        self.calls.refuse(&self.shared, &frame, status, out);
                        self.side.drain("the client is not authenticated", out.data());
                    }
                },
                ServerEvent::LateRequest => {
                    // GOAWAY came before it: the client knows that calls above the last id were not executed.
                    meter::shed(Shed::Draining);
                    let status = refused(Code::Unavailable, "the server is shutting down");
                    self.calls.refuse(&self.shared, &frame, &status, out);
                }
                ServerEvent::Cancel(id) => self.calls.cancel(id),
                ServerEvent::Hello(hello) => {
                    self.calls.set_hello(hello, &self.shared);
                    if let Some(authenticator) = &self.shared.authenticator {
                        self.authenticating = Some(authenticator.ask(self.calls.peer().clone()));
                        return true;
                    }
                }
                ServerEvent::Malformed => self.calls.cancel_all(),
                ServerEvent::Nothing => {}
            }
            self.writer.buffer().seal();
        }
        true
    }

    /// Writes what waits. True: the socket takes no more at the moment.
    fn flush(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, Ended> {
        let before = self.writer.written();
        let blocked = self.poll_flush(cx)?.is_pending();
        if blocked {
            self.side.blocked(self.writer.written() > before, Instant::now());
        } else {
            self.side.written();
        }
        Ok(blocked)
    }

    /// After the last frame, shuts our side too.
    fn poll_flush(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        ready!(self.writer.poll_write(&mut self.io, cx))?;
        if self.side.is_closing() && !self.side.is_shut() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.side.shut(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Socket> Future for Connection<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(Ended(reason)) => {
                debug!("a connection ended: {reason}");
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        self.calls.cancel_all();
    }
}
