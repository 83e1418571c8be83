//! Keepalive of a client's connection: notices a server that is gone. Pure: time is an argument.
//!
//! TCP alone notices nothing when a server freezes or a cable is cut. After some silence a ping is due, sooner while calls are
//! outstanding; when nothing comes for a while after it, the connection is dead. Any received byte is a
//! sign of life. The second begins when the ping has left: behind a long request it may wait, and as long as the server
//! takes bytes of that, it lives.

use std::time::Duration;

use tokio::time::Instant;

/// Times after which a silent server is given up. An hour of silence at most costs the calls until then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepaliveConfig {
    /// Silence before a ping while calls are outstanding. Default 2 s; 10 ms to 1 h. Shorter ones cost packets, longer ones
    /// calls.
    pub busy: Duration,
    /// Silence before a ping without calls. Default 30 s; `busy` to 24 h. Longer ones than a NAT or firewall remembers a
    /// connection lose it.
    pub idle: Duration,
    /// Time for the answer to a ping. Default 1 s; 10 ms to 1 h. Shorter ones than the network's delay give up healthy servers.
    pub answer: Duration,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self { busy: Duration::from_secs(2), idle: Duration::from_secs(30), answer: Duration::from_secs(1) }
    }
}

/// Watch over one connection's silence.
#[derive(Debug)]
pub(crate) struct Keepalive {
    config: KeepaliveConfig,
    heard: Instant,
    ping: Option<Ping>,
}

#[derive(Debug)]
struct Ping {
    /// When it left, or the last byte before it.
    moved: Instant,
    /// Bytes written by then.
    written: u64,
    /// True once the ping has left.
    left: bool,
}

/// How things stand with what is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// How many bytes the socket has taken so far.
    pub(crate) written: u64,
    /// True if bytes wait.
    pub(crate) waits: bool,
}

/// Next action of a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before this time.
    Later(Instant),
    /// To write a ping; then ask again at once.
    Ping,
    /// The server is gone.
    Dead,
}

impl Keepalive {
    pub(crate) fn config(&self) -> &KeepaliveConfig {
        &self.config
    }

    pub(crate) fn new(config: KeepaliveConfig, now: Instant) -> Self {
        Self { config, heard: now, ping: None }
    }

    /// Bytes came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.ping = None;
    }

    /// For how long nothing has come.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// Returns the action that is due at `now`. `busy`: calls are outstanding.
    pub(crate) fn due(&mut self, busy: bool, output: Output, now: Instant) -> Due {
        let Some(ping) = &mut self.ping else {
            let due = self.heard + if busy { self.config.busy } else { self.config.idle };
            if now < due {
                return Due::Later(due);
            }
            self.ping = Some(Ping { moved: now, written: output.written, left: false });
            return Due::Ping;
        };
        let moves = output.written > ping.written;
        if !ping.left && (moves || !output.waits) {
            *ping = Ping { moved: now, written: output.written, left: !output.waits };
        }
        let dead = ping.moved + self.config.answer;
        if now < dead { Due::Later(dead) } else { Due::Dead }
    }
}

#[cfg(test)]
mod tests;
