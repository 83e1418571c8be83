use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::Transport;
use crate::buffer::{FrameBuf, give_scratch, take_scratch};

/// At most this many segments go into one system call.
const SLICES: usize = 64;

/// Writes buffers out, as many bytes per system call as the socket takes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    current: FrameBuf,
    written: usize,
}

impl Writer {
    /// How many bytes wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.current.len() - self.written
    }

    /// The end of what goes out, to append to.
    pub(crate) fn buffer(&mut self) -> &mut FrameBuf {
        if self.current.capacity() == 0 {
            self.current = take_scratch();
        }
        &mut self.current
    }

    /// Writes until nothing waits or the socket is full.
    pub(crate) fn poll_write<T: Transport>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.current.slices(self.written, &mut slices);
            let mut io = Pin::new(&mut *io);
            let written = match &slices[..filled] {
                // The plain call costs the kernel less.
                [one] => ready!(io.as_mut().poll_write(cx, one))?,
                several => ready!(io.as_mut().poll_write_vectored(cx, several))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.current.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer away while nothing waits.
    pub(crate) fn park(&mut self) {
        if self.current.is_empty() && self.current.capacity() > 0 {
            give_scratch(std::mem::take(&mut self.current));
        }
    }
}
