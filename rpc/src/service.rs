//! What a server serves: named methods over encoded values. `#[service]` writes the implementations.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, Context, ServiceError, Status, frame::RequestHead, reply::ReplyOut};

/// A named set of methods. Implemented by the server type that `#[service]` generates.
pub trait Service: Send + Sync + 'static {
    /// Its name and methods.
    fn descriptor(&self) -> &'static Descriptor;

    /// Decodes the arguments and starts the method. It is not polled here.
    fn call(&self, request: Request<'_>) -> Reply;
}

/// What a service looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The name it is registered under by default.
    pub name: &'static str,
    /// Its methods; a request names them by their place.
    pub methods: &'static [Method],
}

/// What a method looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Unique in its service.
    pub name: &'static str,
    /// The names of its arguments, in order.
    pub arguments: &'static [&'static str],
    /// Whether executing it twice does no harm: then it is also retried when nobody knows whether it was executed.
    pub idempotent: bool,
    /// Whether it computes long enough to need a thread of its own.
    pub compute: bool,
}

/// One call as a service sees it.
#[derive(Debug)]
pub struct Request<'a> {
    pub(crate) service: &'static Descriptor,
    pub(crate) method: usize,
    pub(crate) codec: Codec,
    pub(crate) argc: u8,
    pub(crate) body: &'a Bytes,
    pub(crate) context: &'a Context,
}

impl Request<'_> {
    /// The method's place in [`Descriptor::methods`].
    pub fn method(&self) -> usize {
        self.method
    }

    /// The deadline, the caller, and what came along.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// The arguments, as a tuple or a struct with a field for each.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong number, a wrong type, or bytes left over.
    pub fn arguments<A: DeserializeOwned>(&self) -> Result<A, Status> {
        let Some(method) = self.service.methods.get(self.method) else {
            return Err(Status::invalid(format!("`{}` has no method {}", self.service.name, self.method)));
        };
        if self.argc != RequestHead::NAMED && usize::from(self.argc) != method.arguments.len() {
            return Err(Status::invalid(format!(
                "{} takes {} arguments ({}), {} were sent",
                method.name,
                method.arguments.len(),
                method.arguments.join(", "),
                self.argc
            )));
        }
        self.codec.decode(self.body).map_err(|error| {
            let expected = method.arguments.join(", ");
            Status::invalid(format!("the arguments of {} ({expected}) cannot be decoded: {error}", method.name))
        })
    }

    /// Runs a method that returns a plain value.
    pub fn reply<F, T>(self, method: F) -> Reply
    where
        F: Future<Output = T> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        Reply(State::Running(Box::pin(Plain { method })))
    }

    /// Runs a method that may return its own error.
    pub fn reply_result<F, T, E>(self, method: F) -> Reply
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: ServiceError,
    {
        Reply(State::Running(Box::pin(Fallible { method })))
    }
}

/// The answer to a [`Request`], under way.
pub struct Reply(State);

enum State {
    Running(Pin<Box<dyn Running>>),
    Failed(Status),
}

impl Reply {
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

/// A method under way, whatever its type: it encodes its own result, straight to where it goes out.
trait Running: Send {
    fn poll_reply(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()>;
}

pin_project! {
    struct Plain<F> {
        #[pin]
        method: F,
    }
}

impl<F, T> Running for Plain<F>
where
    F: Future<Output = T> + Send,
    T: Serialize,
{
    fn poll_reply(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()> {
        let value = ready!(self.project().method.poll(cx));
        out.value(&value);
        Poll::Ready(())
    }
}

pin_project! {
    struct Fallible<F> {
        #[pin]
        method: F,
    }
}

impl<F, T, E> Running for Fallible<F>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Serialize,
    E: ServiceError,
{
    fn poll_reply(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, out: &mut ReplyOut<'_>) -> Poll<()> {
        match ready!(self.project().method.poll(cx)) {
            Ok(value) => out.value(&value),
            Err(error) => out.service_error(&error),
        }
        Poll::Ready(())
    }
}
