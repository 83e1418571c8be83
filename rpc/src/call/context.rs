//! What is known of the call that is being served.

use std::{cell::RefCell, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::proto::read_pairs;

/// The call that is being served: its deadline, who calls, and what came along. Cheap to clone.
///
/// A service method gets it as an optional first parameter `ctx: Context`. It is also *ambient*: calls made from within a
/// method inherit its deadline without being handed anything. Work that is spawned keeps it through [`Context::scope`].
#[derive(Clone)]
pub struct Context {
    deadline: Instant,
    peer: Arc<Peer>,
    caller: Option<Arc<str>>,
    pairs: Bytes,
    unanswered: Unanswered,
}

/// What is done if a call's answer does not go out. It belongs to one call: a clone has none.
#[derive(Default)]
pub(crate) struct Unanswered(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Unanswered {
    pub(crate) fn new(undo: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// The answer has gone out.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl Clone for Unanswered {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unanswered").field(&self.is_some()).finish()
    }
}

/// The other end of a connection.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Peer {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
}

impl Peer {
    /// Its socket address; none for a call within this process.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What the client calls itself. Not verified.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the client presents for an interceptor to judge. Empty by default.
    pub fn credentials(&self) -> &[u8] {
        &self.credentials
    }
}

impl Context {
    pub(crate) fn new(deadline: Instant, peer: Arc<Peer>, pairs: Bytes) -> Self {
        Self { deadline, peer, caller: None, pairs, unanswered: Unanswered::default() }
    }

    /// The same connection's context for another call.
    #[inline]
    pub(crate) fn renew(&mut self, deadline: Instant, pairs: Bytes) {
        self.deadline = deadline;
        if self.caller.is_some() {
            self.caller = None;
        }
        if !(self.pairs.is_empty() && pairs.is_empty()) {
            self.pairs = pairs;
        }
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
    /// hand something out. A result that was written may still be lost on its way. Replaces what was given before; does
    /// nothing outside of a call. `undo` runs wherever that is noticed: it must be short, and must not block or panic.
    pub fn if_unanswered(undo: impl FnOnce() + Send + Sync + 'static) {
        let before = CURRENT.with_borrow_mut(|current| {
            let unanswered = &mut current.as_mut()?.unanswered;
            Some(std::mem::replace(unanswered, Unanswered::new(undo)))
        });
        // What is replaced is not to be done.
        before.into_iter().for_each(Unanswered::answered);
    }

    /// What is to be done if the answer does not go out.
    pub(crate) fn take_unanswered(&mut self) -> Option<Unanswered> {
        self.unanswered.is_some().then(|| std::mem::take(&mut self.unanswered))
    }

    /// Where the call comes from that this code serves, if it serves one that came over a network.
    pub(crate) fn current_address() -> Option<SocketAddr> {
        CURRENT.with_borrow(|current| current.as_ref().and_then(|context| context.peer.address))
    }

    /// When the caller stops waiting. The method is dropped then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Who calls, as established by an interceptor.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// Says who calls. For interceptors.
    pub fn set_caller(&mut self, caller: impl AsRef<str>) {
        self.caller = Some(caller.as_ref().into());
    }

    /// The value that came along under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        read_pairs(&self.pairs).find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Everything that came along.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        read_pairs(&self.pairs)
    }

    /// Makes this the ambient context of `future`, such as one that is about to be spawned.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Scope { future, context: Some(self) }
    }

    /// Runs `work` with this as the ambient context.
    pub(crate) fn enter<R>(slot: &mut Option<Self>, work: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(slot);
        work()
    }
}

/// Without metadata, which may hold secrets.
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

/// Without credentials.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).field("name", &self.name).finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Swaps a context with the current one, and back on drop, also on unwinding.
struct Entered<'a>(&'a mut Option<Context>);

impl<'a> Entered<'a> {
    fn new(slot: &'a mut Option<Context>) -> Self {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, slot));
        Self(slot)
    }
}

impl Drop for Entered<'_> {
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
mod tests {
    use super::*;
    use crate::proto::write_pairs;

    fn context(seconds: u64) -> Context {
        let mut pairs = Vec::new();
        write_pairs([("tenant", "blue"), ("trace", "1")].into_iter(), &mut pairs).unwrap();
        Context::new(Instant::now() + Duration::from_secs(seconds), Arc::default(), pairs.into())
    }

    #[tokio::test]
    async fn it_is_ambient_in_its_scope_only() {
        let (outer, inner) = (context(10), context(5));
        let expected = (outer.deadline(), inner.deadline());
        let seen = outer
            .scope(async move {
                let nested = inner.scope(async { Context::current().unwrap().deadline() }).await;
                tokio::task::yield_now().await;
                (Context::current_deadline().unwrap(), nested)
            })
            .await;
        assert_eq!(seen, expected);
        assert!(Context::current().is_none());
    }

    #[tokio::test]
    async fn secrets_are_not_printed() {
        let peer = Peer { credentials: b"hush".to_vec(), name: "order-center".to_owned(), address: None };
        let mut context = context(1);
        context.peer = Arc::new(peer);
        let printed = format!("{context:?}");
        assert!(printed.contains("order-center"), "{printed}");
        assert!(!printed.contains("blue") && !printed.contains("104, 117"), "{printed}");
    }

    #[test]
    fn metadata_is_found_by_key() {
        let context = context(1);
        assert_eq!(context.metadata("trace"), Some("1"));
        assert_eq!(context.metadata("other"), None);
        assert_eq!(context.all_metadata().count(), 2);
    }
}
