//! Connections of clients.

use std::io;

use async_trait::async_trait;

use super::{ALPN, Expected, Tls, stream::Framed};
use crate::{
    Dial, Peer, Target, Transport,
    net::{TLS_KEY, tcp},
};

/// Dialler that expects the identity of the service.
#[derive(Clone, Debug)]
pub(crate) struct TlsDial {
    pub(crate) tls: Tls,
    /// Plaintext to instances whose registry entry does not say that they speak TLS.
    pub(crate) is_preferred_only: bool,
}

#[async_trait]
impl Dial for TlsDial {
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
        let speaks_tls = target.instance.is_some_and(|instance| instance.metadata().contains_key(TLS_KEY));
        if self.is_preferred_only && !speaks_tls {
            let stream = tcp(target.address).await?;
            let peer = Peer::new().with_address(stream.peer_addr()?);
            return Ok((Box::new(stream), peer));
        }
        let service = target.service.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS needs the name of the service: set `ClientBuilder::service`",
            )
        })?;
        let expected = Expected::Service(service);
        self.tls.check_expected(expected).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = tcp(target.address).await?;
        let stream = self.tls.connect(stream, expected, ALPN).await?;
        let mut peer = Peer::new().with_address(stream.get_ref().peer_addr()?);
        if let Some(certified) = stream.peer() {
            peer = peer.with_identity(certified.identity, certified.ends);
        }
        Ok((Box::new(Framed::tls(stream)), peer))
    }
}
