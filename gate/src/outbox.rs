//! Output that waits for one client.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

/// Frames for one client, up to a bound: whoever pushes never waits, and a client for which too much waits is dropped.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// Bytes of the frames here and of those that are being written.
    bytes: usize,
    end: Option<End>,
}

/// Reason that a connection ends, of those that come from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More output waited for it than may.
    Slow,
    /// A back end wished it.
    Closed,
    /// The gate shuts down.
    Shutdown,
}

impl Outbox {
    /// Takes up to `most` bytes, and a single frame of any length.
    pub(crate) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. Returns false if the client gets none any more: it is gone, or is dropped because of this frame.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut state = self.lock();
        if state.end.is_some() {
            return false;
        }
        let fits = state.bytes == 0 || state.bytes.saturating_add(frame.len()) <= self.most;
        if fits {
            state.bytes += frame.len();
            state.frames.push_back(frame);
        } else {
            state.end = Some(End::Slow);
        }
        drop(state);
        self.changed.notify_one();
        fits
    }

    /// Ends the connection, unless it ends already.
    pub(crate) fn end(&self, end: End) -> bool {
        let mut state = self.lock();
        let is_first = state.end.is_none();
        state.end.get_or_insert(end);
        drop(state);
        self.changed.notify_one();
        is_first
    }

    /// Moves what waits to `batch`. The bytes count until they are [`written`](Self::written).
    pub(crate) fn take(&self, batch: &mut VecDeque<Bytes>) {
        std::mem::swap(&mut self.lock().frames, batch);
    }

    /// Forgets bytes that have been written. Memory of the queue goes with the last ones: most clients are idle.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes.min(state.bytes);
        if state.bytes == 0 {
            state.frames = VecDeque::new();
        }
    }

    /// Bytes that wait, and those that are being written.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Waits until there are frames or the connection is to end. For one task.
    pub(crate) async fn ready(&self) {
        loop {
            let is_ready = {
                let state = self.lock();
                !state.frames.is_empty() || state.end.is_some()
            };
            if is_ready {
                return;
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the connection is to end. For the same task.
    pub(crate) async fn until_ended(&self) -> End {
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Bytes {
        Bytes::from(vec![0; length])
    }

    #[test]
    fn a_client_for_which_too_much_waits_is_dropped() {
        let outbox = Outbox::new(100);
        assert!(outbox.push(bytes(60)) && outbox.push(bytes(40)));
        let mut batch = VecDeque::new();
        outbox.take(&mut batch);
        assert!(!outbox.push(bytes(1)), "what is being written counts");
        assert_eq!(outbox.ended(), Some(End::Slow));
        assert!(!outbox.end(End::Closed), "it ends already");
        assert_eq!(outbox.ended(), Some(End::Slow));
    }

    #[test]
    fn a_frame_beyond_the_bound_may_wait_alone() {
        let outbox = Outbox::new(100);
        assert!(outbox.push(bytes(500)));
        let mut batch = VecDeque::new();
        outbox.take(&mut batch);
        outbox.written(500);
        assert!(outbox.push(bytes(100)));
        assert!(!outbox.push(bytes(1)));
    }

    #[tokio::test]
    async fn the_session_is_woken() {
        let outbox = std::sync::Arc::new(Outbox::new(100));
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move {
                outbox.ready().await;
                let mut batch = VecDeque::new();
                outbox.take(&mut batch);
                (batch.len(), outbox.until_ended().await)
            }
        });
        tokio::task::yield_now().await;
        outbox.push(bytes(1));
        tokio::task::yield_now().await;
        outbox.end(End::Shutdown);
        assert_eq!(waiting.await.unwrap(), (1, End::Shutdown));
    }
}
