use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The same time on the clock of timers; `None` beyond what that can hold.
pub(crate) fn instant_of(time: SystemTime) -> Option<Instant> {
    Instant::now().checked_add(time.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The one timer of a connection. Setting it anew costs more than firing too early: so it stays at an earlier time, and the
/// caller asks again.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready at `wanted`, and perhaps before.
    pub(crate) fn poll(&mut self, wanted: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(wanted)));
        if timer.deadline() > wanted || timer.is_elapsed() {
            timer.as_mut().reset(wanted);
        }
        timer.as_mut().poll(cx)
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}
