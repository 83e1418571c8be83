//! As much of the wire format as it takes to be a bad client: written from its description, PROTOCOL.md.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const REQUEST: u8 = 0;
const HELLO: u8 = 9;
const NO_VALUE: u8 = 255;
const HEADER: usize = 17;
/// How little is received for a client that does not read, so that the server's side fills up soon.
const SMALL_BUFFER: u32 = 16 << 10;

/// What a client says first.
pub(crate) fn hello() -> Vec<u8> {
    let name = b"bad";
    let entry = [&[16, 0, name.len() as u8][..], name].concat();
    frame(HELLO, NO_VALUE, 0, &entry)
}

/// How the argument and the result of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// A large result is sent as it is.
    Bincode,
    /// A large result is sent as a long text.
    Json,
}

impl Codec {
    fn number(self) -> u8 {
        match self {
            Self::Bincode => 0,
            Self::Json => 1,
        }
    }

    fn arguments(self, argument: u32) -> Vec<u8> {
        match self {
            // The mark of four bytes, little-endian.
            Self::Bincode => [&[252], &argument.to_le_bytes()[..]].concat(),
            Self::Json => format!("[{argument}]").into_bytes(),
        }
    }
}

/// A call of a method of `shop` with one number, on the connection's slot 0.
pub(crate) fn request(sequence: u64, method: &str, argument: u32, codec: Codec) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let timeout = 60_000u32.to_be_bytes();
    let (argument_count, pairs) = (1, 0);
    let head = [&[0], &timeout[..], &text("shop"), &text(method), &[argument_count, pairs]].concat();
    let body = [&(head.len() as u16).to_be_bytes(), &head[..], &codec.arguments(argument)].concat();
    frame(REQUEST, codec.number(), sequence << 20, &body)
}

/// A connection on which HELLO was exchanged, and whose socket takes little that is not read.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello()).await?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize;
    stream.read_exact(&mut vec![0; length.saturating_sub(HEADER)]).await?;
    Ok(stream)
}

fn frame(kind: u8, codec: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let compression = 0;
    [&[0x1d, 2], &length.to_be_bytes()[..], &[kind, compression, codec], &id.to_be_bytes(), body].concat()
}
