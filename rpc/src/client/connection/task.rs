//! The task that owns a client's socket: it writes what callers left, hands answers to them, and keeps their deadlines.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};
use tracing::debug;

use super::{Change, OnChange, Shared, lifetime::Lifetime};
use crate::{
    net::{Socket, Timer, Writer, poll_fill},
    proto::{
        ClientEvent, ClientHello, ClientSide, Due, Frame, GoAway, HEADER, Header, Inbound, KeepaliveConfig, Kind,
        Malformed, Output, ResponseHead, ServerHello, Settled, read_hello,
    },
};

/// While more than this waits to be written, pings are not answered: what is on its way is a sign of life too, and a server
/// that pings but never reads must not fill the memory.
const PONG_LIMIT: usize = 64 << 10;

/// Says HELLO, and waits for the server's.
pub(super) async fn shake_hands<T: Socket>(
    io: &mut T,
    hello: &ClientHello,
    max_frame: usize,
) -> io::Result<(Inbound, ServerHello)> {
    let mut writer = Writer::default();
    writer.buffer().data().extend_from_slice(&hello.to_frame());
    poll_fn(|cx| writer.poll_write(io, cx)).await?;
    let mut inbound = Inbound::new(max_frame);
    loop {
        while let Some(frame) = inbound.next_frame().map_err(io::Error::other)? {
            if let Some(hello) = read_hello(&frame.header, &frame.body).map_err(io::Error::other)? {
                return Ok((inbound, hello));
            }
        }
        if poll_fn(|cx| poll_fill(&mut inbound, io, cx)).await? == 0 {
            return Err(io::Error::other("it closed the connection"));
        }
    }
}

pub(super) struct Task<T> {
    io: T,
    inbound: Inbound,
    writer: Writer,
    side: ClientSide,
    shared: Arc<Shared>,
    lifetime: Lifetime,
    on_change: OnChange,
    /// The owner was told that no more calls are taken.
    is_closed: bool,
    /// Calls are outstanding.
    busy: bool,
    timer: Timer,
    /// Time of the last read.
    heard: Instant,
    arrived: Vec<Frame>,
    woken: Vec<Waker>,
    /// On a runtime of several threads a task that is woken runs next, before other callers: it steps back once, so that
    /// their requests leave in the same write.
    steps_back: bool,
    stepped_back: bool,
}

/// Reason for the end of the connection.
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

impl<T: Socket> Task<T> {
    pub(super) fn new(
        io: T,
        inbound: Inbound,
        shared: Arc<Shared>,
        keepalive: KeepaliveConfig,
        lifetime: Lifetime,
        on_change: OnChange,
    ) -> Self {
        let now = Instant::now();
        Self {
            io,
            inbound,
            writer: Writer::default(),
            side: ClientSide::new(keepalive, now),
            shared,
            lifetime,
            on_change,
            is_closed: false,
            busy: false,
            timer: Timer::default(),
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
            while let Some(frame) = self.inbound.next_frame()? {
                match self.side.frame(&frame.header, &frame.body)? {
                    ClientEvent::Response => self.arrived.push(frame),
                    ClientEvent::GoAway(goaway) => self.server_goes_away(&goaway),
                    ClientEvent::Ping(id) => self.pong(id),
                    ClientEvent::Nothing => {}
                }
            }
            self.hand_out();
            match poll_fill(&mut self.inbound, &mut self.io, cx)? {
                Poll::Ready(0) => return Err(Ended("the server closed it".to_owned())),
                Poll::Ready(_) => {
                    self.heard = Instant::now();
                    self.side.heard(self.heard);
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
        state.heard = self.heard;
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
        let times = state.calls.times(oldest);
        drop(state);
        if let Some(times) = times {
            self.shared.load.answered(self.heard.saturating_duration_since(times.began), self.heard);
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
        self.close(Change::WentAway, &goaway.reason, |id| (id > goaway.last_id).then_some(Settled::NotTaken));
    }

    fn close(&mut self, change: Change, reason: &str, how: impl Fn(u64) -> Option<Settled<Frame>>) {
        self.shared.close(reason, how);
        if !std::mem::replace(&mut self.is_closed, true) {
            (self.on_change)(change);
        }
    }

    /// Does what is due by the server's certificate.
    fn grow_old(&mut self, now: Instant) {
        match self.lifetime.due(now, fastrand::f64()) {
            Some(Change::Ages) if !self.is_closed => (self.on_change)(Change::Ages),
            Some(Change::Ended) => self.close(Change::Ended, "the server's certificate has ended", |_| None),
            _ => {}
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let mut state = self.shared.lock();
            state.notified = false;
            state.runs = state.runs.wrapping_add(1);
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
            if self.writer.is_busy() {
                drop(state);
            } else if !state.out.is_empty() {
                self.writer.buffer().append(&mut state.out);
                state.left = state.calls.last_id();
                let next = state.next_waiting();
                drop(state);
                if let Some(next) = next {
                    next.wake();
                }
            } else {
                let over = !self.busy && (state.released || state.closed.is_some());
                drop(state);
                if over {
                    return Err(Ended("no longer used".to_owned()));
                }
                if !self.busy {
                    self.inbound.park();
                    self.writer.park();
                }
                return Ok(());
            }
            if self.writer.poll_write(&mut self.io, cx)?.is_pending() {
                return Ok(());
            }
        }
    }

    /// Does what is due by the clock: deadlines and signs of life.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let next_check = self.side.next_timeout(self.busy, Instant::now);
            let earliest = self.shared.lock().calls.earliest();
            let wanted = earliest.map_or(next_check, |earliest| earliest.min(next_check));
            let wanted = self.lifetime.next().map_or(wanted, |next| next.min(wanted));
            if self.timer.poll(wanted, cx).is_pending() {
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
            if self.lifetime.next().is_some_and(|next| next <= now) {
                self.grow_old(now);
                // Without calls it ends now.
                self.write(cx)?;
            }
            if next_check <= now {
                self.keep_alive(cx, now)?;
            }
        }
    }

    /// Pings a server that has been silent for too long, and gives up a server that does not answer.
    fn keep_alive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        loop {
            let output = Output { written: self.writer.written(), waits: self.writer.is_busy() };
            match self.side.timeout(self.busy, output, now) {
                Due::Later(_) => return Ok(()),
                Due::Ping => {
                    let ping = Header::control(Kind::Ping, 0).to_bytes(HEADER as u32);
                    self.shared.lock().out.data().extend_from_slice(&ping);
                    self.write(cx)?;
                }
                Due::Dead => return Err(Ended(self.side.silence(now))),
            }
        }
    }
}

impl<T: Socket> Future for Task<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Err(Ended(reason)) = self.work(cx) else { return Poll::Pending };
        debug!("the connection to {} ended: {reason}", self.shared.address);
        self.hand_out();
        let left = self.shared.lock().left;
        self.close(Change::Ended, &reason, |id| Some(Settled::Lost { sent: id <= left }));
        Poll::Ready(())
    }
}

/// A task that its runtime drops leaves nobody waiting.
impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.shared.close("its runtime has shut down", |_| Some(Settled::Lost { sent: true }));
        if !self.is_closed {
            (self.on_change)(Change::Ended);
        }
    }
}
