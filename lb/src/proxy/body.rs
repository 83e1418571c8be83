//! Body of a client's request, lent to one try after the other until one of them begins to read it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// The body, for all tries of a request.
pub(super) struct Source(Arc<Mutex<State>>);

/// The body, for one try.
pub(super) struct Lent(Arc<Mutex<State>>);

struct State {
    body: Body,
    /// A part of it has been read.
    is_begun: bool,
    /// The body ended in an error: the client has left, or was too slow.
    is_broken: bool,
    /// The back end has asked for a part that the client has not sent yet.
    waits_for_client: bool,
    /// Time at which the back end last asked for a part; before that, the arrival of the request.
    asked: Instant,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    pub(super) fn new(body: Body) -> Self {
        let (is_begun, is_broken, waits_for_client, asked) = (false, false, false, Instant::now());
        Self(Arc::new(Mutex::new(State { body, is_begun, is_broken, waits_for_client, asked })))
    }

    pub(super) fn lend(&self) -> Lent {
        Lent(self.0.clone())
    }

    /// Returns true if another try can send all of it.
    pub(super) fn is_whole(&self) -> bool {
        !lock(&self.0).is_begun
    }

    /// Returns true if the client did not send all of it.
    pub(super) fn is_broken(&self) -> bool {
        lock(&self.0).is_broken
    }

    /// Completes when the back end has been silent for this long. While it waits for the client it is not: the client's pauses have a
    /// bound of their own.
    pub(super) async fn unread_for(&self, silence: Duration) {
        loop {
            let due = {
                let state = lock(&self.0);
                let since = if state.waits_for_client { Instant::now() } else { state.asked };
                since + silence
            };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut state = lock(&self.0);
        let polled = Pin::new(&mut state.body).poll_frame(context);
        state.asked = Instant::now();
        state.waits_for_client = polled.is_pending();
        state.is_begun |= polled.is_ready();
        state.is_broken |= matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.size_hint()
    }
}
