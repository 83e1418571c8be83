//! The requests of one connection: checked, admitted, decoded, and answered in place where that is quick.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Mailbox,
    calls::{Call, Running, overdue},
    waiting::Waiting,
};
use crate::{
    Code, Codec, Compression, Context, Incoming, Metadata, Outcome, Status,
    buffer::FrameBuf,
    call::Peer,
    compress::ExpandError,
    meter::{self, Shed},
    net::Frame,
    proto::{ClientHello, KnownHead, LARGEST_MAX_FRAME, Malformed, RequestHead, SMALLEST_MAX_FRAME},
    server::{
        Shared,
        dispatch::{Dispatch, Route},
        limit::{Admission, Ticker},
        load::{Load, RETRY_AFTER},
        pace::{self, Pace},
        stopwatch::Stopwatch,
    },
    service::{
        Place, Reply, Request,
        reply::{self, ResponseForm},
    },
};

pub(super) struct Requests {
    mailbox: Arc<Mailbox>,
    peer: Arc<Peer>,
    /// What the client wants answers compressed with when its request was not.
    preferred: Compression,
    /// The largest frame that the client takes.
    largest_answer: usize,
    last_id: u64,
    /// When the turn began.
    now: Instant,
    /// What the last request's head led to: most often the next one leads there too.
    known: Option<Known>,
    /// The last answered call's context, and the place where its method was: for the next one.
    spare_context: Option<Context>,
    spare_place: Option<Place>,
    timing: Timing,
    waiting: Waiting,
    running: Arc<Running>,
    /// Bytes of requests that wait for a token.
    held: Arc<Load>,
}

/// So many bytes of requests may wait for tokens on one connection, or one frame that is larger.
const HELD: usize = 1 << 20;

/// A head without metadata, and what it says.
struct Known {
    head: KnownHead,
    argc: u8,
    route: Arc<Route>,
}

impl Requests {
    pub(super) fn new(peer: Peer, mailbox: Arc<Mailbox>, shared: &Shared) -> Self {
        Self {
            waiting: Waiting::new(mailbox.clone(), shared.load.clone()),
            mailbox,
            peer: Arc::new(peer),
            preferred: Compression::None,
            largest_answer: LARGEST_MAX_FRAME,
            last_id: 0,
            now: Instant::now(),
            known: None,
            spare_context: None,
            spare_place: None,
            timing: Timing::default(),
            running: Arc::new(Running::new(shared.load.clone())),
            held: Load::new(shared.config.max_frame.max(HELD)),
        }
    }

    pub(super) fn set_hello(&mut self, hello: ClientHello) {
        self.preferred = hello.compressions.iter().find_map(|n| Compression::from_number(*n)).unwrap_or_default();
        self.spare_context = None;
        self.peer = Arc::new(Peer { address: self.peer.address, name: hello.name, credentials: hello.credentials });
        if hello.max_frame > 0 {
            self.largest_answer = SMALLEST_MAX_FRAME.max(hello.max_frame as usize);
        }
    }

    /// New bytes have arrived, or calls go on: one reading of the clock serves all of them.
    pub(super) fn tick(&mut self, ticker: &Ticker) {
        self.now = ticker.tick();
    }

    /// When that was last.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn running(&self) -> usize {
        self.waiting.count() + self.running.count()
    }

    /// Where the places of calls that go on are added.
    pub(super) fn ready(&mut self) -> &mut VecDeque<u32> {
        self.waiting.ready()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.waiting.is_ready()
    }

    /// Lets a call go on; false when there is none. If that is its end, its answer is in `out`.
    pub(super) fn resume(&mut self, shared: &Shared, out: &mut FrameBuf) -> bool {
        let Some(place) = self.waiting.next_ready() else { return false };
        let Some((Call { form, reply, route, context, .. }, waker)) = self.waiting.get(place) else { return true };
        let poll = || form.poll(reply, context, &mut TaskContext::from_waker(waker), out).is_ready();
        if self.timing.poll_in_place(&route.later_pace, poll) {
            if let Some((call, _)) = self.waiting.take(place) {
                (self.spare_context, self.spare_place) = (call.context, call.reply.into_place());
            }
        } else if route.later_pace.is_slow()
            && let Some((call, deadline)) = self.waiting.take(place)
        {
            self.run_on_pool(shared, call, deadline);
        }
        true
    }

    /// Ends the calls whose time is over.
    pub(super) fn poll_deadlines(&mut self, cx: &mut TaskContext<'_>, out: &mut FrameBuf) {
        self.waiting.poll_deadlines(cx, out);
    }

    fn run_on_pool(&self, shared: &Shared, call: Call, deadline: Instant) {
        let pool = shared.compute.clone();
        self.running.spawn(&self.mailbox, call.form, deadline, |permit| call.finish(pool, permit));
    }

    /// Whether the answers so far should leave before another request is taken.
    pub(super) fn is_long(&self) -> bool {
        self.timing.spent > pace::LONG
    }

    /// A batch of requests has been taken.
    pub(super) fn end_batch(&mut self) {
        self.timing.end_batch(self.now);
        // A connection that rests holds as little as it can.
        (self.spare_context, self.spare_place) = (None, None);
    }

    /// Takes one request: its answer is in `out` now, or comes by the mailbox.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        frame: Frame,
        draining: bool,
        out: &mut FrameBuf,
    ) -> Result<(), Malformed> {
        let id = frame.header.id;
        if id <= self.last_id {
            return Err(Malformed::FallingId { id, last: self.last_id });
        }
        let compression = Compression::from_number(frame.header.compression);
        let form = ResponseForm {
            id,
            codec: frame.header.codec,
            compression: compression.filter(|c| *c != Compression::None).unwrap_or(self.preferred),
            threshold: shared.config.compress_above,
            max_frame: shared.config.max_frame.min(self.largest_answer),
        };
        let served = if draining {
            // Said before it came: the client knows that calls above the last id were not executed.
            meter::shed(Shed::Draining);
            Err(refused(Code::Unavailable, "the server is shutting down"))
        } else {
            self.last_id = id;
            self.serve(shared, form, frame, out)
        };
        if let Err(status) = served {
            form.status(&status, out);
        }
        Ok(())
    }

    /// Decides by the head alone whether the call may run, and runs it. An error is its answer.
    fn serve(&mut self, shared: &Shared, form: ResponseForm, frame: Frame, out: &mut FrameBuf) -> Result<(), Status> {
        let last = self.known.take();
        let known = last.as_ref().and_then(|known| Some((known, known.head.timeout_ms(&frame.body)?)));
        let is_known = known.is_some();
        let (head, value) = match known {
            Some((known, timeout_ms)) => (known.head(timeout_ms), known.head.len()),
            None => RequestHead::parse(&frame.body)
                .map_err(|error| Status::invalid(error.to_string()).with_outcome(Outcome::Refused))?,
        };
        self.check_load(shared, head.service)?;
        let deadline = self.now + Duration::from_millis(head.timeout_ms.into());
        let metadata = Metadata::from_encoded(head.pairs);
        let mut context = match self.spare_context.take() {
            Some(context) => context,
            None => Context::of(deadline, self.peer.clone()),
        };
        context.renew(deadline, metadata);
        let mut incoming = Incoming { service: head.service, method: head.method, context: &mut context };
        shared.dispatch.intercept(&mut incoming)?;
        let arguments = Arguments { argc: head.argc, start: value, max_frame: shared.config.max_frame };
        let known = match last {
            Some(known) if is_known => known,
            _ => Known::look_up(&shared.dispatch, last.as_ref(), &head, &frame.body[..value])?,
        };
        let route = &self.known.insert(known).route;
        match route.buckets.admit(0, Duration::ZERO) {
            Admission::Granted => {}
            Admission::Rejected(status) => {
                meter::shed(Shed::RateLimit);
                return Err(status);
            }
            Admission::Wait { bucket, after } => {
                let Some(held) = self.held.take(frame.body.len()) else {
                    return Err(shed(Shed::Memory, "too many bytes wait for the rate limit on this connection"));
                };
                let (route, pool) = (route.clone(), shared.compute.clone());
                self.running.spawn(&self.mailbox, form, deadline, |permit| async move {
                    match wait_for_token(&route, &context, bucket, after).await {
                        Ok(()) => {
                            let reply = arguments.start(&route, &context, frame, &mut None);
                            drop(held);
                            Call { form, reply, route, context: Some(context), begun: false }.finish(pool, permit).await
                        }
                        Err(status) => permit.answer(&mut form.status_frame(&status)),
                    }
                });
                return Ok(());
            }
        }
        let place = &mut self.spare_place;
        // Its bytes are dropped when they are decoded: the read buffer is free again before the method runs.
        let mut reply = self.timing.decode(frame, |frame| arguments.start(route, &context, frame, place));
        let mut context = Some(context);
        let mut cx = TaskContext::from_waker(self.waiting.next_waker().unwrap_or(Waker::noop()));
        let mut begun = false;
        let poll = || {
            begun = true;
            form.poll(&mut reply, &mut context, &mut cx, out).is_ready()
        };
        if self.timing.poll_in_place(&route.pace, poll) {
            (self.spare_context, self.spare_place) = (context, reply.into_place());
            return Ok(());
        }
        let call = Call { form, reply, route: route.clone(), context, begun };
        if begun {
            self.waiting.put(call, deadline);
        } else {
            self.run_on_pool(shared, call, deadline);
        }
        Ok(())
    }

    /// Whether one more call may wait for its method. The framework's own services answer under any load: who asks for
    /// the health of a busy server must not take it for a dead one.
    #[inline]
    fn check_load(&self, shared: &Shared, service: &str) -> Result<(), Status> {
        let connection = self.running() >= shared.config.max_in_flight;
        if !connection && !shared.load.is_full() || service.starts_with("ms.") {
            return Ok(());
        }
        Err(if connection {
            shed(Shed::Connection, "too many calls are in flight on this connection")
        } else {
            shed(Shed::Server, "too many calls are in flight on this server")
        })
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.waiting.cancel(id);
        self.running.cancel(id);
    }

    pub(super) fn cancel_all(&mut self) {
        self.waiting.cancel_all();
        self.running.cancel_all();
    }
}

impl Known {
    /// Where this head leads: where the last one did, if it has the same names.
    fn look_up(dispatch: &Dispatch, last: Option<&Self>, head: &RequestHead<'_>, bytes: &[u8]) -> Result<Self, Status> {
        let route = match last.filter(|last| last.route.is(head.service, head.method)) {
            Some(last) => last.route.clone(),
            None => dispatch.route(head.service, head.method)?.clone(),
        };
        // What comes with metadata is parsed each time.
        let known = if head.pairs.len() > 1 { &[] } else { bytes };
        Ok(Self { head: KnownHead::new(known), argc: head.argc, route })
    }

    /// What the parser would say of a head with this timeout.
    #[inline]
    fn head(&self, timeout_ms: u32) -> RequestHead<'_> {
        let (service, method) = (&*self.route.name, self.route.method_name());
        RequestHead { timeout_ms, service, method, argc: self.argc, pairs: &[0] }
    }
}

/// Decoding more bytes than this is timed.
const MUCH: usize = 16 << 10;

/// Finds out which methods take long without reading the clock around each of them.
#[derive(Debug, Default)]
struct Timing {
    /// Whether this batch has a call that was not timed.
    untimed: bool,
    /// How many polls are timed, whatever is known of their methods.
    suspicious: u32,
    /// How long the timed polls of this batch took.
    spent: Duration,
}

impl Timing {
    /// After a batch that took long, so many polls are timed.
    const SUSPICIOUS: u32 = 64;

    /// True when the call is answered.
    #[inline]
    fn poll_in_place(&mut self, pace: &Pace, poll: impl FnOnce() -> bool) -> bool {
        if self.suspicious == 0 && !pace.is_probed() {
            self.untimed = true;
            return poll();
        }
        if pace.is_slow() {
            return false;
        }
        let watch = if pace.is_suspect() { Stopwatch::of_thread() } else { Stopwatch::start() };
        let answered = poll();
        pace.observe(watch.spent());
        self.suspicious = self.suspicious.saturating_sub(1);
        self.spent += watch.elapsed();
        answered
    }

    /// Decoding counts too, where there is enough of it to matter.
    #[inline]
    fn decode(&mut self, frame: Frame, decode: impl FnOnce(Frame) -> Reply) -> Reply {
        if frame.body.len() < MUCH && frame.header.compression == Compression::None.number() {
            return decode(frame);
        }
        let before = Instant::now();
        let reply = decode(frame);
        self.spent += before.elapsed();
        reply
    }

    /// If the batch was long, the next polls are timed.
    fn end_batch(&mut self, arrived: Instant) {
        self.spent = Duration::ZERO;
        if std::mem::take(&mut self.untimed) && arrived.elapsed() > pace::LONG {
            self.suspicious = Self::SUSPICIOUS;
        }
    }
}

/// Waits until the buckets have a token, as far as the limits and the deadline allow.
async fn wait_for_token(
    route: &Route,
    context: &Context,
    mut bucket: usize,
    mut after: Duration,
) -> Result<(), Status> {
    let mut waited = Duration::ZERO;
    loop {
        if after > context.remaining() {
            return Err(overdue().with_outcome(Outcome::Refused));
        }
        sleep(after).await;
        waited += after;
        match route.buckets.admit_after(bucket, waited) {
            Admission::Granted => return Ok(()),
            Admission::Wait { bucket: next, after: more } => (bucket, after) = (next, more),
            Admission::Rejected(status) => return Err(status),
        }
    }
}

/// The encoded arguments in a request's frame.
struct Arguments {
    argc: u8,
    /// Where they start in the frame's body.
    start: usize,
    max_frame: usize,
}

impl Arguments {
    /// Decompresses, decodes, and starts the method.
    #[inline]
    fn start(&self, route: &Route, context: &Context, frame: Frame, place: &mut Option<Place>) -> Reply {
        self.call(route, context, frame, place).unwrap_or_else(Into::into)
    }

    #[inline]
    fn call(&self, route: &Route, context: &Context, frame: Frame, place: &mut Option<Place>) -> Result<Reply, Status> {
        let Some(codec) = Codec::from_number(frame.header.codec) else {
            let message = format!("codec {} is unknown here: use bincode or json", frame.header.codec);
            return Err(refused(Code::InvalidArgument, message));
        };
        let Some(compression) = Compression::from_number(frame.header.compression) else {
            let message = format!("compression {} is unknown here: use gzip or zlib", frame.header.compression);
            return Err(refused(Code::InvalidArgument, message));
        };
        let mut body = frame.body;
        body.advance(self.start);
        if compression != Compression::None {
            body = compression.expand(&body, self.max_frame).map_err(cannot_expand)?.into();
        }
        let request = Request {
            service: route.descriptor,
            method: route.method,
            codec,
            argc: self.argc,
            body: &body,
            context,
            place,
        };
        Ok(reply::start(&*route.service, request))
    }
}

fn cannot_expand(error: ExpandError) -> Status {
    let code = match error {
        ExpandError::TooLarge { .. } => Code::ResourceExhausted,
        ExpandError::Corrupt { .. } => Code::InvalidArgument,
    };
    refused(code, error.to_string())
}

fn shed(why: Shed, message: &str) -> Status {
    meter::shed(why);
    refused(Code::Unavailable, message).with_retry_after(RETRY_AFTER)
}

fn refused(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, message).with_outcome(Outcome::Refused)
}
