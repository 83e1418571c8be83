//! One call on a server, from its admission to its end.
//!
//! ```text
//! admit (head alone) --> [wait for a token] --> begin (decode) --> poll .. --> answered
//!    |                        |                                     |
//!    +-> refused              +-> refused                           +-> overdue | cancelled | lost
//! ```
//! A call is driven in place, from its connection's slots, on a pool, or by a caller of this process: the drivers decide where
//! and when it is polled, and everything else is decided here. A call that ends without an answer is dropped: its method, the
//! compensation for an answer that did not go out, and its permit go with it.

mod layered;

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use tracing::error;

use super::{capacity::Permit, dispatch::Route, limit::Admission};
use crate::{
    Code, Codec, Compression, Context, Outcome, Status,
    buffer::FrameBuf,
    compress::ExpandError,
    meter,
    proto::{Frame, HEADER, ResponseHead},
    service::{
        Reply, Request, SpareFuture,
        reply::{ReplyOut, ResponseForm},
    },
};

/// One call, decoded or about to be.
pub(crate) struct Call {
    form: ResponseForm,
    /// Taken while the method is polled.
    context: Option<Context>,
    stage: Stage,
    begun: bool,
    /// Code of the answer, once there is one.
    code: u8,
    permit: Option<Permit>,
}

enum Stage {
    /// A rate limit has no token yet; the body is not touched.
    AwaitsToken(Box<TokenWait>),
    Runs(Reply),
}

/// A request whose arguments are encoded.
pub(crate) struct Encoded {
    pub(crate) frame: Frame,
    /// Number of arguments.
    pub(crate) argc: u8,
    /// Offset of the arguments in the frame's body.
    pub(crate) start: usize,
    pub(crate) max_frame: usize,
}

struct TokenWait {
    request: Encoded,
    bucket: usize,
    waited: Duration,
    after: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Call {
    /// Decodes the arguments and starts the method; it is not polled. A failure is the call's answer.
    #[inline]
    pub(crate) fn begin(
        form: ResponseForm,
        route: &Arc<Route>,
        context: Context,
        request: Encoded,
        spare: &mut Option<SpareFuture>,
    ) -> Self {
        if !route.layers.is_empty() {
            return Self::begin_layered(form, route, context, request);
        }
        Self::begin_method(form, route, context, request, spare)
    }

    #[cold]
    fn begin_layered(form: ResponseForm, route: &Arc<Route>, context: Context, request: Encoded) -> Self {
        let reply = layered::start(route, &context, &form, request);
        Self { form, context: Some(context), stage: Stage::Runs(reply), begun: false, code: 0, permit: None }
    }

    /// The same without the server's layers: what they run around.
    #[inline]
    pub(super) fn begin_method(
        form: ResponseForm,
        route: &Route,
        context: Context,
        request: Encoded,
        spare: &mut Option<SpareFuture>,
    ) -> Self {
        let reply = start(route, &context, request, spare);
        Self { form, context: Some(context), stage: Stage::Runs(reply), begun: false, code: 0, permit: None }
    }

    /// A call that waits for a token of bucket number `bucket` of its route, to be asked again `after` this time.
    pub(crate) fn await_token(
        form: ResponseForm,
        context: Context,
        request: Encoded,
        bucket: usize,
        after: Duration,
    ) -> Self {
        let wait = TokenWait { request, bucket, waited: Duration::ZERO, after, timer: Box::pin(sleep(after)) };
        let stage = Stage::AwaitsToken(Box::new(wait));
        Self { form, context: Some(context), stage, begun: false, code: 0, permit: None }
    }

    pub(crate) fn form(&self) -> ResponseForm {
        self.form
    }

    /// Returns true if the method was polled.
    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Returns true if the next poll may run the method.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.stage, Stage::Runs(_))
    }

    /// Counts the call until it is dropped.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Bytes of its request that are counted.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, Permit::bytes)
    }

    /// Code of the answer, once it is ready.
    #[inline]
    pub(crate) fn code(&self) -> Code {
        Code::from_number(self.code)
    }

    /// Gives the permit back, before anybody can see the answer: a caller that has it may make the next call at once.
    pub(crate) fn release(&mut self) {
        self.permit = None;
    }

    /// Drives the call once. When it is ready, its whole response stands at the end of `out`, and the compensation goes with
    /// these bytes; until then nothing is appended. User code that panics is answered `Internal`.
    #[inline]
    pub(crate) fn poll(&mut self, route: &Arc<Route>, cx: &mut TaskContext<'_>, out: &mut FrameBuf) -> Poll<()> {
        if let Stage::AwaitsToken(wait) = &mut self.stage {
            let context = self.context.as_ref().map(Context::remaining).unwrap_or_default();
            let granted = ready!(wait.poll(route, context, cx));
            self.start_after_token(route, granted);
        }
        let Stage::Runs(reply) = &mut self.stage else { return Poll::Pending };
        self.begun = true;
        let start = out.mark();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            Context::enter(&mut self.context, || reply.poll(cx, &mut ReplyOut::new(&self.form, out, start)))
        }));
        match polled {
            Ok(Poll::Ready(())) => self.form.finish(out, start),
            Ok(Poll::Pending) => {
                out.truncate(start);
                return Poll::Pending;
            }
            Err(panic) => {
                out.truncate(start);
                self.form.status(&panicked(route, &*panic), out);
            }
        }
        self.code = ResponseHead::code(&out.copied_since(start)[HEADER..]);
        let Some(context) = &mut self.context else { return Poll::Ready(()) };
        if let Some(metadata) = context.take_response() {
            self.form.add_metadata(&metadata, out, start);
        }
        if let Some(unanswered) = context.take_unanswered() {
            // An error is no result: the compensation runs.
            if self.code == Code::Ok as u8 {
                out.watch(unanswered);
            }
        }
        Poll::Ready(())
    }

    #[cold]
    fn start_after_token(&mut self, route: &Arc<Route>, granted: Result<(), Status>) {
        let Stage::AwaitsToken(wait) = std::mem::replace(&mut self.stage, Stage::Runs(overdue().into())) else {
            return;
        };
        self.stage = Stage::Runs(match (granted, &self.context) {
            (Ok(()), Some(context)) if !route.layers.is_empty() => {
                layered::start(route, context, &self.form, wait.request)
            }
            (Ok(()), Some(context)) => start(route, context, wait.request, &mut None),
            (Err(status), _) => status.into(),
            (Ok(()), None) => return,
        });
    }

    /// Takes an answered call apart, for the next one.
    #[inline]
    pub(crate) fn into_spare(self) -> (Option<Context>, Option<SpareFuture>) {
        match self.stage {
            Stage::Runs(reply) => (self.context, reply.into_spare()),
            Stage::AwaitsToken(_) => (self.context, None),
        }
    }
}

impl TokenWait {
    /// Waits until the buckets have a token, as far as the limits and the deadline allow.
    fn poll(&mut self, route: &Route, remaining: Duration, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        loop {
            if !self.timer.is_elapsed() {
                // A token that cannot come in time is refused at once.
                let left = self.timer.deadline().saturating_duration_since(Instant::now());
                if left > remaining {
                    return Poll::Ready(Err(overdue().with_outcome(Outcome::Refused)));
                }
                ready!(self.timer.as_mut().poll(cx));
            }
            self.waited += self.after;
            match route.buckets.admit_after(self.bucket, self.waited) {
                Admission::Granted => return Poll::Ready(Ok(())),
                Admission::Rejected(status) => return Poll::Ready(Err(status)),
                Admission::Wait { bucket, after } => {
                    (self.bucket, self.after) = (bucket, after);
                    self.timer.as_mut().reset(Instant::now() + after);
                }
            }
        }
    }
}

/// Decompresses, decodes, and starts the method; user code that panics over it is answered.
#[inline]
fn start(route: &Route, context: &Context, request: Encoded, spare: &mut Option<SpareFuture>) -> Reply {
    let started = catch_unwind(AssertUnwindSafe(|| decode(route, context, request, spare)));
    match started {
        Ok(reply) => reply.unwrap_or_else(Into::into),
        Err(panic) => panicked(route, &*panic).into(),
    }
}

#[inline]
fn decode(
    route: &Route,
    context: &Context,
    request: Encoded,
    spare: &mut Option<SpareFuture>,
) -> Result<Reply, Status> {
    let header = request.frame.header;
    let Some(codec) = Codec::from_number(header.codec) else {
        let message = format!("codec {} is unknown here: use bincode or json", header.codec);
        return Err(refused(Code::InvalidArgument, message));
    };
    let Some(compression) = Compression::from_number(header.compression) else {
        let message = format!("compression {} is unknown here: use gzip or zlib", header.compression);
        return Err(refused(Code::InvalidArgument, message));
    };
    let mut body = request.frame.body;
    body.advance(request.start);
    if compression != Compression::None {
        body = compression.expand(&body, request.max_frame).map_err(cannot_expand)?.into();
    }
    Ok(route.service.call(Request {
        service: route.descriptor,
        method: route.method,
        codec,
        argc: request.argc,
        body: &body,
        context,
        spare,
    }))
}

fn cannot_expand(error: ExpandError) -> Status {
    let code = match error {
        ExpandError::TooLarge { .. } => Code::ResourceExhausted,
        ExpandError::Corrupt { .. } => Code::InvalidArgument,
    };
    refused(code, error.to_string())
}

/// Logs what user code panicked with, and makes the call's answer.
#[cold]
fn panicked(route: &Route, panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
    error!(service = &*route.name, method = route.method_name(), "a method panicked: {text}");
    meter::panicked();
    Status::new(Code::Internal, "the method panicked; the server's log has the details")
}

/// The status of a call whose deadline has passed.
pub(crate) fn overdue() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed on the server")
}

/// A status that says that the call was not executed.
pub(crate) fn refused(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, message).with_outcome(Outcome::Refused)
}

/// One call away from its connection's task, with all that it needs to come back.
pub(crate) struct Parked {
    pub(crate) call: Call,
    pub(crate) route: Arc<Route>,
    pub(crate) deadline: Instant,
    /// Time at which the request arrived.
    pub(crate) began: Instant,
}

impl Parked {
    /// Counts an answered call, if its route is measured.
    #[inline]
    pub(crate) fn measure(&self, now: Instant) {
        self.measure_as(self.call.code(), now);
    }

    /// Counts a call that ended like this, if its route is measured.
    #[inline]
    pub(crate) fn measure_as(&self, code: Code, now: Instant) {
        if let Some(stats) = &self.route.stats {
            stats.add(code, now.saturating_duration_since(self.began), 1);
        }
    }
}
