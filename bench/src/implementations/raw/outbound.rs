//! Writing: everything that has gathered, in as few calls as the socket allows.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;

const SLICES: usize = 64;

/// Frames on their way out: small bytes copied one behind the other, large bodies handed over as they are.
#[derive(Debug)]
pub(super) struct Outbound<S> {
    bytes: Vec<u8>,
    /// A segment stands before the byte of this index.
    segments: Vec<(usize, S)>,
    length: usize,
    written: usize,
}

impl<S: AsRef<[u8]>> Outbound<S> {
    /// Copies bytes in.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Takes a body over, behind everything appended so far.
    pub(super) fn hand_off(&mut self, segment: S) {
        self.length += segment.as_ref().len();
        self.segments.push((self.bytes.len(), segment));
    }

    /// Bytes that gathered since all was written.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Writes until nothing is left; the segments go to `written`.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
        written: impl FnMut(S),
    ) -> Poll<io::Result<()>> {
        while self.written < self.length {
            let outcome = if self.segments.is_empty() {
                stream.try_write(&self.bytes[self.written..])
            } else {
                self.write_slices(stream)
            };
            match outcome {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.bytes.clear();
        self.segments.drain(..).map(|(_, segment)| segment).for_each(written);
        (self.length, self.written) = (0, 0);
        Poll::Ready(Ok(()))
    }

    fn write_slices(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut used, mut skip, mut from) = (0, self.written, 0);
        let ends = self.segments.iter().map(|(at, segment)| (*at, segment.as_ref()));
        for (at, segment) in ends.chain(std::iter::once((self.bytes.len(), &[][..]))) {
            for piece in [&self.bytes[from..at], segment] {
                let passed = skip.min(piece.len());
                skip -= passed;
                if passed < piece.len() && used < SLICES {
                    slices[used] = IoSlice::new(&piece[passed..]);
                    used += 1;
                }
            }
            from = at;
            if used == SLICES {
                break;
            }
        }
        stream.try_write_vectored(&slices[..used])
    }
}

impl<S> Default for Outbound<S> {
    fn default() -> Self {
        Self { bytes: Vec::new(), segments: Vec::new(), length: 0, written: 0 }
    }
}
