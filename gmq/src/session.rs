//! One connection: reads requests, has them carried out, and writes replies in the order of the requests.

use std::{io, pin::pin};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesOrdered,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, interval_at, sleep_until, timeout},
};

use crate::{
    channels::Inbox,
    limits::{AHEAD, COMMAND_WITHIN, DROPPED, HEARTBEAT, PIPELINED, WRITE_WITHIN},
    protocol::{Event, Protocol, Reply, Turn},
};

/// Speaks a protocol until the client goes, breaks the rules, or `stop` is done: what is being carried out then is replied to,
/// unless it waits for messages.
pub(crate) async fn converse<P: Protocol>(
    mut protocol: P,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut input: BytesMut,
    mut inbox: Inbox,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut stop = pin!(stop);
    let mut running = Running::<P>::default();
    // No more requests: the client has shut down its side, the server ends, or what follows cannot be told apart.
    let mut ends = None;
    let mut midway: Option<Instant> = None;
    let mut heartbeats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        if ends.is_none() && running.start(&mut protocol, &mut input, &mut midway) {
            ends = Some(End::Broken);
        }
        if running.has_just_begun_to_wait() {
            heartbeats.reset();
        }
        match ends {
            Some(End::Client) if running.waits => return Ok(()),
            Some(End::Broken) if running.replies.is_empty() => return drain(stream).await,
            Some(_) if running.replies.is_empty() => return Ok(()),
            _ => {}
        }
        let is_blocked = running.is_blocked();
        let reads = !matches!(ends, Some(End::Client | End::Broken)) && (!is_blocked || input.len() < AHEAD);
        let is_midway = ends.is_none() && !is_blocked && (!input.is_empty() || protocol.is_midway());
        let deadline =
            if is_midway { *midway.get_or_insert_with(Instant::now) + COMMAND_WITHIN } else { Instant::now() };
        tokio::select! {
            biased;
            Some(reply) = running.replies.next(), if !running.replies.is_empty() => {
                let mut replies = vec![reply];
                while let Some(Some(reply)) = running.replies.next().now_or_never() {
                    replies.push(reply);
                }
                running.replied();
                write(&mut stream, &replies.iter().map(|reply| &reply.bytes[..]).collect::<Vec<_>>().concat()).await?;
                replies.into_iter().filter_map(|reply| reply.leased).for_each(|leased| leased.delivered());
            }
            messages = inbox.next() => {
                write(&mut stream, &messages.iter().map(Bytes::as_ref).collect::<Vec<_>>().concat()).await?;
                inbox.written(&messages);
            }
            () = &mut stop, if ends.is_none() => {
                if running.waits {
                    return Ok(());
                }
                ends = Some(End::Server);
            }
            _ = heartbeats.tick(), if running.waits => write(&mut stream, &P::heartbeat()).await?,
            read = stream.read_buf(&mut input), if reads => if read? == 0 {
                ends = Some(End::Client);
            },
            () = sleep_until(deadline), if is_midway => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a command was begun and not ended"));
            }
        }
    }
}

/// Why there are no more requests.
#[derive(Clone, Copy, Debug)]
enum End {
    Client,
    Server,
    Broken,
}

/// Requests that are being carried out.
struct Running<P: Protocol> {
    replies: FuturesOrdered<BoxFuture<'static, Reply>>,
    /// The next one, which must wait for those.
    held: Option<P::Request>,
    /// The last one must end before the next is begun.
    alone: bool,
    /// The last one waits for messages.
    waits: bool,
    waited: bool,
}

impl<P: Protocol> Default for Running<P> {
    fn default() -> Self {
        Self { replies: FuturesOrdered::new(), held: None, alone: false, waits: false, waited: false }
    }
}

impl<P: Protocol> Running<P> {
    fn is_blocked(&self) -> bool {
        self.alone || self.held.is_some() || self.replies.len() >= PIPELINED
    }

    /// Starts what may be started; returns true if nothing more can be read.
    fn start(&mut self, protocol: &mut P, input: &mut BytesMut, midway: &mut Option<Instant>) -> bool {
        while !self.alone && self.replies.len() < PIPELINED {
            let request = match self.held.take() {
                Some(request) => request,
                None => {
                    let Some(event) = protocol.next(input) else { return false };
                    *midway = None;
                    match event {
                        Event::Request(request) => request,
                        Event::Refused(refusal) => {
                            self.replies.push_back(ready(P::refuse(&refusal).into()).boxed());
                            continue;
                        }
                        Event::Fatal(refusal) => {
                            self.replies.push_back(ready(P::refuse(&refusal).into()).boxed());
                            return true;
                        }
                    }
                }
            };
            let turn = P::turn(&request);
            if turn == Turn::Alone && !self.replies.is_empty() {
                self.held = Some(request);
                return false;
            }
            let mut reply = protocol.perform(request).boxed();
            if turn == Turn::Waits {
                // A message that is there leaves with the replies before it.
                match (&mut reply).now_or_never() {
                    Some(there) => reply = ready(there).boxed(),
                    None => self.waits = true,
                }
            }
            self.alone = turn == Turn::Alone || self.waits;
            self.replies.push_back(reply);
        }
        false
    }

    fn has_just_begun_to_wait(&mut self) -> bool {
        self.waits && !std::mem::replace(&mut self.waited, self.waits)
    }

    /// Some replies are there; the last one is that of what was alone.
    fn replied(&mut self) {
        if self.replies.is_empty() {
            (self.alone, self.waits, self.waited) = (false, false, false);
        }
    }
}

/// Writes what there is; a client that does not take it is given up.
async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = timeout(WRITE_WITHIN, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    });
    written.await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
}

/// Reads what a client still sends after the last reply: closing with unread input would destroy that.
async fn drain(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let drained = timeout(WRITE_WITHIN, async {
        stream.shutdown().await?;
        let (mut rest, mut left) = ([0; 8192], DROPPED);
        loop {
            match stream.read(&mut rest).await? as u64 {
                0 => return Ok(()),
                read if read >= left => return Ok(()),
                read => left -= read,
            }
        }
    });
    drained.await.unwrap_or(Ok(()))
}
