use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::Socket;
use crate::{
    buffer::{FrameBuf, give_scratch, take_scratch},
    unanswered::Unanswered,
};

/// Bound for the segments of one system call.
const SLICES: usize = 64;

/// When so much is written of a buffer and less is left, the written part is dropped. A peer that always leaves a little
/// unread would keep everything in memory that was ever sent to it.
const FORGET: usize = 64 << 10;

/// Writes buffers out, as many bytes per system call as the socket takes, and flushes a stream that buffers them.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    current: FrameBuf,
    /// Bytes of `current` that the stream has taken.
    written: usize,
    /// Bytes that it took before those of `current`.
    total: u64,
    /// The stream holds bytes that are not flushed.
    unflushed: bool,
    /// Compensations for answers whose bytes are dropped here and not flushed.
    pending: Vec<Unanswered>,
}

impl Writer {
    /// Number of bytes that the stream has not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.current.len() - self.written
    }

    /// Number of bytes that the stream has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.total + self.written as u64
    }

    /// Returns true if bytes wait here, or in the stream.
    pub(crate) fn is_busy(&self) -> bool {
        self.unflushed || self.waiting() > 0
    }

    /// The end of what goes out, to append to.
    pub(crate) fn buffer(&mut self) -> &mut FrameBuf {
        if self.current.is_empty() && self.current.capacity() == 0 {
            self.current = take_scratch();
        }
        &mut self.current
    }

    /// Writes and flushes until nothing waits, or the stream takes no more.
    pub(crate) fn poll_write<T: Socket>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.current.slices(self.written, &mut slices);
            let mut io = Pin::new(&mut *io);
            let polled = match &slices[..filled] {
                // The plain call costs the kernel less.
                [one] => io.as_mut().poll_write(cx, one)?,
                several => io.as_mut().poll_write_vectored(cx, several)?,
            };
            match polled {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.written += written;
                    self.unflushed = T::BUFFERS;
                }
                Poll::Pending => {
                    if self.unflushed && io.poll_flush(cx)?.is_ready() {
                        self.flushed();
                    }
                    self.forget();
                    return Poll::Pending;
                }
            }
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
        }
        self.flushed();
        self.current.clear();
        self.total += self.written as u64;
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Notes that all written bytes have left: the answers in them are no longer to be compensated.
    fn flushed(&mut self) {
        self.unflushed = false;
        self.pending.drain(..).for_each(Unanswered::answered);
        self.current.take_sent(self.written).for_each(Unanswered::answered);
    }

    /// Drops written bytes while others wait, where that is cheap.
    fn forget(&mut self) {
        if !self.unflushed {
            self.flushed();
        }
        // Dropping moves the copied bytes that wait: so there must be few of them.
        let cheap = self.written >= self.waiting() || self.current.copied() <= 4 * FORGET;
        if self.written >= FORGET && cheap {
            self.total += self.written as u64;
            let written = std::mem::take(&mut self.written);
            self.pending.extend(self.current.take_sent(written));
            self.current.advance(written);
        }
    }

    /// Gives the buffer back while nothing waits.
    pub(crate) fn park(&mut self) {
        if self.current.is_empty() && self.current.capacity() > 0 {
            give_scratch(std::mem::take(&mut self.current));
        }
    }
}

#[cfg(test)]
mod tests;
