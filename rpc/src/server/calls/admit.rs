use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::timing::Timing;
use crate::{
    Code, Context, Incoming, Metadata, Outcome, Peer, Status,
    meter::{self, Shed},
    proto::{ClientHello, Frame, KnownHead, LARGEST_MAX_FRAME, RequestHead, SMALLEST_MAX_FRAME},
    server::{
        Shared,
        call::{Call, Encoded, refused},
        capacity::{Full, RETRY_AFTER},
        dispatch::{Dispatch, Route},
        limit::Admission,
    },
    service::{SpareFuture, reply::ResponseForm},
};

/// Decides by a request's head alone whether it may run. Of one connection.
pub(in crate::server) struct Admitter {
    peer: Arc<Peer>,
    /// Number of the compression of answers whose requests were not compressed, as the client wants it.
    preferred: u8,
    /// The largest frame that the client takes.
    largest_answer: usize,
    /// The last request's head and its route: most often the next request has the same.
    known: Option<Known>,
    /// Context and boxed future of the last answered call, to be used again within the batch.
    spare_context: Option<Context>,
    spare_future: Option<SpareFuture>,
}

/// A call that may run.
pub(in crate::server) struct Admitted {
    pub(in crate::server) call: Call,
    pub(in crate::server) deadline: Instant,
}

/// A head without metadata, and its route.
///
/// Nearly every request has the head of the one before, but for its timeout: comparing it takes a tenth of the instructions
/// of parsing it and looking its route up (`bench rpc`, instructions per call). To be deleted when heads get short.
struct Known {
    head: KnownHead,
    argc: u8,
    route: Arc<Route>,
}

/// Decoding more bytes than this is timed.
const MUCH: usize = 16 << 10;

impl Admitter {
    pub(in crate::server) fn new(peer: Peer) -> Self {
        Self {
            peer: Arc::new(peer),
            preferred: 0,
            largest_answer: LARGEST_MAX_FRAME,
            known: None,
            spare_context: None,
            spare_future: None,
        }
    }

    pub(in crate::server) fn set_hello(&mut self, hello: ClientHello, shared: &Shared) {
        let known = |number: &u8| shared.dispatch.encodings().compression(*number).is_some();
        self.preferred = hello.compressions.iter().copied().find(known).unwrap_or_default();
        self.spare_context = None;
        let peer = Peer::clone(&self.peer).with_name(hello.name).with_credentials(hello.credentials);
        self.peer = Arc::new(peer);
        if hello.max_frame > 0 {
            self.largest_answer = SMALLEST_MAX_FRAME.max(hello.max_frame as usize);
        }
    }

    /// How the response to a request is written.
    #[inline]
    pub(in crate::server) fn form(&self, shared: &Shared, frame: &Frame) -> ResponseForm {
        let asked = frame.header.compression;
        ResponseForm {
            id: frame.header.id,
            codec: frame.header.codec,
            compression: if asked == 0 { self.preferred } else { asked },
            level: shared.limits.compression_level,
            threshold: shared.limits.compress_above,
            max_frame: shared.limits.max_frame.min(self.largest_answer),
        }
    }

    /// The route of the last request that was admitted.
    #[inline]
    pub(in crate::server) fn route(&self) -> Option<&Arc<Route>> {
        self.known.as_ref().map(|known| &known.route)
    }

    /// Keeps what the last call left, for the next one.
    #[inline]
    pub(in crate::server) fn keep_spare(&mut self, (context, future): (Option<Context>, Option<SpareFuture>)) {
        (self.spare_context, self.spare_future) = (context, future);
    }

    /// Drops what was kept.
    pub(in crate::server) fn rest(&mut self) {
        self.keep_spare((None, None));
    }

    /// Admits a request: its names, the capacity, the interceptors and the rate limits allow it. An error is its answer.
    /// `held`: the calls of this connection, and their bytes.
    #[inline]
    pub(in crate::server) fn admit(
        &mut self,
        shared: &Shared,
        form: ResponseForm,
        frame: Frame,
        now: Instant,
        held: (usize, usize),
        timing: &mut Timing,
    ) -> Result<Admitted, Status> {
        let last = self.known.take();
        let known = last.as_ref().and_then(|known| Some((known, known.head.timeout_ms(&frame.body)?)));
        let is_known = known.is_some();
        let (head, start) = match known {
            Some((known, timeout_ms)) => (known.head(timeout_ms), known.head.len()),
            None => RequestHead::parse(&frame.body)
                .map_err(|error| Status::invalid(error.to_string()).with_outcome(Outcome::Refused))?,
        };
        check_capacity(shared, head.service, frame.body.len(), held)?;
        let deadline = now + Duration::from_millis(head.timeout_ms.into());
        let mut context = match self.spare_context.take() {
            Some(context) => context,
            None => Context::of(deadline, self.peer.clone()),
        };
        context.renew(deadline, Metadata::from_encoded(head.pairs));
        let mut incoming = Incoming { service: head.service, method: head.method, context: &mut context };
        shared.dispatch.intercept(&mut incoming)?;
        let argc = head.argc;
        let known = match last {
            Some(known) if is_known => known,
            _ => Known::look_up(&shared.dispatch, last.as_ref(), &head, &frame.body[..start])?,
        };
        let route = &self.known.insert(known).route;
        let much = frame.body.len() >= MUCH || frame.header.compression != 0;
        let request = Encoded { frame, argc, start, max_frame: shared.limits.max_frame };
        let call = match route.buckets.admit(0, Duration::ZERO) {
            Admission::Granted if much => {
                timing.count(|| Call::begin(form, route, context, request, &mut self.spare_future))
            }
            Admission::Granted => Call::begin(form, route, context, request, &mut self.spare_future),
            Admission::Wait { bucket, after } => Call::await_token(form, context, request, bucket, after),
            Admission::Rejected(status) => {
                meter::shed(Shed::RateLimit);
                if let Some(stats) = &route.stats {
                    stats.add(status.code(), Duration::ZERO, 1);
                }
                return Err(status);
            }
        };
        Ok(Admitted { call, deadline })
    }
}

/// Returns an error if the connection or the server has no room for another call. The framework's own services answer under
/// any load: a busy server must not look like a dead one to a health check.
#[inline]
fn check_capacity(shared: &Shared, service: &str, bytes: usize, (calls, held): (usize, usize)) -> Result<(), Status> {
    let limits = &shared.limits;
    let too_many = calls >= limits.max_in_flight;
    let too_large = held > 0 && held.saturating_add(bytes) > limits.max_request_bytes;
    if !too_many && !too_large && shared.capacity.check(bytes).is_ok() || service.starts_with("ms.") {
        return Ok(());
    }
    Err(if too_many {
        shed(Shed::Connection, "too many calls are in flight on this connection")
    } else if too_large {
        shed(Shed::Memory, "the requests in flight on this connection have too many bytes")
    } else if shared.capacity.check(bytes) == Err(Full::Bytes) {
        shed(Shed::Memory, "the requests in flight on this server have too many bytes")
    } else {
        shed(Shed::Server, "too many calls are in flight on this server")
    })
}

#[cold]
fn shed(why: Shed, message: &str) -> Status {
    meter::shed(why);
    refused(Code::Unavailable, message).with_retry_after(RETRY_AFTER)
}

impl Known {
    /// The route of this head: that of the last one, if it has the same names. The definitions of both sides are compared.
    fn look_up(
        dispatch: &Dispatch,
        last: Option<&Self>,
        head: &RequestHead<'_>,
        bytes: &[u8],
    ) -> Result<Self, Status> {
        let route = match last.filter(|last| last.route.is(head.service, head.method)) {
            Some(last) => last.route.clone(),
            None => dispatch.route(head.service, head.method)?.clone(),
        };
        route.method().signature.check(head.service, head)?;
        // A head with metadata is parsed each time.
        let known = if head.pairs.len() > 1 { &[] } else { bytes };
        Ok(Self { head: KnownHead::new(known), argc: head.argc, route })
    }

    /// The parsed form of this head with another timeout.
    #[inline]
    fn head(&self, timeout_ms: u32) -> RequestHead<'_> {
        let (service, method) = (&*self.route.name, self.route.method_name());
        RequestHead { timeout_ms, service, method, argc: self.argc, pairs: &[0], signature: 0, shape: 0 }
    }
}
