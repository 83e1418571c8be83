//! One connection of a server: one task that reads, answers what is ready at once, and writes.

mod calls;
mod mailbox;
mod requests;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};
use tracing::debug;

use mailbox::Collected;
pub(crate) use mailbox::Mailbox;
use requests::Requests;

use super::{Shared, turns::Number};
use crate::{
    call::Peer,
    net::{Frame, Reader, Transport, Writer},
    proto::{ClientHello, GoAway, Header, Kind, Malformed, Patience},
};

/// A client must say HELLO within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// More output than this waits: nothing is read until it has gone.
const OUTPUT_LIMIT: usize = 512 << 10;
/// Answers to large requests gather up to this size before they are written: they stay in the cache until then.
const GATHER_LIMIT: usize = 256 << 10;
/// A client that takes no byte for this long while output waits is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After the last frame, input is read and dropped for this long: closing with unread input would destroy the answers.
const LINGER: Duration = Duration::from_secs(1);
/// After so many requests in place, answers go out first.
const BATCH: usize = 64;
/// And, as long as no other connection has anything to do, after one of so many parts of what has arrived: the client works on
/// the first answers while the others are made. A part is no less than so many requests, because each takes a system call.
const PARTS: usize = 4;
const SMALLEST_PART: usize = 16;

/// Serves one connection to its end.
pub(crate) struct Connection<T> {
    io: T,
    reader: Reader,
    writer: Writer,
    mailbox: Arc<Mailbox>,
    requests: Requests,
    shared: Arc<Shared>,
    number: Number,
    /// While this is the only busy connection: how many bytes of requests are a part of what has arrived.
    part: Option<usize>,
    phase: Phase,
    /// For the client to say HELLO, and for it to close.
    overdue: Option<Pin<Box<Sleep>>>,
    /// For output that does not move; whatever else the client does, only a byte taken sets it anew.
    stalled: Option<Pin<Box<Sleep>>>,
    /// For requests that do not get on.
    patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the client's HELLO.
    Hello,
    /// Serves.
    Open,
    /// GOAWAY is said: what was taken is finished.
    Draining,
    /// The last frame is in the writer.
    Closing,
    /// Our side is shut; input is dropped until the client closes too.
    Lingering,
}

/// The connection is over, and why.
struct Ended(String);

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl<T: Transport> Connection<T> {
    /// Says HELLO, and serves until the client goes or the server drains.
    pub(crate) fn new(io: T, mailbox: Arc<Mailbox>, peer: Peer, shared: Arc<Shared>) -> Self {
        let mut writer = Writer::default();
        writer.buffer().data().extend_from_slice(&shared.hello);
        Self {
            io,
            reader: Reader::new(shared.config.max_frame),
            writer,
            requests: Requests::new(peer, mailbox.clone(), &shared),
            mailbox,
            number: shared.turns.number(),
            part: None,
            shared,
            phase: Phase::Hello,
            overdue: Some(timer(HELLO_TIMEOUT)),
            stalled: None,
            patience: Patience::default(),
        }
    }

    /// Works until there is nothing to do.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Ended> {
        match self.work(cx) {
            Ok(()) => {}
            Err(ended) => return Poll::Ready(ended),
        }
        if is_over(&mut self.stalled, cx) {
            return Poll::Ready(Ended("the client takes no answers".to_owned()));
        }
        if is_over(&mut self.overdue, cx) {
            let what = if self.phase == Phase::Hello { "say HELLO" } else { "close" };
            return Poll::Ready(Ended(format!("the client did not {what} in time")));
        }
        Poll::Pending
    }

    fn work(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ended> {
        let mut collected = self.collect(cx);
        if self.phase == Phase::Lingering {
            // An answer that came too late: our side is shut.
            self.writer = Writer::default();
        }
        if collected.draining && matches!(self.phase, Phase::Hello | Phase::Open) {
            self.go_away("the server is shutting down");
            self.phase = Phase::Draining;
            self.overdue = None;
        }
        loop {
            let more = self.serve()? | self.resume();
            self.requests.poll_deadlines(cx, self.writer.buffer());
            if !more && self.gathers() && matches!(self.reader.poll_fill(&mut self.io, cx), Poll::Ready(Ok(1..))) {
                self.requests.tick(&self.shared.ticker);
                continue;
            }
            self.requests.end_batch();
            let blocked = self.flush(cx)?;
            if !blocked && collected.left {
                collected = self.collect(cx);
                continue;
            }
            if self.phase == Phase::Draining && !blocked && self.requests.running() == 0 {
                self.phase = Phase::Closing;
                // An answer may have come between the collection and the count.
                self.collect(cx);
                continue;
            }
            if blocked && self.writer.waiting() > OUTPUT_LIMIT {
                return Ok(());
            }
            if more {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match self.reader.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => return Err(Ended("the client closed the connection".to_owned())),
                Poll::Ready(Ok(read)) => {
                    self.requests.tick(&self.shared.ticker);
                    self.part = self.shared.turns.is_again(self.number).then_some(read / PARTS);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {
                    self.reader.park();
                    if !blocked {
                        self.writer.park();
                    }
                    return self.check_patience(cx);
                }
            }
        }
    }

    /// Whether more should be read before the answers so far are written. What the read says, the next one says too.
    fn gathers(&self) -> bool {
        let large = self.phase == Phase::Open && self.reader.expects_large();
        large && self.writer.waiting() < GATHER_LIMIT && !self.requests.is_long()
    }

    /// Takes what the mailbox has for this task.
    fn collect(&mut self, cx: &TaskContext<'_>) -> Collected {
        let collected = self.mailbox.collect(&mut self.writer, self.requests.ready(), cx.waker());
        if self.requests.is_ready() {
            self.requests.tick(&self.shared.ticker);
        }
        collected
    }

    /// Lets calls go on that waited, up to a batch; true when there are more.
    fn resume(&mut self) -> bool {
        if !self.requests.is_ready() {
            return false;
        }
        let most = match self.part {
            None => BATCH,
            Some(_) => (self.requests.ready().len() / PARTS).clamp(SMALLEST_PART, BATCH),
        };
        for _ in 0..most {
            // Without a budget, whatever is tokio's would only ask to be polled again.
            if self.requests.is_long() || self.writer.waiting() > OUTPUT_LIMIT || !has_budget_remaining() {
                break;
            }
            if !self.requests.resume(&self.shared, self.writer.buffer()) {
                return false;
            }
            self.writer.buffer().seal();
        }
        self.requests.is_ready()
    }

    /// Handles the frames that have arrived, up to a batch; true when there are more.
    fn serve(&mut self) -> Result<bool, Ended> {
        let before = self.reader.buffered();
        for count in 0..BATCH {
            let taken = before.saturating_sub(self.reader.buffered());
            let is_part = count >= SMALLEST_PART && self.part.is_some_and(|part| taken >= part);
            if is_part || self.requests.is_long() || self.writer.waiting() > OUTPUT_LIMIT {
                break;
            }
            match self.reader.next_frame() {
                Ok(None) => return Ok(false),
                Ok(Some(frame)) => {
                    self.patience.frame_done();
                    if let Err(malformed) = self.handle(frame) {
                        self.close_with(&malformed);
                    }
                    self.writer.buffer().seal();
                }
                Err(_) if self.is_closing() => {
                    self.reader.discard();
                    return Ok(false);
                }
                Err(malformed) => self.close_with(&malformed),
            }
        }
        Ok(true)
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Malformed> {
        match (self.phase, frame.header.kind) {
            (Phase::Closing | Phase::Lingering, _) | (_, Kind::Ignorable(_)) => Ok(()),
            (Phase::Hello, Kind::Hello) => {
                self.requests.set_hello(ClientHello::parse(&frame.body)?);
                self.phase = Phase::Open;
                self.overdue = None;
                Ok(())
            }
            (Phase::Open | Phase::Draining, Kind::Request) => {
                let draining = self.phase == Phase::Draining;
                self.requests.take(&self.shared, frame, draining, self.writer.buffer())
            }
            (Phase::Open | Phase::Draining, Kind::Cancel) => {
                self.requests.cancel(frame.header.id);
                Ok(())
            }
            (Phase::Open | Phase::Draining, Kind::Ping) => {
                let pong = Header::control(Kind::Pong, frame.header.id).to_bytes(crate::proto::HEADER as u32);
                self.writer.buffer().data().extend_from_slice(&pong);
                Ok(())
            }
            (Phase::Open | Phase::Draining, Kind::Pong | Kind::GoAway) => Ok(()),
            (_, kind) => Err(Malformed::Unexpected(kind)),
        }
    }

    fn check_patience(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ended> {
        let (under_way, received) = (self.reader.is_under_way(), self.reader.received());
        if self.patience.poll(under_way && !self.is_closing(), received, self.requests.now(), cx).is_ready() {
            return Err(Ended("a request took too long to arrive".to_owned()));
        }
        Ok(())
    }

    fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Lingering)
    }

    fn go_away(&mut self, reason: &str) {
        let frame = GoAway { last_id: self.requests.last_id(), reason: reason.to_owned() }.to_frame();
        self.writer.buffer().data().extend_from_slice(&frame);
    }

    fn close_with(&mut self, malformed: &Malformed) {
        debug!("closing a connection: {malformed}");
        self.go_away(&malformed.to_string());
        self.requests.cancel_all();
        self.phase = Phase::Closing;
        self.overdue = None;
    }

    /// Writes what waits. True: the socket takes no more at the moment.
    fn flush(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, Ended> {
        let before = self.writer.waiting();
        let blocked = self.poll_flush(cx)?.is_pending();
        if !blocked {
            self.stalled = None;
        } else if self.writer.waiting() < before || self.stalled.is_none() {
            self.stalled = Some(timer(STALL_TIMEOUT));
        }
        Ok(blocked)
    }

    /// After the last frame, shuts our side too.
    fn poll_flush(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        ready!(self.writer.poll_write(&mut self.io, cx))?;
        if self.phase == Phase::Closing {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.phase = Phase::Lingering;
            self.overdue = Some(timer(LINGER));
        }
        Poll::Ready(Ok(()))
    }
}

fn timer(after: Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + after))
}

fn is_over(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut TaskContext<'_>) -> bool {
    timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
}

impl<T: Transport> Future for Connection<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Ended(reason) = ready!(self.poll_turn(cx));
        debug!("a connection ended: {reason}");
        Poll::Ready(())
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        self.requests.cancel_all();
    }
}
