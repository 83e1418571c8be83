//! The requests of one connection: checked, admitted, and run in place or beside it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Mailbox, running::Running};
use crate::{
    Code, Codec, Compression, Context, Incoming, Outcome, Status,
    buffer::{FrameBuf, give_scratch, take_scratch},
    compress::ExpandError,
    context::Peer,
    frame::{ClientHello, Malformed, RequestHead},
    reply::{ResponseForm, panicked},
    server::{Shared, compute::ComputePool, dispatch::Route, limit::Admission},
    service::{Reply, Request},
    transport::Frame,
};

pub(super) struct Requests {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    peer: Arc<Peer>,
    /// What the client wants answers compressed with when its request was not.
    preferred: Compression,
    last_id: u64,
    /// When the bytes arrived that are being served.
    now: Instant,
    running: Arc<Running>,
}

/// One call, decoded as far as it needs to be to run.
struct Call {
    form: ResponseForm,
    reply: Reply,
    /// Taken while the reply is polled.
    context: Option<Context>,
}

impl Requests {
    pub(super) fn new(peer: Peer, mailbox: Arc<Mailbox>, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            mailbox,
            peer: Arc::new(peer),
            preferred: Compression::None,
            last_id: 0,
            now: Instant::now(),
            running: Arc::default(),
        }
    }

    pub(super) fn set_hello(&mut self, hello: ClientHello) {
        self.preferred = hello.compressions.iter().find_map(|n| Compression::from_number(*n)).unwrap_or_default();
        self.peer = Arc::new(Peer { address: self.peer.address, name: hello.name, credentials: hello.credentials });
    }

    /// New bytes have arrived: one reading of the clock serves all requests in them.
    pub(super) fn tick(&mut self) {
        self.now = self.shared.ticker.tick();
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn running(&self) -> usize {
        self.running.count()
    }

    /// Takes one request: its answer is in `out` now, or comes by the mailbox.
    pub(super) fn take(&mut self, frame: Frame, draining: bool, out: &mut FrameBuf) -> Result<(), Malformed> {
        let id = frame.header.id;
        if id <= self.last_id {
            return Err(Malformed::FallingId { id, last: self.last_id });
        }
        let config = &self.shared.config;
        let compression = Compression::from_number(frame.header.compression);
        let form = ResponseForm {
            id,
            codec: frame.header.codec,
            compression: compression.filter(|c| *c != Compression::None).unwrap_or(self.preferred),
            threshold: config.compress_above,
            max_frame: config.max_frame,
        };
        let admitted = if draining {
            // Said before it came: the client knows that calls above the last id were not executed.
            Err(refused(Code::Unavailable, "the server is shutting down"))
        } else {
            self.last_id = id;
            self.admit(&frame)
        };
        match admitted {
            Err(status) => form.status(&status, out),
            Ok(admitted) => self.run(admitted, form, compression, frame, out),
        }
        Ok(())
    }

    /// All that is decided by the head alone.
    fn admit(&self, frame: &Frame) -> Result<Admitted, Status> {
        let (head, value) = RequestHead::parse(&frame.body)
            .map_err(|error| Status::invalid(error.to_string()).with_outcome(Outcome::Refused))?;
        if self.running() >= self.shared.config.max_in_flight {
            return Err(refused(Code::Unavailable, "too many calls are in flight on this connection"));
        }
        let deadline = self.now + Duration::from_millis(head.timeout_ms.into());
        let pairs = if head.pairs.len() > 1 { frame.body.slice_ref(head.pairs) } else { Bytes::new() };
        let mut context = Context::new(deadline, self.peer.clone(), pairs);
        let mut incoming = Incoming { service: head.service, method: head.method, context: &mut context };
        self.shared.dispatch.intercept(&mut incoming)?;
        let route = self.shared.dispatch.route(head.service, head.method)?;
        let wait = match route.buckets.admit(0, Duration::ZERO) {
            Admission::Granted => None,
            Admission::Wait { bucket, after } => Some((bucket, after)),
            Admission::Rejected(status) => return Err(status),
        };
        Ok(Admitted { route: route.clone(), context, argc: head.argc, value, wait })
    }

    fn run(
        &self,
        admitted: Admitted,
        form: ResponseForm,
        compression: Option<Compression>,
        frame: Frame,
        out: &mut FrameBuf,
    ) {
        let max_frame = self.shared.config.max_frame;
        let pool = admitted.route.info().compute.then(|| self.shared.compute.clone());
        let deadline = admitted.context.deadline();
        if let Some((bucket, after)) = admitted.wait {
            return self.spawn(form, deadline, async move {
                match admitted.wait_for_token(bucket, after).await {
                    Ok(admitted) => finish(admitted.start(form, compression, &frame, max_frame), pool).await,
                    Err(status) => form.status_frame(&status),
                }
            });
        }
        let mut call = admitted.start(form, compression, &frame, max_frame);
        // Its bytes are decoded: the read buffer is free again before user code runs.
        drop(frame);
        if pool.is_none() && call.poll(&mut TaskContext::from_waker(Waker::noop()), out).is_ready() {
            return;
        }
        // A call that waits is polled once more there, with a waker: none is lost.
        self.spawn(form, deadline, finish(call, pool));
    }

    fn spawn<F>(&self, form: ResponseForm, deadline: Instant, work: F)
    where
        F: Future<Output = FrameBuf> + Send + 'static,
    {
        let mailbox = self.mailbox.clone();
        self.running.spawn(form.id, self.mailbox.clone(), async move {
            let answer = timeout_at(deadline, work).await;
            let mut answer = answer.unwrap_or_else(|_| form.status_frame(&overdue()));
            mailbox.post(&mut answer);
            give_scratch(answer);
        });
    }

    pub(super) fn cancel(&self, id: u64) {
        self.running.cancel(id);
    }

    pub(super) fn cancel_all(&self) {
        self.running.cancel_all();
    }
}

/// A request that may run.
struct Admitted {
    route: Arc<Route>,
    context: Context,
    argc: u8,
    /// Where the value starts in the frame's body.
    value: usize,
    /// It waits for this bucket first.
    wait: Option<(usize, Duration)>,
}

impl Admitted {
    async fn wait_for_token(self, mut bucket: usize, mut after: Duration) -> Result<Self, Status> {
        let mut waited = Duration::ZERO;
        loop {
            if after > self.context.remaining() {
                return Err(overdue().with_outcome(Outcome::Refused));
            }
            sleep(after).await;
            waited += after;
            match self.route.buckets.admit(bucket, waited) {
                Admission::Granted => return Ok(self),
                Admission::Wait { bucket: next, after: more } => (bucket, after) = (next, more),
                Admission::Rejected(status) => return Err(status),
            }
        }
    }

    /// Decompresses, decodes, and starts the method. All of it may meet user code, which may panic.
    fn start(self, form: ResponseForm, compression: Option<Compression>, frame: &Frame, max_frame: usize) -> Call {
        let context = self.context.clone();
        let called = catch_unwind(AssertUnwindSafe(|| self.call(compression, frame, max_frame)));
        let reply = match called {
            Ok(Ok(reply)) => reply,
            Ok(Err(status)) => status.into(),
            Err(_) => panicked().into(),
        };
        Call { form, reply, context: Some(context) }
    }

    fn call(self, compression: Option<Compression>, frame: &Frame, max_frame: usize) -> Result<Reply, Status> {
        let Some(codec) = Codec::from_number(frame.header.codec) else {
            let message = format!("codec {} is unknown here: use bincode or json", frame.header.codec);
            return Err(refused(Code::InvalidArgument, message));
        };
        let Some(compression) = compression else {
            let message = format!("compression {} is unknown here: use gzip or zlib", frame.header.compression);
            return Err(refused(Code::InvalidArgument, message));
        };
        let value = frame.body.slice(self.value..);
        let body = match compression {
            Compression::None => value,
            compressed => compressed.expand(&value, max_frame).map(Bytes::from).map_err(|error| match error {
                ExpandError::TooLarge { .. } => refused(Code::ResourceExhausted, error.to_string()),
                ExpandError::Corrupt { .. } => refused(Code::InvalidArgument, error.to_string()),
            })?,
        };
        let request = Request {
            service: self.route.descriptor,
            method: self.route.method,
            codec,
            argc: self.argc,
            body,
            context: self.context,
        };
        Ok(self.route.service.call(request))
    }
}

impl Call {
    fn poll(&mut self, cx: &mut TaskContext<'_>, out: &mut FrameBuf) -> Poll<()> {
        self.form.poll(&mut self.reply, &mut self.context, cx, out)
    }
}

/// Drives a call to its end, on the pool if it computes; returns its frame.
async fn finish(mut call: Call, pool: Option<ComputePool>) -> FrameBuf {
    let form = call.form;
    let Some(pool) = pool else {
        let mut out = take_scratch();
        poll_fn(|cx| call.poll(cx, &mut out)).await;
        return out;
    };
    let run = pool.run(move |cx| {
        let mut out = take_scratch();
        call.poll(cx, &mut out).map(|()| out)
    });
    let stopped = || form.status_frame(&Status::unavailable("the server's runtime is shutting down"));
    run.await.unwrap_or_else(stopped)
}

fn refused(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, message).with_outcome(Outcome::Refused)
}

fn overdue() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed on the server")
}
