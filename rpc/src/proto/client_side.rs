//! One connection as its client sees it.
//!
//! ```text
//! Hello --HELLO--> Open --GOAWAY or the end--> over
//! ```
//! After GOAWAY the calls that the server took go on; the table of calls says which those are.

use tokio::time::Instant;

use super::{
    frame::{GoAway, Header, Kind, Malformed},
    hello::ServerHello,
    keepalive::{Due, Keepalive, KeepaliveConfig, Output},
};

/// Why a server's first words are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it went away: {0}")]
    WentAway(String),
    #[error("it began with {0:?} instead of HELLO")]
    NoHello(Kind),
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

/// The server's HELLO, if this frame is it; `None` for a frame that may be ignored.
pub(crate) fn read_hello(header: &Header, body: &[u8]) -> Result<Option<ServerHello>, Refused> {
    match header.kind {
        Kind::Hello => Ok(Some(ServerHello::parse(body)?)),
        Kind::GoAway => Err(Refused::WentAway(GoAway::parse(body).reason)),
        Kind::Ignorable(_) => Ok(None),
        kind => Err(Refused::NoHello(kind)),
    }
}

/// Meaning of a frame to a client whose server has said HELLO.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    Response,
    /// No more calls are taken.
    GoAway(GoAway),
    /// A pong with this id is asked for.
    Ping(u64),
    Nothing,
}

/// State of one connection of a client: kinds of frames, and signs of life. Pure.
#[derive(Debug)]
pub(crate) struct ClientSide {
    keepalive: Keepalive,
    /// Time at which to ask `keepalive`.
    next_check: Instant,
    /// `next_check` was set while calls were outstanding.
    checks_often: bool,
}

impl ClientSide {
    pub(crate) fn new(keepalive: KeepaliveConfig, now: Instant) -> Self {
        let next_check = now + keepalive.idle;
        Self { keepalive: Keepalive::new(keepalive, now), next_check, checks_often: false }
    }

    #[inline]
    pub(crate) fn frame(&self, header: &Header, body: &[u8]) -> Result<ClientEvent, Malformed> {
        match header.kind {
            Kind::Response => Ok(ClientEvent::Response),
            Kind::GoAway => Ok(ClientEvent::GoAway(GoAway::parse(body))),
            Kind::Ping => Ok(ClientEvent::Ping(header.id)),
            Kind::Pong | Kind::Ignorable(_) => Ok(ClientEvent::Nothing),
            kind => Err(Malformed::Unexpected(kind)),
        }
    }

    /// Notes that bytes came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.keepalive.heard(now);
    }

    /// Time at which to call [`timeout`](Self::timeout); `now` is read only when calls become outstanding.
    pub(crate) fn next_timeout(&mut self, busy: bool, now: impl FnOnce() -> Instant) -> Instant {
        if busy && !self.checks_often {
            self.next_check = self.next_check.min(now() + self.keepalive.config().busy);
            self.checks_often = true;
        }
        self.next_check
    }

    /// Returns the duty at `now`: after [`Due::Ping`] a ping is to be written, and this to be asked again.
    pub(crate) fn timeout(&mut self, busy: bool, output: Output, now: Instant) -> Due {
        self.checks_often = busy;
        let due = self.keepalive.due(busy, output, now);
        if let Due::Later(time) = due {
            self.next_check = time;
        }
        due
    }

    /// Reason for the end of a server that is [`Due::Dead`].
    pub(crate) fn silence(&self, now: Instant) -> String {
        format!("it was silent for {:?}", self.keepalive.silence(now))
    }
}
