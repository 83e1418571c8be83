//! Reading: frames out of a socket, by one read call for all that has arrived.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    task::{Context, Poll, ready},
};

use nix::{sys::uio, unistd};
use tokio::{io::Interest, net::TcpStream};

use super::frame::{HEADER, Header, LARGE};
use crate::peer::Failure;

const BUFFER: usize = 128 * 1024;

/// Bytes read beyond a large body, or in search of one: enough to learn of the next frame, few enough to copy.
const PEEK: usize = 256;

/// Body buffers kept by a connection for its next large bodies.
const SPARE: usize = 256;

thread_local! {
    /// Read buffers between two batches: a connection holds one only while it has unread bytes in it.
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The read side of one connection.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    large: Option<Large>,
    expect_large: bool,
    spare: Vec<Vec<u8>>,
}

/// A large body on its way in.
#[derive(Debug)]
struct Large {
    header: Header,
    body: Vec<u8>,
    filled: usize,
}

/// The body of a frame.
#[derive(Debug)]
pub(super) enum Body<'a> {
    /// It lies in the read buffer.
    Small(&'a [u8]),
    /// It came into a buffer of its own, which is worth giving back: [`Inbound::recycle`].
    Large(Vec<u8>),
}

impl Inbound {
    /// Reads once. `Ready(0)` is the end of the stream; `Pending` without a system call when nothing has arrived.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, stream: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match self.try_read(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.rest(),
                read => return Poll::Ready(read),
            }
        }
    }

    /// Reads once, or `WouldBlock`.
    ///
    /// A read that came back short has emptied the socket. The runtime is told that it would block, which drops the
    /// readiness that it remembers, so that no later read has to find out by failing.
    pub(super) fn try_read(&mut self, stream: &TcpStream) -> io::Result<usize> {
        self.make_room();
        let mut read = 0;
        let outcome = stream.try_io(Interest::READABLE, || {
            let room;
            (read, room) = self.read_into_place(stream)?;
            if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            Err(error) if read == 0 => Err(error),
            _ => Ok(read),
        }
    }

    /// The next frame that is complete.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Body<'_>)>, Failure> {
        if let Some(large) = self.large.take() {
            if large.filled < large.body.len() {
                self.large = Some(large);
                return Ok(None);
            }
            return Ok(Some((large.header.id, Body::Large(large.body))));
        }
        let arrived = &self.buffer[self.start..self.end];
        let Some(header) = Header::parse(arrived)? else { return Ok(None) };
        self.expect_large = header.body >= LARGE;
        let length = HEADER + header.body;
        if length <= arrived.len() {
            let body = self.start + HEADER..self.start + length;
            self.start += length;
            return Ok(Some((header.id, Body::Small(&self.buffer[body]))));
        }
        if self.expect_large {
            let mut body = self.spare.pop().unwrap_or_default();
            body.resize(header.body, 0);
            let filled = arrived.len() - HEADER;
            body[..filled].copy_from_slice(&arrived[HEADER..]);
            self.large = Some(Large { header, body, filled });
            (self.start, self.end) = (0, 0);
        }
        Ok(None)
    }

    /// Takes back the buffer of a large body.
    pub(super) fn recycle(&mut self, body: Vec<u8>) {
        if self.spare.len() < SPARE && body.capacity() >= LARGE {
            self.spare.push(body);
        }
    }

    /// Gives the read buffer away until the next read, unless part of a frame lies in it.
    pub(super) fn rest(&mut self) {
        if self.start == self.end && !self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            (self.start, self.end) = (0, 0);
            BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer));
        }
    }

    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            let recycled = BUFFERS.with_borrow_mut(Vec::pop);
            self.buffer = recycled.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// One system call: how much came, and how much could have come.
    fn read_into_place(&mut self, stream: &TcpStream) -> io::Result<(usize, usize)> {
        let Some(Large { body, filled, .. }) = &mut self.large else {
            let limit = if self.expect_large { self.buffer.len().min(self.end + PEEK) } else { self.buffer.len() };
            let read = unistd::read(stream, &mut self.buffer[self.end..limit])?;
            self.end += read;
            return Ok((read, limit + read - self.end));
        };
        let missing = body.len() - *filled;
        let places = &mut [IoSliceMut::new(&mut body[*filled..]), IoSliceMut::new(&mut self.buffer[..PEEK])];
        let read = uio::readv(stream, places)?;
        *filled += read.min(missing);
        self.end = read.saturating_sub(missing);
        Ok((read, missing + PEEK))
    }
}
