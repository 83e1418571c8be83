use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{
    options::{CallOptions, ClientConfig},
    request::{CallRequest, EncodeArguments, not_sent},
};
use crate::{
    Answer, Code, Status,
    buffer::FrameBuf,
    proto::{Frame, Header, LARGEST_MAX_FRAME},
};

/// The response frame of a call that is served within the process.
pub(crate) type Served<'a> = Pin<Box<dyn Future<Output = Frame> + Send + 'a>>;

/// A server within the process: request frames in, response frames out.
pub(crate) trait ServeFrame: Send + Sync {
    /// Serves one request, within the deadline that it brings.
    fn serve(&self, request: Frame) -> Served<'_>;
}

/// The client's side of a [`Local`](crate::Local).
#[derive(Clone)]
pub struct InProcess {
    pub(crate) server: Arc<dyn ServeFrame>,
    config: Arc<ClientConfig>,
    pub(super) options: CallOptions,
}

impl InProcess {
    pub(crate) fn new(server: Arc<dyn ServeFrame>, options: CallOptions) -> Self {
        Self { server, config: Arc::default(), options }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(super) async fn exchange<A: EncodeArguments + ?Sized>(
        &self,
        request: &CallRequest<'_>,
        arguments: &A,
    ) -> Result<Answer, Status> {
        let mut sent = FrameBuf::default();
        // The time of the call begins.
        request.deadline();
        request.encode(arguments, LARGEST_MAX_FRAME, &mut sent)?;
        let Some(Frame { header, body }) = Frame::encoded_in(&sent) else {
            return Err(not_sent(Code::Internal, "a request was encoded that is no frame"));
        };
        let answer = self.server.serve(Frame { header: Header { id: 1, ..header }, body }).await;
        request.answered(Answer::read(answer, LARGEST_MAX_FRAME, request.codec, request.compression))
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}
