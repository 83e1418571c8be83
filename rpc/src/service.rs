//! Services: named methods over encoded values. `#[service]` writes the implementations.

pub(crate) mod describe;
pub(crate) mod health;
pub(crate) mod reply;
pub(crate) mod signature;
mod trace;

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    task::{Poll, ready},
};

use pin_project_lite::pin_project;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, Context, ServiceError, Status, body::Body, codec::CodecError, proto::RequestHead};
use reply::ReplyOut;
pub use signature::Signature;
use signature::{IsStatus, REMEDY};

/// A named set of methods. Implemented by the server type that `#[service]` generates.
pub trait Service: Send + Sync + 'static {
    /// Its name and methods.
    fn descriptor(&self) -> &'static Descriptor;

    /// Decodes the arguments and starts the method. It is not polled here.
    fn call(&self, request: Request<'_>) -> Reply;
}

/// Name and methods of a service.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The name it is registered under by default.
    pub name: &'static str,
    /// Its methods; a request names them by their index.
    pub methods: &'static [Method],
}

/// Names, execution and signature of a method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Unique in its service.
    pub name: &'static str,
    /// The names of its arguments, in order.
    pub arguments: &'static [&'static str],
    /// True if executing it twice does no harm: then it is also retried when its outcome is unknown.
    pub idempotent: bool,
    /// Threads that it runs on.
    pub execution: Execution,
    /// Its definition, which both sides compare.
    pub signature: Signature,
}

impl Method {
    /// Description of a value that this side's definition does not fit.
    #[cold]
    pub(crate) fn undecodable(&self, what: &str, why: &CodecError) -> String {
        let definition = match self.signature.text() {
            "" => self.name,
            text => text,
        };
        format!(
            "the {what} of `{definition}` cannot be decoded: {why}; the definitions of the two sides differ: {REMEDY}"
        )
    }
}

/// Threads that a method runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    /// On its connection's task, until it turns out to compute or to block: for methods that return or wait soon.
    #[default]
    Inline,
    /// On as many threads as there are cores: for methods that compute longer than 200 us.
    Compute,
    /// On threads most of which sleep: for methods that block (files, a synchronous driver).
    Blocking,
}

/// One call as a service sees it.
pub struct Request<'a> {
    pub(crate) service: &'static Descriptor,
    pub(crate) method: usize,
    pub(crate) codec: Codec,
    pub(crate) argc: u8,
    pub(crate) body: &'a Body,
    pub(crate) context: &'a Context,
    /// The box of an earlier method's future, to be used again.
    pub(crate) spare: &'a mut Option<SpareFuture>,
}

impl Request<'_> {
    /// Index of the method in [`Descriptor::methods`].
    pub fn method(&self) -> usize {
        self.method
    }

    /// The deadline, the caller, and what came along.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// Number of arguments at the end that the caller did not send because its definition does not have them yet. Each is an
    /// `Option`, and `None`. 0 for arguments by name.
    #[inline]
    pub fn missing(&self) -> usize {
        let Some(method) = self.service.methods.get(self.method) else { return 0 };
        let missing = method.arguments.len().saturating_sub(self.argc.into());
        if missing <= method.signature.optional() { missing } else { 0 }
    }

    /// The arguments that were sent, as a tuple or a struct with a field for each.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong number, a wrong type, or bytes left over.
    pub fn arguments<A: DeserializeOwned>(&self) -> Result<A, Status> {
        let Some(method) = self.service.methods.get(self.method) else {
            return Err(Status::invalid(format!("`{}` has no method {}", self.service.name, self.method)));
        };
        let sent = usize::from(self.argc) + self.missing();
        if self.argc != RequestHead::NAMED && sent != method.arguments.len() {
            return Err(Status::invalid(format!(
                "{} takes {} arguments ({}), {} were sent",
                method.name,
                method.arguments.len(),
                method.arguments.join(", "),
                self.argc
            )));
        }
        self.body.decode(&self.codec).map_err(|error| {
            let expected = match method.signature.text() {
                "" => method.arguments.join(", "),
                text => format!("`{text}`"),
            };
            Status::invalid(format!("the arguments of {} ({expected}) cannot be decoded: {error}", method.name))
        })
    }

    /// Runs a method that returns a plain value.
    #[inline]
    pub fn reply<F, T>(self, method: F) -> Reply
    where
        F: Future<Output = T> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        self.run(method, |out, value| out.value(&value))
    }

    /// Runs a method that may return its own error.
    pub fn reply_result<F, T, E>(self, method: F) -> Reply
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: ServiceError,
    {
        self.run(method, |out, result| match result {
            Ok(value) => out.value(&value),
            Err(error) => out.service_error(&error),
        })
    }

    /// Runs a method that may fail with a status, which becomes the call's.
    pub fn reply_status<F, T, E>(self, method: F) -> Reply
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: IsStatus,
    {
        self.run(method, |out, result| match result {
            Ok(value) => out.value(&value),
            Err(status) => out.status(&status.into_status().of_method()),
        })
    }

    /// Puts the method's future into the spare box, if that held the same method's; else into a box of its own. `write` encodes
    /// its result.
    #[inline]
    fn run<F, W>(self, method: F, write: W) -> Reply
    where
        F: Future + Send + 'static,
        W: Fn(&mut ReplyOut<'_>, F::Output) + Send + 'static,
    {
        let mut next = Answering { method: Some(method), write };
        let mut spare = self.spare.take();
        let reused = spare.as_mut().is_some_and(|spare| spare.as_mut().reuse(&mut next));
        Reply(State::Running(match spare {
            Some(spare) if reused => spare,
            _ => Box::pin(next),
        }))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, method, codec, argc, context, .. } = self;
        let request = &mut f.debug_struct("Request");
        let request = request.field("service", &service.name).field("method", method).field("codec", codec);
        request.field("argc", argc).field("context", context).finish_non_exhaustive()
    }
}

/// The answer to a [`Request`], under way.
pub struct Reply(State);

enum State {
    Running(SpareFuture),
    Failed(Status),
}

impl Reply {
    pub(crate) fn running(method: SpareFuture) -> Self {
        Self(State::Running(method))
    }

    /// Drives the method; when it is ready its answer stands in `out`.
    pub(crate) fn poll(&mut self, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()> {
        match &mut self.0 {
            State::Running(running) => running.as_mut().poll_reply(cx, out),
            State::Failed(status) => {
                out.status(status);
                Poll::Ready(())
            }
        }
    }

    /// The box of the future, after its answer.
    pub(crate) fn into_spare(self) -> Option<SpareFuture> {
        match self.0 {
            State::Running(future) => Some(future),
            State::Failed(_) => None,
        }
    }
}

impl From<Status> for Reply {
    fn from(status: Status) -> Self {
        Self(State::Failed(status))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Running(_) => f.write_str("Reply(running)"),
            State::Failed(status) => write!(f, "Reply({status})"),
        }
    }
}

/// A boxed method under way. Once it is ready its box is used again for the next call of the same method in a batch, which
/// saves an allocation and a deallocation a call (`rpc/tests/allocations.rs` counts them).
pub(crate) type SpareFuture = Pin<Box<dyn Running>>;

/// A method under way, whatever its type: it encodes its own result, straight to where it goes out.
pub(crate) trait Running: Send {
    /// Takes the method out of `next`, and puts it here, if that is of this type.
    fn reuse(self: Pin<&mut Self>, next: &mut dyn Any) -> bool;

    fn poll_reply(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()>;
}

pin_project! {
    struct Answering<F, W> {
        // `None` once it was ready.
        #[pin]
        method: Option<F>,
        write: W,
    }
}

impl<F, W> Running for Answering<F, W>
where
    F: Future + Send + 'static,
    W: Fn(&mut ReplyOut<'_>, F::Output) + Send + 'static,
{
    fn reuse(self: Pin<&mut Self>, next: &mut dyn Any) -> bool {
        let next = next.downcast_mut::<Self>();
        next.is_some_and(|next| {
            self.project().method.set(next.method.take());
            true
        })
    }

    fn poll_reply(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(method) = this.method.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let result = ready!(method.poll(cx));
        // The method and all that it holds are dropped before its result is encoded.
        this.method.set(None);
        (this.write)(out, result);
        Poll::Ready(())
    }
}
