//! Life of one connection: one task reads, lets back ends work, and writes.

use std::{collections::VecDeque, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use governor::{DefaultDirectRateLimiter, Quota};
use ms_rpc::{Blob, CallOptions, Code, Status};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    Member, Refusal,
    backend::MessagesClient,
    clock::{Clock, Judgement},
    frame::Frame,
    outbox::{End, Outbox},
    shared::Shared,
    wire::{Wire, WireError},
};

/// Message by which zinx's clients show that they live. The gate answers it with the same content, unless a route says otherwise.
const HEARTBEAT: u32 = 99_999;
/// Answers that are written together at most, in bytes.
const TOGETHER: usize = 64 << 10;

/// Serves a client until its connection ends.
pub(crate) async fn serve<W: Wire>(shared: Arc<Shared>, mut wire: W, address: String) {
    let outbox = Arc::new(Outbox::new(shared.limits.queued_bytes));
    let member = shared.join(address.as_str().into(), outbox.clone());
    let limits = &shared.limits;
    let mut session = Session {
        number: member.id.number,
        member,
        outbox,
        rate: bucket(limits.messages_per_second, limits.burst),
        backends: Vec::new(),
        calls: FuturesUnordered::new(),
        shared: shared.clone(),
    };
    let why = session.run(&mut wire).await;
    session.finish(&mut wire, why).await;
}

fn bucket(per_second: u32, burst: u32) -> Option<DefaultDirectRateLimiter> {
    let per_second = NonZeroU32::new(per_second)?;
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Some(DefaultDirectRateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)))
}

/// End of a session.
enum Why {
    /// The client closed its side.
    Left,
    /// The client broke a rule, or the connection broke.
    Wrong(WireError),
    /// The client was silent for too long, or did not end a frame.
    Silent,
    /// The client did not read.
    Stalled,
    /// From outside.
    End(End),
}

/// Result of a message.
struct Done {
    msg_id: u32,
    /// Group of the back end; `None`: the gate itself.
    group: Option<Arc<str>>,
    answer: Result<Option<Blob>, Status>,
}

/// Frames that were taken of those that were received.
#[derive(Default)]
struct Taken {
    any: bool,
    all: bool,
}

struct Session {
    number: u64,
    member: Member,
    outbox: Arc<Outbox>,
    rate: Option<DefaultDirectRateLimiter>,
    /// Clients of the groups that this member has written to: their key keeps it at one back end, where the balancer hashes.
    backends: Vec<(Arc<str>, MessagesClient)>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    shared: Arc<Shared>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outbox.end(End::Closed);
        self.shared.leave(self.number);
    }
}

impl Session {
    async fn run<W: Wire>(&mut self, wire: &mut W) -> Why {
        let shared = self.shared.clone();
        let limits = &shared.limits;
        let mut clock = Clock::new(limits.idle, limits.frame_within);
        let mut batch = VecDeque::new();
        let outbox = self.outbox.clone();
        loop {
            if let Err(why) = self.write(wire, &mut batch).await {
                return why;
            }
            let Taken { any, all } = match self.take_frames(wire) {
                Ok(taken) => taken,
                Err(error) => return Why::Wrong(error),
            };
            clock.seen(any, all && wire.has_partial());
            tokio::select! {
                biased;
                () = outbox.ready() => {}
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.settle(done),
                received = wire.receive(), if all => match received {
                    Ok(true) => clock.heard(),
                    Ok(false) => return Why::Left,
                    Err(error) => return Why::Wrong(error),
                },
                () = clock.tick() => match clock.judge() {
                    Judgement::Wait => {}
                    Judgement::Probe => drop(timeout(limits.stall, wire.probe()).await),
                    Judgement::Silent => return Why::Silent,
                },
            }
        }
    }

    /// Writes what waits for the client.
    async fn write<W: Wire>(&mut self, wire: &mut W, batch: &mut VecDeque<Bytes>) -> Result<(), Why> {
        loop {
            if let Some(end) = self.outbox.ended() {
                return Err(Why::End(end));
            }
            self.outbox.take(batch);
            if batch.is_empty() {
                return Ok(());
            }
            let bytes = batch.iter().map(Bytes::len).sum();
            tokio::select! {
                biased;
                sent = timeout(self.shared.limits.stall, wire.send(batch)) => match sent {
                    Ok(Ok(())) => self.outbox.written(bytes),
                    Ok(Err(error)) => return Err(Why::Wrong(error.into())),
                    Err(_) => return Err(Why::Stalled),
                },
                end = self.outbox.until_ended() => return Err(Why::End(end)),
            }
        }
    }

    /// Begins to work on the frames that are there, and answers those that are answered at once.
    /// The rest waits where there is enough to do, or enough to write.
    fn take_frames<W: Wire>(&mut self, wire: &mut W) -> Result<Taken, WireError> {
        let mut taken = Taken::default();
        while self.calls.len() < self.shared.limits.in_flight && self.outbox.waiting() < TOGETHER {
            let Some(frame) = wire.next()? else {
                taken.all = true;
                break;
            };
            self.take(frame);
            taken.any = true;
        }
        let mut bytes = 0;
        while bytes < TOGETHER
            && let Some(Some(done)) = self.calls.next().now_or_never()
        {
            bytes += done.answer.as_ref().map_or(0, |answer| answer.as_ref().map_or(0, |data| data.len()));
            self.settle(done);
        }
        Ok(taken)
    }

    fn take(&mut self, frame: Frame) {
        let Frame { msg_id, data } = frame;
        self.shared.meter.received();
        if self.rate.as_ref().is_some_and(|rate| rate.check().is_err()) {
            return self.refuse(&Refusal::too_many(msg_id));
        }
        let data = Blob(data);
        if let Some(handler) = self.shared.handlers.get(&msg_id) {
            let call = handler(self.now(), msg_id, data);
            self.calls.push(call.map(move |answer| Done { msg_id, group: None, answer: Ok(answer) }).boxed());
            return;
        }
        let group = self.shared.routes.load().group(msg_id).cloned();
        match group {
            Some(group) if *group == *self.shared.group => {
                let text = format!("the gate has no handler for message {msg_id}");
                self.refuse(&Refusal::new(msg_id, Code::Unimplemented, text));
            }
            Some(group) => {
                let (client, from) = (self.client(&group), self.now());
                let call = async move { client.message(from, msg_id, data).await };
                self.calls.push(call.map(move |answer| Done { msg_id, group: Some(group), answer }).boxed());
            }
            None if msg_id == HEARTBEAT => drop(self.outbox.push(Frame::encode(msg_id, &data))),
            None => self.refuse(&Refusal::no_route(msg_id)),
        }
    }

    /// The member as it is now: a user may have been bound to it.
    fn now(&self) -> Member {
        self.shared.members().describe(self.number).unwrap_or_else(|| self.member.clone())
    }

    fn client(&mut self, group: &Arc<str>) -> MessagesClient {
        if let Some((_, client)) = self.backends.iter().find(|(known, _)| known == group) {
            return client.clone();
        }
        let key = self.member.id.to_string();
        let options = CallOptions::new().key(key).deadline(self.shared.limits.backend_timeout);
        let client = MessagesClient::named(group, &self.shared.proxy).with(options);
        self.backends.push((group.clone(), client.clone()));
        client
    }

    fn settle(&self, done: Done) {
        if let Some(frame) = self.answer(done) {
            self.outbox.push(frame);
        }
    }

    /// The frame that answers a message, if one does.
    fn answer(&self, done: Done) -> Option<Bytes> {
        match done {
            Done { msg_id, answer: Ok(answer), .. } => answer.map(|data| Frame::encode(msg_id, &data)),
            Done { msg_id, group, answer: Err(status) } => {
                let group = group.unwrap_or_else(|| self.shared.group.as_str().into());
                debug!("message {msg_id} of {}: {status}", self.member.id);
                let refusal = Refusal::unanswered(msg_id, &group, &status);
                self.shared.meter.refused(&refusal.code);
                Some(refusal.encode())
            }
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        self.shared.meter.refused(&refusal.code);
        self.outbox.push(refusal.encode());
    }

    /// Ends the connection as `why` asks for.
    async fn finish<W: Wire>(mut self, wire: &mut W, why: Why) {
        let dropped = match &why {
            Why::Wrong(WireError::Broken(_)) | Why::Left | Why::End(End::Closed | End::Shutdown) => None,
            Why::Wrong(_) => Some("malformed"),
            Why::Silent => Some("silent"),
            Why::Stalled | Why::End(End::Slow) => Some("slow"),
        };
        dropped.into_iter().for_each(|reason| self.shared.meter.dropped(reason, &self.member.address));
        if matches!(why, Why::Wrong(WireError::Broken(_)) | Why::Stalled | Why::End(End::Slow)) {
            return;
        }
        let mut last = VecDeque::new();
        self.outbox.take(&mut last);
        if matches!(why, Why::Left | Why::Wrong(_) | Why::End(End::Shutdown)) {
            // The client may read on: what it has asked for is answered.
            while let Some(done) = self.calls.next().await {
                last.extend(self.answer(done));
            }
        }
        let error = if let Why::Wrong(error) = &why { Some(error) } else { None };
        last.extend(error.and_then(WireError::refusal).map(|refusal| refusal.encode()));
        let ending = async {
            if wire.send(&mut last).await.is_ok() {
                wire.close(error).await;
            }
        };
        let _ = timeout(self.shared.limits.stall, ending).await;
    }
}
