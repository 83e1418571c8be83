use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A frame that has begun must be whole after this time, or bring `PROGRESS` in it: else a client could hold a connection
/// and its memory with a byte a second.
const TIME: Duration = Duration::from_secs(10);
const PROGRESS: u64 = 64 << 10;

/// Watches for frames that take too long to arrive. Costs nothing while they do not.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Since when the frame under way has brought too little, and how much had come by then.
    since: Option<(Instant, u64)>,
    /// Set to the end of that, or of an earlier one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// A frame has arrived whole.
    pub(crate) fn frame_done(&mut self) {
        self.since = None;
    }

    /// Ready when the frame under way, if there is one, took too long. `received` bytes have come in all, the last at
    /// `now`.
    pub(crate) fn poll(&mut self, under_way: bool, received: u64, now: Instant, cx: &mut TaskContext<'_>) -> Poll<()> {
        if !under_way {
            self.since = None;
            return Poll::Pending;
        }
        let (began, before) = *self.since.get_or_insert((now, received));
        let began = if received - before >= PROGRESS { now } else { began };
        if began == now {
            self.since = Some((now, received));
        }
        let end = began + TIME;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frame_has_its_time_unless_it_moves() {
        let mut patience = Patience::default();
        let mut polled = async |under_way, received| {
            let now = Instant::now();
            poll_fn(|cx| Poll::Ready(patience.poll(under_way, received, now, cx))).await.is_ready()
        };
        assert!(!polled(true, 100).await);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!polled(false, 200).await);
        assert!(!polled(true, 300).await);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!polled(true, 301).await, "that was another frame");
        assert!(!polled(true, 300 + PROGRESS).await);
        tokio::time::advance(TIME - Duration::from_millis(1)).await;
        assert!(!polled(true, 400 + PROGRESS).await);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(polled(true, 401 + PROGRESS).await);
    }
}
