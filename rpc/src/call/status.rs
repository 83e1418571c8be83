//! Errors of calls.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Code, InvalidMetadata, Metadata};
use crate::{Codec, codec::CodecError};

/// Progress of a failed call, in ascending order. Decides on a retry; that of a retried call is the farthest of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No byte of the request left this process: the call was not executed.
    NotSent,
    /// The server refused the call without executing it.
    Refused,
    /// The call may have been executed: no answer came.
    Unknown,
    /// The server executed the call and answered.
    Answered,
}

/// Reason for having no instance to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoInstance {
    /// The registry lists none: the message says how far that can be trusted. An unknown service is one of these.
    NoneListed,
    /// The registry lists instances, but none that the proxy's selector admits.
    NoneSelected,
    /// Every listed instance that the selector admits has weight 0.
    AllWeightZero,
}

/// Error of a call: its code, a message, and how far the call came. One pointer in size.
#[derive(Clone)]
pub struct Status(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    outcome: Outcome,
    message: String,
    retry_after: Option<Duration>,
    detail: Option<(Codec, Bytes)>,
    no_instance: Option<NoInstance>,
    metadata: Metadata,
    /// The peer answered, even if the outcome is unknown.
    is_answer: bool,
    instance: Option<Box<str>>,
    /// Set by [`Status::not_executed`]: a method that returns the status means itself, and not a call that it made.
    not_executed: bool,
    /// The two sides define the method differently: the structure of the server's types, if that is what differs.
    difference: Option<Box<str>>,
}

impl Status {
    /// A failure of this kind. `message` names the thing and, where there is one, the remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            code,
            outcome: Outcome::Answered,
            message,
            retry_after: None,
            detail: None,
            no_instance: None,
            metadata: Metadata::default(),
            instance: None,
            is_answer: false,
            not_executed: false,
            difference: None,
        }))
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Description for people: names the thing and, where there is one, the remedy.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Progress of the call.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Time to wait before the next try, if the server named one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The method's own error, if that is what the server answered and the call was made by names.
    ///
    /// # Errors
    /// The bytes are no `E`.
    pub fn service_error<E: DeserializeOwned>(&self) -> Option<Result<E, Self>> {
        let (codec, body) = self.0.detail.as_ref()?;
        Some(codec.decode(body, body.len()).map_err(|error| Self::undecodable("the service's error", &error)))
    }

    /// Metadata that the server sent with the error; empty for an error of this side.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    pub(crate) fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Instance that was tried last: its id in the registry, or its address for a call over a [`Client`](crate::Client).
    /// `None` if no instance was tried.
    pub fn instance(&self) -> Option<&str> {
        self.0.instance.as_deref()
    }

    pub(crate) fn with_instance(mut self, instance: &str) -> Self {
        self.0.instance = Some(instance.into());
        self
    }

    /// Why there was no instance to call, if that is what went wrong.
    pub fn no_instance(&self) -> Option<NoInstance> {
        self.0.no_instance
    }

    pub(crate) fn with_no_instance(mut self, why: NoInstance) -> Self {
        self.0.no_instance = Some(why);
        self
    }

    /// The same, with this progress of the call: for [channels](crate::Channel) of the user's own. What a method says of its own
    /// call is [`not_executed`](Self::not_executed) alone.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Marks what a peer answered, so that it is not taken for silence.
    pub(crate) fn answered_by_peer(mut self) -> Self {
        self.0.is_answer = true;
        self
    }

    /// Returns true if the request may have left and no answer came, not even one that leaves the outcome unknown, such as a
    /// server's `DeadlineExceeded`.
    pub(crate) fn is_silence(&self) -> bool {
        self.0.outcome == Outcome::Unknown && !self.0.is_answer
    }

    /// The same, with the time after which a caller should come back.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// The same, for a call that was refused before it had any effect: with `Unavailable` or `Unimplemented` it may be tried
    /// elsewhere, even if the method is not idempotent. A layer or a method that returns it says so of its own call.
    #[must_use]
    pub fn not_executed(mut self) -> Self {
        self.0.not_executed = true;
        self.with_outcome(Outcome::Refused)
    }

    /// The status that a method returned, as its call's. What it says of the execution of another call is left out.
    pub(crate) fn of_method(mut self) -> Self {
        if self.0.code == Code::Ok {
            self.0.code = Code::Unknown;
        }
        self.0.difference = None;
        let executed = !self.0.not_executed;
        if executed { self.with_outcome(Outcome::Answered) } else { self }
    }

    /// The status of a call that is over, for its caller: if a method returns it, it says nothing of that method's execution.
    pub(crate) fn of_another_call(mut self) -> Self {
        self.0.not_executed = false;
        self
    }

    pub(crate) fn set_message(&mut self, message: String) {
        self.0.message = message;
    }

    pub(crate) fn difference(&self) -> Option<&str> {
        self.0.difference.as_deref()
    }

    pub(crate) fn with_difference(mut self, shape: Box<str>) -> Self {
        self.0.difference = Some(shape);
        self
    }

    pub(crate) fn with_detail(mut self, codec: Codec, body: Bytes) -> Self {
        self.0.detail = Some((codec, body));
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn undecodable(what: &str, error: &CodecError) -> Self {
        Self::new(Code::Internal, format!("{what} cannot be decoded: {error}"))
    }
}

/// Code and message, and the instance if the message does not name it.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        match self.instance() {
            Some(instance) if !self.0.message.contains(instance) => write!(f, " (instance {instance})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("outcome", &self.0.outcome)
            .field("retry_after", &self.0.retry_after)
            .field("instance", &self.0.instance)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Status {}

impl From<InvalidMetadata> for Status {
    fn from(error: InvalidMetadata) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<ms_register::RegisterError> for Status {
    fn from(error: ms_register::RegisterError) -> Self {
        use ms_register::RegisterError as E;
        let code = match &error {
            E::InvalidName { .. } | E::InvalidInstance { .. } | E::InvalidUrl { .. } => Code::InvalidArgument,
            _ => Code::Unavailable,
        };
        Self::new(code, error.to_string()).with_outcome(Outcome::NotSent)
    }
}

/// Error type of a method: its values travel to the caller as they are.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use ms_rpc::{Code, ServiceError};
/// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// enum GoodsError {
///     #[error("no goods with id {0}")]
///     NotFound(i64),
/// }
///
/// impl ServiceError for GoodsError {
///     fn code(&self) -> Code {
///         match self {
///             Self::NotFound(_) => Code::NotFound,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error of a method",
    label = "this type must implement `ms_rpc::ServiceError`",
    note = "write `impl ms_rpc::ServiceError for {Self} {{ .. }}`; it needs `std::error::Error`, `Serialize` and `Deserialize`"
)]
pub trait ServiceError: std::error::Error + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Code for callers that do not know the type. Default: [`Code::Unknown`].
    fn code(&self) -> Code {
        Code::Unknown
    }
}

/// Error of a typed call: the method's own error, or the status of a call that failed around it.
///
/// `Display` shows the text of the error within; [`source`](std::error::Error::source) is that error itself.
#[derive(Clone, Debug)]
pub enum CallError<E> {
    /// The method ran, and returned its own error.
    Service(E),
    /// The call failed around the method.
    Status(Status),
}

impl<E> CallError<E> {
    /// The kind of failure: the code of the method's own error, or the status's.
    pub fn code(&self) -> Code
    where
        E: ServiceError,
    {
        match self {
            Self::Service(error) => error.code(),
            Self::Status(status) => status.code(),
        }
    }

    /// Time to wait before the next try, if the server named one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status().and_then(Status::retry_after)
    }

    /// The status, if the call failed around the method.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Service(_) => None,
            Self::Status(status) => Some(status),
        }
    }

    /// The method's own error, if it returned one.
    pub fn service(&self) -> Option<&E> {
        match self {
            Self::Service(error) => Some(error),
            Self::Status(_) => None,
        }
    }
}

impl<E> From<Status> for CallError<E> {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Status(status) => status.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Service(error) => Some(error),
            Self::Status(status) => Some(status),
        }
    }
}
