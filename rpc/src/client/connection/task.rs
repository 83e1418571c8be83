use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::{Instant, Sleep, sleep_until},
};
use tracing::debug;

use super::{Closed, OnClose, Shared};
use crate::{
    net::{Frame, Reader, Transport, Writer},
    proto::{
        ClientHello, Due, GoAway, HEADER, Header, Keepalive, Kind, Malformed, Output, ResponseHead, ServerHello,
        Settled,
    },
};

/// While more than this waits to be written, pings are not answered: what is on its way is a sign of life too, and a server
/// that pings but never reads must not fill the memory.
const PONG_LIMIT: usize = 64 << 10;

/// Says HELLO, and waits for the server's.
pub(super) async fn shake_hands<T: Transport>(
    io: &mut T,
    hello: &ClientHello,
    max_frame: usize,
) -> Result<(Reader, ServerHello), String> {
    let mut writer = Writer::default();
    writer.buffer().data().extend_from_slice(&hello.to_frame());
    poll_fn(|cx| writer.poll_write(io, cx)).await.map_err(|error| error.to_string())?;
    let mut reader = Reader::new(max_frame);
    loop {
        match reader.next_frame().map_err(|malformed| malformed.to_string())? {
            Some(frame) => match frame.header.kind {
                Kind::Hello => {
                    let hello = ServerHello::parse(&frame.body).map_err(|malformed| malformed.to_string())?;
                    return Ok((reader, hello));
                }
                Kind::GoAway => return Err(format!("it went away: {}", GoAway::parse(&frame.body).reason)),
                Kind::Ignorable(_) => {}
                kind => return Err(format!("it began with {kind:?} instead of HELLO")),
            },
            None => {
                if poll_fn(|cx| reader.poll_fill(io, cx)).await.map_err(|error| error.to_string())? == 0 {
                    return Err("it closed the connection".to_owned());
                }
            }
        }
    }
}

/// Owns the socket: writes what callers left, hands answers to them, keeps their deadlines.
pub(super) struct Task<T> {
    io: T,
    reader: Reader,
    writer: Writer,
    shared: Arc<Shared>,
    on_close: Option<OnClose>,
    keepalive: Keepalive,
    /// When to ask `keepalive`.
    next_check: Instant,
    /// Whether `next_check` was set while calls were outstanding.
    checks_often: bool,
    /// Whether calls are outstanding.
    busy: bool,
    /// Set to the earliest time that was of interest when it was set, or earlier.
    timer: Pin<Box<Sleep>>,
    /// When something was read last.
    heard: Instant,
    arrived: Vec<Frame>,
    woken: Vec<Waker>,
    /// On a runtime of several threads a task that is woken runs next, before other callers: it steps back once, so that
    /// their requests leave in the same write.
    steps_back: bool,
    stepped_back: bool,
}

/// The connection is over, and why.
struct Ended(String);

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.to_string())
    }
}

impl<T: Transport> Task<T> {
    pub(super) fn new(io: T, reader: Reader, shared: Arc<Shared>, on_close: OnClose) -> Self {
        let now = Instant::now();
        Self {
            io,
            reader,
            writer: Writer::default(),
            shared,
            on_close: Some(on_close),
            keepalive: Keepalive::new(now),
            next_check: now + Keepalive::IDLE,
            checks_often: false,
            busy: false,
            timer: Box::pin(sleep_until(now + Keepalive::IDLE)),
            heard: now,
            arrived: Vec::new(),
            woken: Vec::new(),
            steps_back: Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread,
            stepped_back: false,
        }
    }

    fn work(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.read(cx)?;
        if self.steps_back && !self.stepped_back && self.shared.lock().notified {
            self.stepped_back = true;
            cx.waker().wake_by_ref();
            return Ok(());
        }
        self.stepped_back = false;
        self.write(cx)?;
        self.keep_time(cx)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            while let Some(frame) = self.reader.next_frame()? {
                match frame.header.kind {
                    Kind::Response => self.arrived.push(frame),
                    Kind::GoAway => self.server_goes_away(&GoAway::parse(&frame.body)),
                    Kind::Ping => self.pong(frame.header.id),
                    Kind::Pong | Kind::Ignorable(_) => {}
                    kind => return Err(Malformed::Unexpected(kind).into()),
                }
            }
            self.hand_out();
            match self.reader.poll_fill(&mut self.io, cx)? {
                Poll::Ready(0) => return Err(Ended("the server closed it".to_owned())),
                Poll::Ready(_) => {
                    self.heard = Instant::now();
                    self.keepalive.heard(self.heard);
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Gives the answers that have arrived to their callers, under one lock.
    fn hand_out(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        // Ids rise with time: the least is that of the call that took longest.
        let (mut oldest, mut refused) = (u64::MAX, false);
        let mut state = self.shared.lock();
        for frame in self.arrived.drain(..) {
            let (id, is_refusal) = (frame.header.id, ResponseHead::is_refusal(&frame.body));
            let Some(waker) = state.calls.complete(id, frame) else { continue };
            self.woken.push(waker);
            if is_refusal {
                refused = true;
            } else {
                oldest = oldest.min(id);
            }
        }
        let began = state.calls.began(oldest);
        drop(state);
        if let Some(began) = began {
            self.shared.load.answered(self.heard.saturating_duration_since(began), self.heard);
        }
        if refused {
            self.shared.load.refused(self.heard);
        }
        self.woken.drain(..).for_each(Waker::wake);
    }

    fn pong(&mut self, id: u64) {
        let mut state = self.shared.lock();
        if state.out.len() >= PONG_LIMIT {
            return;
        }
        state.out.data().extend_from_slice(&Header::control(Kind::Pong, id).to_bytes(HEADER as u32));
        state.notified = true;
    }

    /// No more calls here; those above the last id were not taken.
    fn server_goes_away(&mut self, goaway: &GoAway) {
        debug!("{} goes away: {}", self.shared.address, goaway.reason);
        self.close(Closed::WentAway, &goaway.reason, |id| (id > goaway.last_id).then_some(Settled::NotTaken));
    }

    fn close(&mut self, closed: Closed, reason: &str, how: impl Fn(u64) -> Option<Settled<Frame>>) {
        let mut state = self.shared.lock();
        self.shared.open.store(false, Ordering::Release);
        state.closed.get_or_insert_with(|| reason.to_owned());
        let woken = state.calls.settle_all(how);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_iter().chain(waiting.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
        if let Some(on_close) = self.on_close.take() {
            on_close(closed);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let mut state = self.shared.lock();
            state.notified = false;
            self.busy = !state.calls.is_empty();
            if state.calls.has_new() {
                let now = Instant::now();
                state.calls.begin(now);
                self.shared.load.tick(now);
            }
            match &mut state.task {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            if !state.out.is_empty() && self.writer.waiting() == 0 {
                self.writer.buffer().append(&mut state.out);
                state.left = state.calls.last_id();
                let next = state.next_waiting();
                drop(state);
                if let Some(next) = next {
                    next.wake();
                }
            } else if self.writer.waiting() == 0 {
                let over = !self.busy && (state.released || state.closed.is_some());
                drop(state);
                if over {
                    return Err(Ended("no longer used".to_owned()));
                }
                if !self.busy {
                    self.reader.park();
                    self.writer.park();
                }
                return Ok(());
            } else {
                drop(state);
            }
            if self.writer.poll_write(&mut self.io, cx)?.is_pending() {
                return Ok(());
            }
        }
    }

    /// Does what is due by the clock: deadlines and keepalive. One timer serves both.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        if self.busy && !self.checks_often {
            self.next_check = self.next_check.min(Instant::now() + Keepalive::BUSY);
            self.checks_often = true;
        }
        loop {
            let earliest = self.shared.lock().calls.earliest();
            let wanted = earliest.map_or(self.next_check, |earliest| earliest.min(self.next_check));
            if self.timer.deadline() > wanted || self.timer.is_elapsed() {
                self.timer.as_mut().reset(wanted);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            if earliest.is_some_and(|earliest| earliest <= now) {
                let (woken, oldest) = self.shared.lock().calls.expire(now);
                if let Some(oldest) = oldest {
                    self.shared.load.answered(now.saturating_duration_since(oldest), now);
                }
                woken.into_iter().for_each(Waker::wake);
            }
            if self.next_check <= now {
                self.keep_alive(cx, now)?;
            }
        }
    }

    /// Pings a server that has been silent for too long, and gives up one that does not answer.
    fn keep_alive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        self.checks_often = self.busy;
        loop {
            let output = Output { written: self.writer.written(), waits: self.writer.waiting() > 0 };
            match self.keepalive.due(self.busy, output, now) {
                Due::Later(time) => {
                    self.next_check = time;
                    return Ok(());
                }
                Due::Ping => {
                    let ping = Header::control(Kind::Ping, 0).to_bytes(HEADER as u32);
                    self.shared.lock().out.data().extend_from_slice(&ping);
                    self.write(cx)?;
                }
                Due::Dead => return Err(Ended(format!("it was silent for {:?}", self.keepalive.silence(now)))),
            }
        }
    }
}

impl<T: Transport> Future for Task<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Err(Ended(reason)) = self.work(cx) else { return Poll::Pending };
        debug!("the connection to {} ended: {reason}", self.shared.address);
        self.hand_out();
        let left = self.shared.lock().left;
        self.close(Closed::Ended, &reason, |id| Some(Settled::Lost { sent: id <= left }));
        Poll::Ready(())
    }
}

/// Also when the runtime drops the task: nobody is left waiting.
impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.shared.open.store(false, Ordering::Release);
        let mut state = self.shared.lock();
        state.closed.get_or_insert_with(|| "its runtime has shut down".to_owned());
        let woken = state.calls.settle_all(|_| Some(Settled::Lost { sent: true }));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        woken.into_iter().chain(waiting.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }
}
