//! A transport of the user's own: every byte in disguise, dialled by the service's name and accepted with a password. The
//! transport itself takes 55 lines.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ms_rpc::{Accept, Client, ClientProxy, Dial, Peer, Target, Transport};
use shop::ShopClient;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

/// TCP with every byte XORed by a mask.
struct Masked(TcpStream, u8);

impl AsyncRead for Masked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, mask) = (buf.filled().len(), self.1);
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        buf.filled_mut()[before..].iter_mut().for_each(|byte| *byte ^= mask);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Masked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let masked: Vec<u8> = bytes.iter().map(|byte| byte ^ self.1).collect();
        Pin::new(&mut self.0).poll_write(cx, &masked)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Names the service, then speaks under a mask.
#[derive(Debug)]
struct Masks(u8);

#[async_trait::async_trait]
impl Dial for Masks {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        let mut stream = TcpStream::connect(target.address).await?;
        let service = target.service.unwrap_or_default();
        stream.write_u8(service.len() as u8).await?;
        stream.write_all(service.as_bytes()).await?;
        Ok((Box::new(Masked(stream, self.0)), Peer::new()))
    }
}

#[async_trait::async_trait]
impl Accept for Masks {
    async fn accept(&self, mut stream: TcpStream, address: SocketAddr) -> io::Result<(Box<dyn Transport>, Peer)> {
        let mut service = vec![0; stream.read_u8().await?.into()];
        stream.read_exact(&mut service).await?;
        if service != b"shop" {
            return Err(io::Error::other(format!("{:?} is not here", String::from_utf8_lossy(&service))));
        }
        Ok((Box::new(Masked(stream, self.0)), Peer::new().with_address(address)))
    }
}

#[tokio::test]
async fn a_proxy_dials_by_the_services_name_under_a_mask() {
    let (server, registry) = shop::server().await;
    let server = server.accept_with(Masks(0x5a)).start().await.unwrap();
    let proxy = ClientProxy::builder(registry).dialer(Masks(0x5a)).build().unwrap();
    let shop = ShopClient::new(&proxy);
    assert_eq!(shop.find(5).await.unwrap().id, 5);
    let long = "text ".repeat(200_000);
    assert_eq!(shop.echo(long.clone()).await.unwrap(), long);

    let address = server.address().to_string();
    let named = Client::builder().dialer(Masks(0x5a)).service("shop").connect(&address).await.unwrap();
    assert_eq!(ShopClient::new(named).find(6).await.unwrap().id, 6);
    // Without the service's name, under another mask, and without any: no HELLO, and a message that says so.
    for client in [
        Client::builder().dialer(Masks(0x5a)),
        Client::builder().dialer(Masks(0x11)).service("shop"),
        Client::builder().service("shop"),
    ] {
        let error = client.connect(&address).await.unwrap_err();
        assert!(error.message().contains("is no ms-rpc server"), "{error}");
    }
    server.shutdown().await;
}
