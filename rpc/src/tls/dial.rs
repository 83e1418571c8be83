//! Connections of clients.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, client::Resumption, pki_types::ServerName},
};

use super::{
    ALPN, Tls, TlsError, provider,
    stream::{Explained, Side, explain},
    verify::ServiceVerifier,
};
use crate::{
    Dial, Target, Transport,
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
    async fn dial(&self, target: &Target<'_>) -> io::Result<Box<dyn Transport>> {
        let speaks_tls = target.instance.is_some_and(|instance| instance.metadata().contains_key(TLS_KEY));
        if self.is_preferred_only && !speaks_tls {
            return Ok(Box::new(tcp(target.address).await?));
        }
        let service = target.service.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS needs the name of the service: set `ClientBuilder::service`",
            )
        })?;
        self.tls.watch();
        let config =
            self.tls.client_config(service).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = tcp(target.address).await?;
        // An address is no name that is sent (RFC 6066, section 3), and the verifier looks at the service alone.
        let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|error| explain(error, Side::Client))?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("it speaks TLS, but not ms-rpc"));
        }
        Ok(Box::new(Explained::tls(stream, Side::Client)))
    }
}

impl Tls {
    /// Configuration for a connection to a server of this service.
    fn client_config(&self, service: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let trust = self.current().client.clone().ok_or(TlsError::NoAuthorities)?;
        let (expected, provider) = (self.0.names.of(service)?, provider());
        let verifier = ServiceVerifier { trust: trust.clone(), expected, provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::Unusable { what: "TLS 1.3".to_owned(), reason: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &trust.own {
            Some(own) => config.with_client_cert_resolver(own.clone()),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}
