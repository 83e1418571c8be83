//! Connections of servers.

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{ALPN, Tls, stream::Framed};
use crate::{
    Accept, Peer, Transport, meter,
    proto::{GoAway, MAGIC},
};

/// Time for a plaintext client to read why it is refused.
const FAREWELL: Duration = Duration::from_secs(1);

/// Acceptor of TLS, and of plaintext where that is allowed: told apart by the first byte.
#[derive(Clone, Debug)]
pub(crate) struct TlsAccept {
    pub(crate) tls: Tls,
    pub(crate) is_permissive: bool,
}

#[async_trait]
impl Accept for TlsAccept {
    fn waits_for_client(&self) -> bool {
        true
    }

    async fn accept(&self, stream: TcpStream, address: SocketAddr) -> io::Result<(Box<dyn Transport>, Peer)> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::Error::other("the client closed the connection before it said anything"));
        }
        let peer = Peer::new().with_address(address);
        if first == [MAGIC] {
            if self.is_permissive {
                return Ok((Box::new(Framed::plaintext(stream)), peer));
            }
            meter::tls_refused("plaintext");
            farewell(stream).await;
            return Err(io::Error::other("the client speaks plaintext, TLS is required"));
        }
        let stream = self.tls.accept(stream, ALPN).await?;
        let peer = match stream.peer() {
            Some(certified) => peer.with_identity(certified.identity, certified.ends),
            None => peer,
        };
        Ok((Box::new(Framed::tls(stream)), peer))
    }
}

/// Tells a plaintext client why it is refused, and waits until it closes: closing with unread input would destroy the words.
async fn farewell(mut stream: TcpStream) {
    let reason = "this server requires TLS: give the client `.tls(..)`".to_owned();
    let frame = GoAway { last_id: 0, reason }.to_frame();
    let _ = timeout(FAREWELL, async {
        stream.write_all(&frame).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}
