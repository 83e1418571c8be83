//! Clock of a client's silence.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// Time since a client was heard, and since its frame began that is not whole.
pub(crate) struct Clock {
    sleep: Pin<Box<Sleep>>,
    idle: Duration,
    frame_within: Duration,
    heard: Instant,
    partial: Option<Instant>,
    is_probed: bool,
}

/// What a silence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing yet.
    Wait,
    /// A question whether the client lives.
    Probe,
    /// The end: it was silent for too long, or did not end its frame.
    Silent,
}

impl Clock {
    pub(crate) fn new(idle: Duration, frame_within: Duration) -> Self {
        let now = Instant::now();
        let sleep = Box::pin(sleep_until(now + idle / 2));
        Self { sleep, idle, frame_within, heard: now, partial: None, is_probed: false }
    }

    /// Notes that the client was heard.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
        self.is_probed = false;
    }

    /// Notes whether a frame ended, and whether another one has begun and is not whole.
    pub(crate) fn seen(&mut self, ended: bool, is_partial: bool) {
        if ended || !is_partial {
            self.partial = None;
        }
        if is_partial && self.partial.is_none() {
            self.partial = Some(self.heard);
            let next = self.next();
            self.sleep.as_mut().reset(next);
        }
    }

    fn next(&self) -> Instant {
        let silent = self.heard + if self.is_probed { self.idle } else { self.idle / 2 };
        self.partial.map_or(silent, |began| silent.min(began + self.frame_within))
    }

    /// Waits until there may be something to judge.
    pub(crate) async fn tick(&mut self) {
        self.sleep.as_mut().await;
    }

    /// Judges the silence. While a client is heard the timer stays as it is, so it may have ended too early.
    pub(crate) fn judge(&mut self) -> Judgement {
        let now = Instant::now();
        let is_late = self.partial.is_some_and(|began| now >= began + self.frame_within);
        let judgement = if is_late || now >= self.heard + self.idle {
            Judgement::Silent
        } else if !self.is_probed && now >= self.heard + self.idle / 2 {
            self.is_probed = true;
            Judgement::Probe
        } else {
            Judgement::Wait
        };
        let next = self.next();
        self.sleep.as_mut().reset(next);
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(100);
    const FRAME: Duration = Duration::from_secs(10);

    /// Waits for the next thing to do, and says when that was.
    async fn next(clock: &mut Clock, began: Instant) -> (u64, Judgement) {
        loop {
            clock.tick().await;
            let judgement = clock.judge();
            if judgement != Judgement::Wait {
                return (began.elapsed().as_secs(), judgement);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_asked_once_and_then_given_up() {
        let (began, mut clock) = (Instant::now(), Clock::new(IDLE, FRAME));
        assert_eq!(next(&mut clock, began).await, (50, Judgement::Probe));
        tokio::time::advance(Duration::from_secs(10)).await;
        clock.heard();
        assert_eq!(next(&mut clock, began).await, (110, Judgement::Probe));
        assert_eq!(next(&mut clock, began).await, (160, Judgement::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_waited_for_from_its_first_byte() {
        let (began, mut clock) = (Instant::now(), Clock::new(IDLE, FRAME));
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(2)).await;
            clock.heard();
            clock.seen(false, true);
        }
        assert_eq!(next(&mut clock, began).await, (12, Judgement::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_a_gap_between_them_are_no_half_frame() {
        let (began, mut clock) = (Instant::now(), Clock::new(IDLE, FRAME));
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(2)).await;
            clock.heard();
            clock.seen(true, true);
        }
        clock.seen(true, false);
        assert_eq!(next(&mut clock, began).await, (90, Judgement::Probe));
    }
}
