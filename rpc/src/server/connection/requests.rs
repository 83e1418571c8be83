//! The requests of one connection: checked, admitted, decoded, and answered in place where that is quick.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    Mailbox,
    calls::{Call, Running, overdue},
};
use crate::{
    Code, Codec, Compression, Context, Incoming, Outcome, Status,
    buffer::FrameBuf,
    compress::ExpandError,
    context::Peer,
    frame::{ClientHello, Malformed, RequestHead},
    reply::{ResponseForm, panicked},
    server::{Shared, dispatch::Route, limit::Admission, pace},
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
    /// Whether this batch has a request.
    taken: bool,
    /// How many polls are timed, whatever is known of their methods.
    suspicious: u32,
    /// How long the timed polls of this batch took.
    spent: Duration,
}

/// After a batch that took long, so many polls are timed.
const SUSPICIOUS: u32 = 64;

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
            taken: false,
            suspicious: 0,
            spent: Duration::ZERO,
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
            self.taken = true;
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
        &mut self,
        admitted: Admitted,
        form: ResponseForm,
        compression: Option<Compression>,
        frame: Frame,
        out: &mut FrameBuf,
    ) {
        let max_frame = self.shared.config.max_frame;
        let deadline = admitted.context.deadline();
        if let Some((bucket, after)) = admitted.wait {
            let pool = self.shared.compute.clone();
            return self.running.spawn(&self.mailbox, form, deadline, |permit| async move {
                match admitted.wait_for_token(bucket, after).await {
                    Ok(admitted) => admitted.start(form, compression, &frame, max_frame).finish(pool, permit).await,
                    Err(status) => form.status_frame(&status),
                }
            });
        }
        let mut call = admitted.start(form, compression, &frame, max_frame);
        // Its bytes are decoded: the read buffer is free again before user code runs.
        drop(frame);
        if self.poll_in_place(&mut call, out) {
            return;
        }
        // A call that waits is polled once more there, with a waker: none is lost.
        let pool = self.shared.compute.clone();
        self.running.spawn(&self.mailbox, form, deadline, |permit| call.finish(pool, permit));
    }

    /// True when the call is answered.
    fn poll_in_place(&mut self, call: &mut Call, out: &mut FrameBuf) -> bool {
        if call.route.pace.is_slow() {
            return false;
        }
        let mut cx = TaskContext::from_waker(Waker::noop());
        if self.suspicious == 0 && !call.route.pace.is_probed() {
            return call.poll(&mut cx, out).is_ready();
        }
        let before = Instant::now();
        let answered = call.poll(&mut cx, out).is_ready();
        let took = before.elapsed();
        call.route.pace.observe(took);
        self.suspicious = self.suspicious.saturating_sub(1);
        self.spent += took;
        answered
    }

    /// Whether the answers so far should leave before another request is taken.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.spent > pace::LONG
    }

    /// A batch of requests has been taken: if it was long, the next polls are timed, to find out which method it was.
    pub(super) fn end_batch(&mut self) {
        self.spent = Duration::ZERO;
        if std::mem::take(&mut self.taken) && self.suspicious == 0 && self.now.elapsed() > pace::LONG {
            self.suspicious = SUSPICIOUS;
        }
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
            match self.route.buckets.admit_after(bucket, waited) {
                Admission::Granted => return Ok(self),
                Admission::Wait { bucket: next, after: more } => (bucket, after) = (next, more),
                Admission::Rejected(status) => return Err(status),
            }
        }
    }

    /// Decompresses, decodes, and starts the method. All of it may meet user code, which may panic.
    fn start(self, form: ResponseForm, compression: Option<Compression>, frame: &Frame, max_frame: usize) -> Call {
        let (context, route) = (self.context.clone(), self.route.clone());
        let called = catch_unwind(AssertUnwindSafe(|| self.call(compression, frame, max_frame)));
        let reply = match called {
            Ok(Ok(reply)) => reply,
            Ok(Err(status)) => status.into(),
            Err(_) => panicked().into(),
        };
        Call { form, reply, route, context: Some(context) }
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

fn refused(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, message).with_outcome(Outcome::Refused)
}
