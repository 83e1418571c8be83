//! Calls of a server that has layers.

use std::{
    any::Any,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Call, Encoded, known_compression, refused};
use crate::{
    Answer, Code, Compression, Context, Invocation, Next, Status,
    buffer::FrameBuf,
    call::Innermost,
    proto::{Frame, Header, Kind},
    server::dispatch::Route,
    service::{
        Reply, Running,
        reply::{ReplyOut, ResponseForm},
    },
};

/// Starts a call within the server's layers; it is not polled.
pub(super) fn start(route: &Arc<Route>, context: &Context, form: &ResponseForm, request: Encoded) -> Reply {
    let header = request.frame.header;
    let Some(codec) = route.encodings.codec(header.codec) else {
        return refused(Code::InvalidArgument, route.encodings.unknown_codec(header.codec)).into();
    };
    let compression = match known_compression(route, header.compression) {
        Ok(compression) => compression,
        Err(status) => return status.into(),
    };
    let mut arguments = request.frame.body;
    arguments.advance(request.start);
    let mut call = Invocation {
        service: route.name.clone(),
        method: route.method_name().into(),
        context: context.clone(),
        idempotent: route.descriptor.methods[route.method].idempotent,
        codec,
        compression,
        argc: request.argc,
        said: [0; 2],
        arguments: arguments.into(),
        max_frame: request.max_frame,
    };
    let innermost = Method { route: route.clone(), form: ResponseForm { compression: 0, ..*form } };
    let layers = route.layers.clone();
    let future = async move { Next { layers: &layers, innermost: &innermost }.run(&mut call).await };
    Reply::running(Box::pin(Layered(Box::pin(future))))
}

/// The method itself, behind all layers.
struct Method {
    route: Arc<Route>,
    form: ResponseForm,
}

#[async_trait]
impl Innermost for Method {
    async fn run(&self, call: &mut Invocation) -> Result<Answer, Status> {
        let header = Header { compression: call.compression.number(), codec: self.form.codec, ..self.header() };
        let frame = Frame { header, body: call.arguments.clone().into() };
        let request = Encoded { frame, argc: call.argc, start: 0, max_frame: call.max_frame };
        let mut method = Call::begin_method(self.form, &self.route, call.context.clone(), request, &mut None);
        let mut out = FrameBuf::default();
        poll_fn(|cx| method.poll(&self.route, cx, &mut out)).await;
        let unanswered = out.take_sent(out.len()).next();
        let response =
            Frame::encoded_in(&out).unwrap_or_else(|| Frame { header: self.header(), body: Bytes::new().into() });
        let mut answer = Answer::read(response, call.max_frame, &call.codec, &Compression::None)?;
        if let Some(unanswered) = unanswered {
            answer.tie(unanswered);
        }
        Ok(answer)
    }
}

impl Method {
    fn header(&self) -> Header {
        Header::control(Kind::Request, self.form.id)
    }
}

type LayeredFuture = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send>>;

/// A call within layers, as the method of a [`Reply`].
struct Layered(LayeredFuture);

impl Running for Layered {
    fn reuse(self: Pin<&mut Self>, _: &mut dyn Any) -> bool {
        false
    }

    fn poll_reply(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, out: &mut ReplyOut<'_>) -> Poll<()> {
        match ready!(self.0.as_mut().poll(cx)) {
            Ok(answer) => out.answer(answer),
            Err(status) => out.status(&status),
        }
        Poll::Ready(())
    }
}
