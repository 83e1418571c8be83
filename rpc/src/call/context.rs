//! The surroundings of one call.

use std::{cell::RefCell, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{Extensions, InvalidMetadata, Metadata, Peer, metadata::invalid};
use crate::unanswered::Unanswered;

/// The surroundings of one call: its deadline, the caller, and the metadata and extensions that came along. Cheap to clone.
///
/// A service method gets it as an optional first parameter `ctx: Context`. It is also *ambient*: calls made from within a
/// method inherit its deadline without being handed anything. Spawned work keeps it through [`Context::scope`].
#[derive(Clone)]
pub struct Context {
    deadline: Instant,
    peer: Arc<Peer>,
    caller: Option<Arc<str>>,
    metadata: Metadata,
    extensions: Extensions,
    response: Metadata,
    unanswered: Unanswered,
}

/// Bound for the metadata of an answer, in bytes: a head has at most 16 KiB, and a message must have room beside it.
const MAX_RESPONSE_METADATA: usize = 8 << 10;

impl Context {
    /// A context with this deadline, of an unknown peer, without metadata: for tests, and for calls that are made without a
    /// connection.
    pub fn new(deadline: Instant) -> Self {
        Self::of(deadline, Arc::default())
    }

    pub(crate) fn of(deadline: Instant, peer: Arc<Peer>) -> Self {
        Self {
            deadline,
            peer,
            caller: None,
            metadata: Metadata::default(),
            extensions: Extensions::default(),
            response: Metadata::default(),
            unanswered: Unanswered::default(),
        }
    }

    /// The same of this peer.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        self.peer = Arc::new(peer);
        self
    }

    /// The same with this metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Makes it the context of another call of the same connection.
    #[inline]
    pub(crate) fn renew(&mut self, deadline: Instant, metadata: Metadata) {
        self.deadline = deadline;
        if self.caller.is_some() {
            self.caller = None;
        }
        if !(self.metadata.is_empty() && metadata.is_empty()) {
            self.metadata = metadata;
        }
        self.extensions.clear();
    }

    /// The context of the call that this code serves, if it serves one.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The deadline of the call that this code serves, if it serves one.
    pub(crate) fn current_deadline() -> Option<Instant> {
        CURRENT.with_borrow(|current| current.as_ref().map(|context| context.deadline))
    }

    /// Calls `undo` if the result of the method that runs here cannot be written to the caller's connection: the call is
    /// cancelled, its deadline passes, the method fails, or the connection ends before the bytes have left. For methods that
    /// hand something out. A result that was written may still be lost on its way. Replaces an earlier `undo`; does
    /// nothing outside of a call. `undo` runs wherever that is noticed: it must be short, and must not block or panic.
    pub fn if_unanswered(undo: impl FnOnce() + Send + Sync + 'static) {
        let before = CURRENT.with_borrow_mut(|current| {
            let unanswered = &mut current.as_mut()?.unanswered;
            Some(std::mem::replace(unanswered, Unanswered::new(undo)))
        });
        before.into_iter().for_each(Unanswered::answered);
    }

    /// Makes `unanswered` the compensation of the call that this code serves.
    pub(crate) fn hand_over(unanswered: Unanswered) {
        if unanswered.is_some() {
            CURRENT.with_borrow_mut(|current| current.as_mut().map(|context| context.unanswered = unanswered));
        }
    }

    /// Sends a pair back with the answer of the method that runs here, whatever that is; does nothing outside of a call.
    ///
    /// # Errors
    /// As [`Metadata::insert`], or the pairs exceed 8 KiB together.
    pub fn respond_with(key: &str, value: &str) -> Result<(), InvalidMetadata> {
        CURRENT.with_borrow_mut(|current| current.as_mut().map_or(Ok(()), |context| context.add_response(key, value)))
    }

    fn add_response(&mut self, key: &str, value: &str) -> Result<(), InvalidMetadata> {
        if self.response.encoded().len() + key.len() + value.len() > MAX_RESPONSE_METADATA {
            let reason = format!("the pairs of an answer have at most {MAX_RESPONSE_METADATA} bytes");
            return Err(invalid(key, &reason));
        }
        self.response.insert(key, value)
    }

    /// Takes the metadata of the answer; `None` without any.
    #[inline]
    pub(crate) fn take_response(&mut self) -> Option<Metadata> {
        (!self.response.is_empty()).then(|| std::mem::take(&mut self.response))
    }

    /// Takes the compensation for an answer that does not go out; `None` without any.
    #[inline]
    pub(crate) fn take_unanswered(&mut self) -> Option<Unanswered> {
        self.unanswered.is_some().then(|| std::mem::take(&mut self.unanswered))
    }

    /// The peer's address of the call that this code serves; `None` outside of calls and for those that came over no network.
    pub(crate) fn current_address() -> Option<SocketAddr> {
        CURRENT.with_borrow(|current| current.as_ref().and_then(|context| context.peer.address))
    }

    /// Time at which the caller stops waiting; the method is dropped then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Brings the deadline forward; a later one changes nothing.
    pub fn shorten_deadline(&mut self, deadline: Instant) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Time left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The other end of the connection; an unknown one on the client's side.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The caller's identity, as established by an interceptor or a layer.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// Establishes the caller's identity.
    pub fn set_caller(&mut self, caller: impl AsRef<str>) {
        self.caller = Some(caller.as_ref().into());
    }

    /// The first text of the request's metadata under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)
    }

    /// The request's metadata.
    pub fn all_metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The request's metadata, to add to.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Values that layers attached.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Values to attach, for the layers within and for the method.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Makes this the ambient context of `future`, for example before it is spawned.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Scope { future, context: Some(self) }
    }

    /// Runs `work` with this as the ambient context.
    #[inline]
    pub(crate) fn enter<R>(slot: &mut Option<Self>, work: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(slot);
        work()
    }
}

/// Leaves metadata out, which may hold secrets.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deadline, peer, caller, .. } = self;
        f.debug_struct("Context")
            .field("deadline", deadline)
            .field("peer", peer)
            .field("caller", caller)
            .finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Swaps a context with the current one, and back on drop, also on unwinding.
struct Entered<'a>(&'a mut Option<Context>);

impl<'a> Entered<'a> {
    #[inline]
    fn new(slot: &'a mut Option<Context>) -> Self {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, slot));
        Self(slot)
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
    }
}

pin_project! {
    struct Scope<F> {
        #[pin]
        future: F,
        context: Option<Context>,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        Context::enter(this.context, || this.future.poll(cx))
    }
}

#[cfg(test)]
mod tests;
