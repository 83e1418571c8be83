//! Verification of servers: a chain to a trusted authority, and the identity of the service.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::{EndEntityCert, Error as Webpki, KeyUsage, RevocationOptionsBuilder};

use super::{
    identity::{self, Identity},
    material::Trust,
};

/// Verifier of the servers of one service.
#[derive(Debug)]
pub(super) struct ServiceVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) expected: Names,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Names of which a certificate must have one.
#[derive(Clone, Debug)]
pub(super) enum Names {
    Identities(Vec<Identity>),
    Host(ServerName<'static>),
}

/// A certificate of another service, or of another host.
#[derive(Debug)]
pub(super) struct OtherIdentity {
    expected: Names,
    names: Vec<String>,
}

impl fmt::Display for OtherIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match &self.expected {
            Names::Identities(expected) => expected.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
            Names::Host(host) => host.to_str().into_owned(),
        };
        match &self.names[..] {
            [] => write!(f, "its certificate names nobody, {expected} is expected"),
            names => write!(f, "its certificate is that of {}, {expected} is expected", names.join(", ")),
        }
    }
}

impl std::error::Error for OtherIdentity {}

impl ServerCertVerifier for ServiceVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let crls: Vec<_> = self.trust.crls.iter().collect();
        let revocation = match crls.is_empty() {
            true => None,
            false => {
                Some(RevocationOptionsBuilder::new(&crls).map_err(|_| Error::General("no revocation lists".into()))?)
            }
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let (roots, usage) = (&self.trust.roots.roots, KeyUsage::server_auth());
        certificate
            .verify_for_usage(algorithms, roots, intermediates, now, usage, revocation.map(|r| r.build()), None)
            .map_err(certificate_error)?;
        let verified = match &self.expected {
            Names::Identities(expected) => identity::verify(&certificate, expected),
            Names::Host(host) => {
                certificate.verify_is_valid_for_subject_name(host).map_err(|_| identity::names(&certificate))
            }
        };
        verified.map_err(|names| {
            let error = OtherIdentity { expected: self.expected.clone(), names };
            CertificateError::Other(OtherError(Arc::new(error)))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn certificate_error(error: Webpki) -> Error {
    Error::InvalidCertificate(match error {
        Webpki::CertExpired { .. } | Webpki::InvalidCertValidity => CertificateError::Expired,
        Webpki::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Webpki::UnknownIssuer => CertificateError::UnknownIssuer,
        Webpki::CertRevoked => CertificateError::Revoked,
        Webpki::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Webpki::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        error => CertificateError::Other(OtherError(Arc::new(error))),
    })
}
