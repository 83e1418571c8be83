//! Time that a frame has to arrive.

use std::time::Duration;

use tokio::time::Instant;

/// Bound for the time between the first byte of a frame and its last, or between [`PROGRESS`] bytes of it: else a client
/// could hold a connection and its memory with a byte a second.
pub(crate) const TIME: Duration = Duration::from_secs(10);
pub(crate) const PROGRESS: u64 = 64 << 10;

/// Watches for frames that take too long to arrive.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Time from which the frame under way has brought too little, and the bytes received by then.
    since: Option<(Instant, u64)>,
}

impl Arrival {
    /// Notes that a frame has arrived whole.
    #[inline]
    pub(crate) fn frame_done(&mut self) {
        self.since = None;
    }

    /// Notes that `received` bytes have come in all, the last at `now`, and the last frame is not whole if `under_way`.
    pub(crate) fn observe(&mut self, under_way: bool, received: u64, now: Instant) {
        if !under_way {
            self.since = None;
            return;
        }
        let (_, before) = *self.since.get_or_insert((now, received));
        if received - before >= PROGRESS {
            self.since = Some((now, received));
        }
    }

    /// Time at which the frame under way is late.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|(since, _)| since + TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_time_unless_it_moves() {
        let (mut arrival, start) = (Arrival::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        arrival.observe(true, 100, at(0));
        arrival.observe(true, 101, at(6));
        assert_eq!(arrival.deadline(), Some(at(10)));
        arrival.frame_done();
        arrival.observe(true, 300, at(6));
        assert_eq!(arrival.deadline(), Some(at(16)), "that was another frame");
        arrival.observe(true, 300 + PROGRESS, at(12));
        assert_eq!(arrival.deadline(), Some(at(22)));
        arrival.observe(false, 400 + PROGRESS, at(13));
        assert_eq!(arrival.deadline(), None);
    }
}
