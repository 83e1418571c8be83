//! Streams other than plain TCP, and what happens before HELLO.

#![allow(clippy::unwrap_used)]

mod logs;
mod shop;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use logs::Log;
use ms_rpc::{Accept, Blob, Client, Code, Outcome, Peer, Server, Transport};
use shop::{ShopClient, ShopServer, TestShop};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

/// Takes up to 64 KiB and passes nothing on before it is flushed, as TLS may when its socket is full.
struct Buffering<T> {
    inner: T,
    buffer: Vec<u8>,
}

const BUFFER: usize = 64 << 10;

impl<T: AsyncWrite + Unpin> Buffering<T> {
    fn new(inner: T) -> Self {
        Self { inner, buffer: Vec::new() }
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer))?;
            self.buffer.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Buffering<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Buffering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= BUFFER {
            ready!(self.poll_empty(cx))?;
        }
        let taken = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_stream_that_buffers_is_flushed() {
    let server = Server::without_listener(([127, 0, 0, 1], 9).into()).serve(ShopServer::new(TestShop::default()));
    let server = server.start().await.unwrap();
    // Smaller than the frames: the end of each waits for the reader.
    let (near, far) = duplex(1000);
    server.serve_over(Buffering::new(far), Peer::new());
    let client = Client::builder().deadline(Duration::from_secs(5)).over(Buffering::new(near));
    let shop = ShopClient::new(client.await.unwrap());
    assert_eq!(shop.add(1, 2).await.unwrap(), 3);
    let blob = Blob::from(vec![7; 300_000]);
    let (echoed, sum) = tokio::join!(shop.echo(blob.clone()), shop.add(3, 4));
    assert_eq!((echoed.unwrap(), sum.unwrap()), (blob, 7));
    timeout(Duration::from_secs(5), server.shutdown()).await.expect("its last answers are flushed");
}

/// Lets clients in that send the right byte; counts the handshakes under way.
#[derive(Debug, Default)]
struct Knock {
    under_way: AtomicUsize,
    most: AtomicUsize,
    begun: Notify,
}

#[derive(Debug)]
struct Shared(Arc<Knock>);

#[async_trait::async_trait]
impl Accept for Shared {
    async fn accept(&self, mut stream: TcpStream, address: SocketAddr) -> io::Result<(Box<dyn Transport>, Peer)> {
        struct Ends<'a>(&'a AtomicUsize);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let now = self.0.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        let _ends = Ends(&self.0.under_way);
        self.0.most.fetch_max(now, Ordering::SeqCst);
        self.0.begun.notify_one();
        match stream.read_u8().await? {
            b'!' => Ok((Box::new(stream), Peer::new().with_address(address))),
            _ => Err(io::Error::other("a stranger")),
        }
    }
}

async fn knock(address: SocketAddr, byte: u8) -> Result<ShopClient, ms_rpc::Status> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_u8(byte).await.unwrap();
    Client::builder().over(stream).await.map(ShopClient::new)
}

#[tokio::test]
async fn handshakes_are_bounded_and_delay_nobody_else() {
    let knock_once = Arc::new(Knock::default());
    let server = Server::bind("127.0.0.1:0").await.unwrap().accept_with(Shared(knock_once.clone()));
    let server = server.limits(|limits| {
        limits.max_handshakes = 3;
        limits.hello_timeout = Duration::from_millis(300);
    });
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let shop = knock(server.address(), b'!').await.unwrap();
    assert_eq!(shop.add(1, 2).await.unwrap(), 3);
    assert!(knock(server.address(), b'?').await.is_err());

    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // Handshakes within the bound go on, and another comes in once the silent ones are given up.
    assert_eq!(shop.add(3, 4).await.unwrap(), 7);
    let late = timeout(Duration::from_secs(5), knock(server.address(), b'!')).await.unwrap();
    let late = match late {
        Ok(late) => late,
        Err(_) => knock(server.address(), b'!').await.unwrap(),
    };
    assert_eq!(late.add(5, 6).await.unwrap(), 11);
    assert!(knock_once.most.load(Ordering::SeqCst) <= 3);
    for mut stream in silent {
        // Closed by the server, without a word.
        assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_handshakes() {
    let knocks = Arc::new(Knock::default());
    let server = Server::bind("127.0.0.1:0").await.unwrap().accept_with(Shared(knocks.clone()));
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    knocks.begun.notified().await;
    timeout(Duration::from_secs(2), server.shutdown()).await.expect("it waits for a client that says nothing");
    assert_eq!(knocks.under_way.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().limits(|limits| limits.max_connections = 2);
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let address = server.address().to_string();
    let first = ShopClient::new(Client::connect(&address).await.unwrap());
    let second = Client::connect(&address).await.unwrap();
    let error = Client::connect(&address).await.unwrap_err();
    assert!(error.message().contains("max_connections"), "{error}");
    assert_eq!(first.add(1, 2).await.unwrap(), 3);
    drop(second);
    let again = async {
        while Client::connect(&address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), again).await.expect("a connection that ended counts no more");
}

#[tokio::test]
async fn the_log_has_the_details_of_a_panic() {
    let (log, _guard) = Log::start(tracing::Level::INFO);
    let server = shop::server(TestShop::default()).await;
    let shop = ShopClient::new(shop::client(&server).await);
    let error = shop.panic().await.unwrap_err();
    assert!(error.message().contains("log has the details"), "{error}");
    let log = log.text();
    assert!(log.contains("ERROR") && log.contains("as asked") && log.contains("method=\"panic\""), "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_other_end_that_is_silent_is_given_up_at_the_connect_timeout() {
    let (near, _far) = duplex(1 << 10);
    let error = Client::builder().connect_timeout(Duration::from_millis(200)).over(near).await.unwrap_err();
    assert_eq!(error.message(), "the other end did not answer within 200ms");
    assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::NotSent));
}
