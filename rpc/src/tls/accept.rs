//! Connections of servers.

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::{
    ALPN, Tls, identity, material,
    stream::{Explained, Side, explain},
};
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
        self.tls.watch();
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::Error::other("the client closed the connection before it said anything"));
        }
        let peer = Peer::new().with_address(address);
        if first == [MAGIC] {
            if self.is_permissive {
                return Ok((Box::new(Explained::plaintext(stream)), peer));
            }
            meter::tls_refused("plaintext");
            farewell(stream).await;
            return Err(io::Error::other("the client speaks plaintext, TLS is required"));
        }
        let Some(config) = self.tls.current().server.clone() else {
            return Err(io::Error::other("there is no certificate"));
        };
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        let stream = accepted.map_err(|error| {
            meter::tls_refused("handshake");
            explain(error, Side::Server)
        })?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the client speaks TLS, but did not name ms-rpc/2 (ALPN)"));
        }
        let peer = match session.peer_certificates().and_then(<[_]>::first) {
            None => peer,
            Some(der) => {
                let certificate = EndEntityCert::try_from(der).map_err(io::Error::other)?;
                let ends = material::period(der).map(|(_, ends)| ends);
                peer.with_identity(identity::of_peer(&certificate).unwrap_or_default(), ends)
            }
        };
        Ok((Box::new(Explained::tls(stream, Side::Server)), peer))
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
