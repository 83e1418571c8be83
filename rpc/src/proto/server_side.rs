//! One connection as its server sees it.
//!
//! ```text
//! Hello --HELLO--> Open --drain--> Draining --all answered--> Closing --all written--> Lingering --input ends--> over
//!   |               |                 |                          ^
//!   +---------------+-----malformed---+--------------------------+
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::{
    arrival::Arrival,
    frame::{GoAway, HEADER, Header, Kind, Malformed},
    hello::ClientHello,
};

/// Times that a client has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerTimes {
    /// From the accept to HELLO, a handshake included.
    pub(crate) hello: Duration,
    /// Without progress, while output waits.
    pub(crate) stall: Duration,
    /// After the last frame, for the client to close: closing with unread input would destroy the answers.
    pub(crate) linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's HELLO is awaited.
    Hello,
    /// Calls are served.
    Open,
    /// GOAWAY is sent: the calls that were taken are finished.
    Draining,
    /// The last frame is on its way out.
    Closing,
    /// Our side is shut; input is dropped until the client closes too.
    Lingering,
}

/// Demand of a frame on the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerEvent {
    /// No action: the frame was dealt with, or is to be ignored.
    Nothing,
    /// The client said HELLO.
    Hello(ClientHello),
    /// A request, to be executed.
    Request,
    /// A request that came after GOAWAY, to be refused.
    LateRequest,
    /// The call with this id is not wanted any more.
    Cancel(u64),
    /// The frame broke the protocol: GOAWAY is sent, calls are to be dropped.
    Malformed,
}

/// State of one connection of a server: phases, ids, and the times that the client has. Pure.
#[derive(Debug)]
pub(crate) struct ServerSide {
    phase: Phase,
    times: ServerTimes,
    last_id: u64,
    /// Time by which the client must say HELLO, or close.
    due: Option<Instant>,
    /// Time by which output must have moved.
    stalled: Option<Instant>,
    arrival: Arrival,
    /// Time at which the client's identity ends.
    ends: Option<Instant>,
}

impl ServerSide {
    /// `ends`: time at which the client's identity ends.
    pub(crate) fn new(times: ServerTimes, now: Instant, ends: Option<Instant>) -> Self {
        let due = Some(now + times.hello);
        Self { phase: Phase::Hello, times, last_id: 0, due, stalled: None, arrival: Arrival::default(), ends }
    }

    /// Handles a frame; what is to be said at once is appended to `out`.
    #[inline]
    pub(crate) fn frame(&mut self, header: &Header, body: &[u8], out: &mut Vec<u8>) -> ServerEvent {
        self.arrival.frame_done();
        if header.kind == Kind::Request && self.phase == Phase::Open && header.id > self.last_id {
            self.last_id = header.id;
            return ServerEvent::Request;
        }
        self.other_frame(header, body, out).unwrap_or_else(|malformed| {
            self.malformed(&malformed, out);
            ServerEvent::Malformed
        })
    }

    fn other_frame(&mut self, header: &Header, body: &[u8], out: &mut Vec<u8>) -> Result<ServerEvent, Malformed> {
        let id = header.id;
        match (self.phase, header.kind) {
            (Phase::Closing | Phase::Lingering, _) | (_, Kind::Ignorable(_)) => Ok(ServerEvent::Nothing),
            (Phase::Hello, Kind::Hello) => {
                let hello = ClientHello::parse(body)?;
                self.phase = Phase::Open;
                self.due = None;
                Ok(ServerEvent::Hello(hello))
            }
            (Phase::Open | Phase::Draining, Kind::Request) if id <= self.last_id => {
                Err(Malformed::FallingId { id, last: self.last_id })
            }
            (Phase::Open | Phase::Draining, Kind::Request) => Ok(ServerEvent::LateRequest),
            (Phase::Open | Phase::Draining, Kind::Cancel) => Ok(ServerEvent::Cancel(id)),
            (Phase::Open | Phase::Draining, Kind::Ping) => {
                out.extend_from_slice(&Header::control(Kind::Pong, id).to_bytes(HEADER as u32));
                Ok(ServerEvent::Nothing)
            }
            (Phase::Open | Phase::Draining, Kind::Pong | Kind::GoAway) => Ok(ServerEvent::Nothing),
            (_, kind) => Err(Malformed::Unexpected(kind)),
        }
    }

    /// Ends the connection over bytes that are no frame.
    pub(crate) fn malformed(&mut self, malformed: &Malformed, out: &mut Vec<u8>) {
        if !self.is_closing() {
            self.go_away(&malformed.to_string(), out);
            self.phase = Phase::Closing;
        }
    }

    /// Stops taking calls; true the first time.
    pub(crate) fn drain(&mut self, reason: &str, out: &mut Vec<u8>) -> bool {
        if !matches!(self.phase, Phase::Hello | Phase::Open) {
            return false;
        }
        self.go_away(reason, out);
        self.phase = Phase::Draining;
        true
    }

    fn go_away(&mut self, reason: &str, out: &mut Vec<u8>) {
        self.due = None;
        out.extend_from_slice(&GoAway { last_id: self.last_id, reason: reason.to_owned() }.to_frame());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Returns true if our last frame is on its way, or has left.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Lingering)
    }

    /// Returns true if our side is shut: no answer can leave.
    pub(crate) fn is_shut(&self) -> bool {
        self.phase == Phase::Lingering
    }

    /// All calls that were taken have their answers; true if our side is to be shut once they are written.
    pub(crate) fn all_answered(&mut self) {
        if self.phase == Phase::Draining {
            self.phase = Phase::Closing;
        }
    }

    /// Our side is shut.
    pub(crate) fn shut(&mut self, now: Instant) {
        self.phase = Phase::Lingering;
        self.due = Some(now + self.times.linger);
    }

    /// Everything is written.
    #[inline]
    pub(crate) fn written(&mut self) {
        self.stalled = None;
    }

    /// The socket takes no more; `moved`: it took something since the last time.
    pub(crate) fn blocked(&mut self, moved: bool, now: Instant) {
        if moved || self.stalled.is_none() {
            self.stalled = Some(now + self.times.stall);
        }
    }

    /// Notes how much has been received by `now`: see [`Arrival::observe`].
    pub(crate) fn received(&mut self, under_way: bool, received: u64, now: Instant) {
        self.arrival.observe(under_way && !self.is_closing(), received, now);
    }

    /// Time at which to call [`timeout`](Self::timeout).
    #[inline]
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let ends = self.ends.filter(|_| self.phase == Phase::Open);
        [self.due, self.stalled, self.arrival.deadline(), ends].into_iter().flatten().min()
    }

    /// The client's identity ends at this time, if not before.
    pub(crate) fn ends_at(&mut self, time: Instant) {
        self.ends = Some(self.ends.map_or(time, |ends| ends.min(time)));
    }

    /// Returns true if the client's identity has ended by `now`, and calls are still taken: then [`drain`](Self::drain).
    pub(crate) fn is_identity_over(&self, now: Instant) -> bool {
        self.phase == Phase::Open && self.ends.is_some_and(|ends| ends <= now)
    }

    /// Reason to end the connection at `now`.
    pub(crate) fn timeout(&self, now: Instant) -> Option<&'static str> {
        let is_over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if is_over(self.stalled) {
            Some("the client takes no answers")
        } else if is_over(self.due) {
            let said_nothing = self.phase == Phase::Hello;
            Some(if said_nothing { "the client did not say HELLO in time" } else { "the client did not close in time" })
        } else if is_over(self.arrival.deadline()) {
            Some("a request took too long to arrive")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
