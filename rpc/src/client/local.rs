use std::{fmt, future::poll_fn, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::timeout_at;

use super::{
    answer::Answer,
    options::{CallOptions, ClientConfig},
    request::CallRequest,
};
use crate::{
    Code, Compression, Context, Metadata, Outcome, Service, Status,
    buffer::FrameBuf,
    net::Frame,
    proto::{HEADER, Header, Kind, LARGEST_MAX_FRAME, RequestHead},
    service::{
        Request,
        reply::{self, ResponseForm},
    },
};

/// A service in this process, called without a socket: the same encoding, deadlines and errors. For tests, and for a
/// program that serves and calls at once. Cheap to clone.
#[derive(Clone)]
pub struct Local {
    service: Arc<dyn Service>,
    config: Arc<ClientConfig>,
    pub(super) options: CallOptions,
}

impl Local {
    /// Calls go to `service`, whatever name they use.
    pub fn new(service: impl Service) -> Self {
        Self { service: Arc::new(service), config: Arc::default(), options: CallOptions::new() }
    }

    /// The same service with these options merged over its own, for typed clients made of it.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        Self { options: self.options.clone().merge(options), ..self.clone() }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(super) async fn exchange<A: Serialize + ?Sized>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
    ) -> Result<Answer, Status> {
        let descriptor = self.service.descriptor();
        let Some(method) = descriptor.methods.iter().position(|method| method.name == request.method) else {
            let message = format!("`{}` has no method `{}`", descriptor.name, request.method);
            return Err(Status::new(Code::Unimplemented, message).with_outcome(Outcome::Refused));
        };
        let mut sent = FrameBuf::default();
        let deadline = request.deadline();
        request.encode(arguments, LARGEST_MAX_FRAME, &mut sent)?;
        let sent = Bytes::from(sent.gather(FrameBuf::default().mark())).slice(HEADER..);
        let (head, value) = RequestHead::parse(&sent).map_err(|error| Status::invalid(error.to_string()))?;
        let context = Context::new(deadline).with_metadata(Metadata::from_encoded(head.pairs));
        let mut reply = reply::start(
            &*self.service,
            Request {
                service: descriptor,
                method,
                codec: request.codec,
                argc: head.argc,
                body: &sent.slice(value..).into(),
                context: &context,
                place: &mut None,
            },
        );
        let form = ResponseForm {
            id: 1,
            codec: request.codec.number(),
            compression: Compression::None,
            threshold: 0,
            max_frame: LARGEST_MAX_FRAME,
        };
        let (mut out, mut slot) = (FrameBuf::default(), Some(context));
        let running = poll_fn(|cx| form.poll(&mut reply, &mut slot, cx, &mut out));
        timeout_at(deadline, running).await.map_err(|_| request.overdue(Outcome::Unknown))?;
        let body = Bytes::from(out.gather(FrameBuf::default().mark())).slice(HEADER..);
        out.sent(out.len());
        let header = Header { codec: form.codec, ..Header::control(Kind::Response, 1) };
        Answer::read(Frame { header, body: body.into() }, LARGEST_MAX_FRAME, request.info)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Local").field(&self.service.descriptor().name).finish()
    }
}
