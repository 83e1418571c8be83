use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
};

use async_trait::async_trait;
use tracing::{Span, field::Empty, info_span};

use crate::{Answer, Context, Invocation, Layer, Metadata, Next, Status};

/// Opens one span a call, of level INFO and target `ms_rpc::call`, entered whenever the call is polled.
///
/// Fields follow OpenTelemetry's conventions for RPC: `rpc.system.name`, `rpc.method` (`goods/find`), and, once the call has
/// ended badly, `error.type`. The `propagate` ties it to the trace of the caller and passes it on.
///
/// ```no_run
/// # async fn example(registry: std::sync::Arc<dyn ms_register::MsRegister>) -> Result<(), ms_rpc::ServerError> {
/// use ms_rpc::{Server, layers::{Trace, TraceContext}};
///
/// let server = Server::bind("0.0.0.0:9112").await?.layer(Trace::server(TraceContext));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trace<P> {
    propagate: P,
    is_server: bool,
}

impl<P: Propagate> Trace<P> {
    /// For a server: each span continues the trace that the caller's metadata names.
    pub fn server(propagate: P) -> Self {
        Self { propagate, is_server: true }
    }

    /// For a client: the metadata of each call names the current trace.
    pub fn client(propagate: P) -> Self {
        Self { propagate, is_server: false }
    }
}

/// Carries traces over calls, by metadata such as `traceparent` and `tracestate` (W3C Trace Context).
pub trait Propagate: fmt::Debug + Send + Sync + 'static {
    /// Adds what names the trace of `span` to the metadata of an outgoing call.
    fn inject(&self, span: &Span, metadata: &mut Metadata);

    /// Makes `span`, which is not entered yet, continue the trace that an incoming call names.
    fn extract(&self, context: &Context, span: &Span);
}

/// Passes `traceparent` and `tracestate` of the call that is being served on to the calls that are made meanwhile, and
/// records the trace's id as the field `trace_id`. Without a tracer there is nothing else to propagate.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceContext;

const KEYS: [&str; 2] = ["traceparent", "tracestate"];

impl Propagate for TraceContext {
    fn inject(&self, _: &Span, metadata: &mut Metadata) {
        let Some(served) = Context::current() else { return };
        for key in KEYS {
            if let Some(value) = served.metadata(key) {
                // A value from a head fits into one.
                let _ = metadata.insert(key, value);
            }
        }
    }

    fn extract(&self, context: &Context, span: &Span) {
        // version "-" trace-id "-" parent-id "-" flags
        if let Some(id) = context.metadata(KEYS[0]).and_then(|parent| parent.split('-').nth(1)) {
            span.record("trace_id", id);
        }
    }
}

#[async_trait]
impl<P: Propagate> Layer for Trace<P> {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let method = format!("{}/{}", call.service(), call.method());
        let kind = if self.is_server { "server" } else { "client" };
        let span = info_span!(target: "ms_rpc::call", "rpc", "otel.name" = %method, "otel.kind" = kind,
            "rpc.system.name" = "ms-rpc", "rpc.method" = %method, trace_id = Empty, "error.type" = Empty);
        if self.is_server {
            self.propagate.extract(call.context(), &span);
        } else {
            self.propagate.inject(&span, call.context_mut().metadata_mut());
        }
        let result = {
            let mut run = pin!(next.run(call));
            poll_fn(|cx| span.in_scope(|| run.as_mut().poll(cx))).await
        };
        let code = match &result {
            Ok(answer) => answer.code(),
            Err(status) => status.code(),
        };
        if code != crate::Code::Ok {
            span.record("error.type", format_args!("{code:?}"));
        }
        result
    }
}
