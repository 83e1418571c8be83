//! The client's side of a connection: a handle for callers, one task for the socket.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    frame::Request,
    inbound::Inbound,
    outbound::Outbound,
    table::{Read, Table},
};
use crate::peer::Failure;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    table: Shared,
}

impl Client {
    /// Starts the connection's task.
    pub(super) fn start(stream: TcpStream) -> Self {
        let table = Shared::default();
        let (inbound, outbound) = (Inbound::default(), Outbound::default());
        let connection = Connection { table: table.clone(), stream, inbound, outbound, yielded: false, woken: vec![] };
        tokio::spawn(connection);
        Self { table }
    }

    /// Makes one call; `read` turns the answer's body into its result, under the table's lock.
    pub(super) fn call<T>(&self, request: Request, read: Read<T>) -> Call<'_, T> {
        Call { table: &self.table, state: State::New(request), read }
    }
}

/// A call: sent when first polled, forgotten when dropped.
#[derive(Debug)]
pub(super) struct Call<'a, T> {
    table: &'a Shared,
    state: State,
    read: Read<T>,
}

#[derive(Debug)]
enum State {
    New(Request),
    Sent(u64),
    Done,
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut table = this.table.lock();
        match std::mem::replace(&mut this.state, State::Done) {
            State::New(request) => {
                this.state = State::Sent(table.begin(request, cx)?);
                Poll::Pending
            }
            State::Sent(id) => {
                let answer = table.poll_answer(id, cx, this.read);
                if answer.is_pending() {
                    this.state = State::Sent(id);
                }
                answer
            }
            State::Done => Poll::Ready(Err("polled after its end".into())),
        }
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let State::Sent(id) = self.state {
            self.table.lock().abandon(id);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Table>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that owns the socket.
#[derive(Debug)]
struct Connection {
    table: Shared,
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound<Bytes>,
    /// Everyone who was ready to call has had a turn since frames began to gather.
    yielded: bool,
    woken: Vec<Waker>,
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let reason = match this.poll_turn(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => "the server closed the connection".to_owned(),
            Poll::Ready(Err(failure)) => format!("the connection broke: {failure}"),
        };
        let waiting = this.table.lock().close(reason);
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(())
    }
}

impl Connection {
    /// Reads what there is, then writes what gathered. Ready when the connection is over.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while let Poll::Ready(read) = self.inbound.poll_read(cx, &self.stream) {
            if read? == 0 {
                return Poll::Ready(Ok(()));
            }
            self.complete()?;
        }
        self.inbound.rest();
        if !self.woken.is_empty() {
            self.woken.drain(..).for_each(Waker::wake);
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            ready!(self.outbound.poll_write(cx, &self.stream, drop))?;
            ready!(self.poll_gathered(cx));
        }
    }

    /// Files all answers that are complete, under one lock.
    fn complete(&mut self) -> Result<(), Failure> {
        let mut table = self.table.lock();
        while let Some((id, body)) = self.inbound.next()? {
            let (waker, left_over) = table.complete(id, body);
            self.woken.extend(waker);
            self.inbound.recycle(left_over);
        }
        Ok(())
    }

    /// Takes the frames that gathered, once everyone had a turn to add to them.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut table = self.table.lock();
        if table.out.len() == 0 {
            table.writer_due = false;
            if !table.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                table.writer = Some(cx.waker().clone());
            }
            self.yielded = false;
            return Poll::Pending;
        }
        if self.yielded {
            std::mem::swap(&mut table.out, &mut self.outbound);
            self.yielded = false;
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
