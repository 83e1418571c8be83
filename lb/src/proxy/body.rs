//! Body of a client's request, lent to one try after the other until one of them begins to read it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

/// The body, or none.
pub(super) struct Source(Option<Arc<Shared>>);

struct Shared {
    body: Mutex<Body>,
    progress: Mutex<Progress>,
    /// A part of it has been read.
    is_begun: AtomicBool,
    /// The body ended in an error: the client has left, or was too slow.
    is_broken: AtomicBool,
}

/// How far a body has come on its way.
#[derive(Clone, Copy)]
struct Progress {
    /// Time of the last part.
    at: Instant,
    /// The back end has asked for a part that the client has not sent yet.
    waits_for_client: bool,
}

/// The body, for one try.
pub(super) struct Lent(Option<Arc<Shared>>);

impl Source {
    pub(super) fn new(body: Body) -> Self {
        let (is_begun, is_broken) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = |body| {
            let progress = Mutex::new(Progress { at: Instant::now(), waits_for_client: false });
            Arc::new(Shared { body: Mutex::new(body), progress, is_begun, is_broken })
        };
        Self((!body.is_end_stream()).then(|| shared(body)))
    }

    pub(super) fn lend(&self) -> Lent {
        Lent(self.0.clone())
    }

    /// Returns true if another try can send all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| !shared.is_begun.load(Ordering::Acquire))
    }

    /// Time until which a back end may stay silent, if that is at most `silence` at a time. While the client is slow, the back end is not: the
    /// client's pauses have a bound of their own.
    pub(super) fn due(&self, silence: Duration) -> Option<Instant> {
        let progress = *self.0.as_ref()?.progress();
        let since = if progress.waits_for_client { Instant::now() } else { progress.at };
        Some(since + silence)
    }

    /// Returns true if the client did not send all of it.
    pub(super) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.is_broken.load(Ordering::Acquire))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(shared) = &self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *shared.lock()).poll_frame(context);
        *shared.progress() = Progress { at: Instant::now(), waits_for_client: polled.is_pending() };
        if let Poll::Ready(frame) = &polled {
            shared.is_begun.store(true, Ordering::Release);
            if matches!(frame, Some(Err(_))) {
                shared.is_broken.store(true, Ordering::Release);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.lock().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |shared| shared.lock().size_hint())
    }
}
