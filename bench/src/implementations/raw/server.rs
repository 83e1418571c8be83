//! The server's side of a connection: read all there is, answer all of it, write once.

use std::{future::poll_fn, io};

use tokio::net::TcpStream;

use super::{
    frame::{self, Asked, LARGE},
    inbound::{Body, Inbound},
    item::Item,
    outbound::Outbound,
};
use crate::peer::{self, Failure};

/// Answers are written when the socket has nothing more to read, or when this many bytes wait.
const BATCH: usize = 256 * 1024;

/// Serves one connection until its client is gone, whichever way it goes.
pub(super) async fn serve(stream: TcpStream) -> Result<(), Failure> {
    match exchange(stream).await {
        Err(failure) if failure.is::<io::Error>() => Ok(()),
        ended => ended,
    }
}

async fn exchange(stream: TcpStream) -> Result<(), Failure> {
    let mut inbound = Inbound::default();
    let mut outbound = Outbound::default();
    loop {
        let mut read = poll_fn(|cx| inbound.poll_read(cx, &stream)).await;
        loop {
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => answer(&mut inbound, &mut outbound)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            if outbound.len() >= BATCH {
                break;
            }
            read = inbound.try_read(&stream);
        }
        inbound.rest();
        poll_fn(|cx| outbound.poll_write(cx, &stream, |Tail { body, .. }| inbound.recycle(body))).await?;
    }
}

/// The end of a buffer, on its way back to who sent it.
#[derive(Debug)]
struct Tail {
    body: Vec<u8>,
    from: usize,
}

impl AsRef<[u8]> for Tail {
    fn as_ref(&self) -> &[u8] {
        &self.body[self.from..]
    }
}

fn answer(inbound: &mut Inbound, outbound: &mut Outbound<Tail>) -> Result<(), Failure> {
    while let Some((id, body)) = inbound.next()? {
        let bytes = match &body {
            Body::Small(bytes) => bytes,
            Body::Large(bytes) => bytes.as_slice(),
        };
        match (frame::asked(bytes)?, body) {
            (Asked::Find(goods), _) => outbound.append(&frame::found(id, goods)),
            // In place, as everything here: this loop has one thread for a connection.
            (Asked::Compute(number), _) => outbound.append(&frame::found(id, peer::compute(number))),
            (Asked::Build(goods), _) => outbound.append(&frame::built(id, &Item::found(goods))?),
            (Asked::Echo(from), Body::Large(body)) if body.len() - from >= LARGE => {
                outbound.append(&frame::echoed(id, body.len() - from));
                outbound.hand_off(Tail { body, from });
            }
            (Asked::Echo(from), Body::Large(body)) => echo(id, &body[from..], outbound),
            (Asked::Echo(from), Body::Small(body)) => echo(id, &body[from..], outbound),
        }
    }
    Ok(())
}

fn echo(id: u64, body: &[u8], outbound: &mut Outbound<Tail>) {
    outbound.append(&frame::echoed(id, body.len()));
    outbound.append(body);
}
