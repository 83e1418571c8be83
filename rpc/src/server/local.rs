//! Calls from within the process, without a connection.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    Shared,
    call::overdue,
    calls::{Admitted, Admitter, Timing},
};
use crate::{
    Peer,
    buffer::FrameBuf,
    proto::{Frame, HEADER, Header},
    unanswered::Unanswered,
};

/// Serves single calls under a server's interceptors and limits. They are polled by their callers.
#[derive(Clone, Debug)]
pub(crate) struct LocalServer {
    shared: Arc<Shared>,
    pub(crate) peer: Peer,
}

impl LocalServer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, peer: Peer::new() }
    }

    /// The response to a request, whose deadline is kept.
    pub(crate) async fn serve(&self, request: Frame) -> Frame {
        let (shared, now, bytes) = (&*self.shared, self.shared.ticker.tick(), request.body.len());
        let (mut admitter, mut timing) = (Admitter::new(self.peer.clone()), Timing::default());
        let (form, mut out) = (admitter.form(shared, &request), FrameBuf::default());
        match (admitter.admit(shared, form, request, now, (0, 0), &mut timing), admitter.route()) {
            (Ok(Admitted { mut call, deadline }), Some(route)) => {
                call.hold(shared.capacity.take(bytes));
                let answered = timeout_at(deadline, poll_fn(|cx| call.poll(route, cx, &mut out))).await;
                drop(call);
                if answered.is_err() {
                    form.status(&overdue(), &mut out);
                }
            }
            (Err(status), _) => form.status(&status, &mut out),
            (Ok(_), None) => {}
        }
        out.take_sent(out.len()).for_each(Unanswered::answered);
        let frame = Bytes::from(out.gather(FrameBuf::default().mark()));
        let header = Header::parse(&frame, usize::MAX).ok().flatten().map(|(header, _)| header);
        Frame {
            header: header.unwrap_or_else(|| Header::control(crate::proto::Kind::Response, form.id)),
            body: frame.slice(HEADER..).into(),
        }
    }
}
