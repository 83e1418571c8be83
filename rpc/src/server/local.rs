//! Calls from within the process, without a connection.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    Shared,
    call::{Parked, overdue},
    calls::{Admitted, Admitter, Timing},
    pace::Threads,
};
use crate::{
    Code, Peer,
    buffer::FrameBuf,
    proto::{Frame, Header, Kind},
    unanswered::Unanswered,
};

/// Serves single calls under a server's interceptors and limits. They are polled by their callers, but for methods that compute
/// or block.
#[derive(Clone, Debug)]
pub(crate) struct LocalServer {
    shared: Arc<Shared>,
    pub(crate) peer: Peer,
}

impl LocalServer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, peer: Peer::new() }
    }

    /// Names of the methods of a service, if it is served.
    pub(crate) fn methods(&self, service: &str) -> Option<impl Iterator<Item = &'static str>> {
        self.shared.dispatch.methods(service)
    }

    /// The response to a request, whose deadline is kept.
    pub(crate) async fn serve(&self, request: Frame) -> Frame {
        let (shared, now, bytes) = (&*self.shared, self.shared.ticker.tick(), request.body.len());
        let (mut admitter, mut timing) = (Admitter::new(self.peer.clone()), Timing::default());
        let (form, mut out) = (admitter.form(shared, &request), FrameBuf::default());
        match (admitter.admit(shared, form, request, now, (0, 0), &mut timing), admitter.route()) {
            (Ok(Admitted { mut call, deadline }), Some(route)) => {
                call.hold(shared.capacity.take(bytes));
                let parked = Parked { call, route: route.clone(), deadline, began: now };
                let answered = match route.pace.threads() {
                    Threads::InPlace => drive(parked).await,
                    Threads::Compute | Threads::Blocking => drive_elsewhere(parked).await,
                };
                match answered {
                    Some(answer) => out = answer,
                    None => form.status(&overdue(), &mut out),
                }
            }
            (Err(status), _) => form.status(&status, &mut out),
            (Ok(_), None) => {}
        }
        out.take_sent(out.len()).for_each(Unanswered::answered);
        // The caller takes an empty body for a malformed response.
        let nothing = || Frame { header: Header::control(Kind::Response, form.id), body: Bytes::new().into() };
        Frame::encoded_in(&out).unwrap_or_else(nothing)
    }
}

/// Polls a call until it is answered; `None` at its deadline.
async fn drive(mut parked: Parked) -> Option<FrameBuf> {
    let mut out = FrameBuf::default();
    let Parked { call, route, deadline, .. } = &mut parked;
    let answered = timeout_at(*deadline, poll_fn(|cx| call.poll(route, cx, &mut out))).await;
    let is_answered = answered.is_ok();
    let code = if is_answered { parked.call.code() } else { Code::DeadlineExceeded };
    parked.measure_as(code, Instant::now());
    is_answered.then_some(out)
}

/// The same on a thread that may be blocked, for as long as the caller waits: to the deadline, whatever the method does.
async fn drive_elsewhere(parked: Parked) -> Option<FrameBuf> {
    let (runtime, deadline, (waits, gone)) = (Handle::current(), parked.deadline, oneshot::channel::<()>());
    let driven = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                answered = drive(parked) => answered,
                _ = gone => None,
            }
        })
    });
    let answered = timeout_at(deadline, driven).await;
    drop(waits);
    answered.ok()?.ok().flatten()
}
