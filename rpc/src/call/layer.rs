//! Code around calls.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{Answer, Invocation, Status};

/// Code around calls, on the client's side or the server's: it sees names, peer, metadata and deadline, the outcome and the time
/// that it took; it may change the context, attach values that the method reads ([`Context::extensions`](crate::Context)),
/// answer by itself, or refuse. Several run in the order in which they were added, the first one outermost. Calls of a side
/// without layers pay nothing for them; with layers, a call takes a few allocations more.
///
/// On a server the layers run after the rate limits and before the arguments are decompressed and decoded; the call's deadline
/// holds, whatever they do. A refusal that says [`Status::not_executed`](crate::Status::not_executed) may be tried elsewhere.
///
/// ```
/// use std::time::Instant;
///
/// use ms_rpc::{Answer, Invocation, Layer, Next, Status};
///
/// #[derive(Debug)]
/// struct Slow;
///
/// #[async_trait::async_trait]
/// impl Layer for Slow {
///     async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
///         let began = Instant::now();
///         let result = next.run(call).await;
///         if began.elapsed().as_millis() > 100 {
///             println!("{}.{} took {:?}", call.service(), call.method(), began.elapsed());
///         }
///         result
///     }
/// }
/// ```
#[async_trait]
pub trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Makes the call by [`Next::run`], once, several times, or not at all.
    ///
    /// # Errors
    /// The call's status: of the layers within, or the layer's own.
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status>;
}

/// The call itself, behind the last layer.
#[async_trait]
pub(crate) trait Innermost: Send + Sync {
    async fn run(&self, call: &mut Invocation) -> Result<Answer, Status>;
}

/// The layers within, and the call itself.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    pub(crate) layers: &'a [Arc<dyn Layer>],
    pub(crate) innermost: &'a dyn Innermost,
}

impl Next<'_> {
    /// Makes the call. A layer that makes it several times sees to it that this does no harm
    /// ([`Invocation::is_idempotent`]).
    ///
    /// # Errors
    /// The call's status.
    pub async fn run(&self, call: &mut Invocation) -> Result<Answer, Status> {
        match self.layers {
            [] => self.innermost.run(call).await,
            [first, within @ ..] => first.call(call, Next { layers: within, ..*self }).await,
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.layers).finish()
    }
}
