//! Body of a client's request, lent to one try after the other until one of them begins to read it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};

/// The body, or none.
pub(super) struct Source(Option<Arc<Shared>>);

struct Shared {
    body: Mutex<Body>,
    /// A part of it has been read.
    is_begun: AtomicBool,
    /// The body ended in an error: the client has left, or was too slow.
    is_broken: AtomicBool,
}

/// The body, for one try.
pub(super) struct Lent(Option<Arc<Shared>>);

impl Source {
    pub(super) fn new(body: Body) -> Self {
        let (is_begun, is_broken) = (AtomicBool::new(false), AtomicBool::new(false));
        Self((!body.is_end_stream()).then(|| Arc::new(Shared { body: Mutex::new(body), is_begun, is_broken })))
    }

    pub(super) fn lend(&self) -> Lent {
        Lent(self.0.clone())
    }

    /// Returns true if another try can send all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| !shared.is_begun.load(Ordering::Acquire))
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
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(shared) = &self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *shared.lock()).poll_frame(context);
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
