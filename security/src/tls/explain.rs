//! Words for what goes wrong on encrypted streams.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Role of the local side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The same error in words that name the cause and the remedy.
pub(super) fn explain(error: io::Error, side: Side, protocol: &str) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return error };
    let peer = match side {
        Side::Client => "the server",
        Side::Server => "the client",
    };
    let words = match tls {
        Error::InvalidCertificate(reason) => {
            format!("TLS: {peer}'s certificate is refused: {}", of_certificate(reason))
        }
        Error::AlertReceived(alert) => match of_alert(*alert) {
            Some(reason) => format!("TLS: {peer} refused our certificate: {reason}"),
            None => format!("TLS: {peer} gave up the handshake: {alert:?}"),
        },
        Error::NoCertificatesPresented => format!("TLS: {peer} presented no certificate"),
        Error::InvalidMessage(_) => format!("{peer} does not speak TLS"),
        Error::NoApplicationProtocol => format!("TLS: {peer} does not name {protocol} (ALPN)"),
        Error::PeerIncompatible(reason) => format!("TLS: {peer} does not speak TLS 1.3 as it should: {reason:?}"),
        other => format!("TLS: {other}"),
    };
    io::Error::new(error.kind(), words)
}

fn of_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has ended".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it does not hold yet".to_owned()
        }
        CertificateError::UnknownIssuer => "it is signed by an authority that is not trusted here".to_owned(),
        CertificateError::BadSignature => {
            "it is signed by an authority that is not trusted here, though one of that name is".to_owned()
        }
        CertificateError::Revoked => "it is revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => "no revocation list covers it".to_owned(),
        CertificateError::Other(other) => other.0.to_string(),
        other => format!("{other:?}"),
    }
}

/// Reason of an alert about our certificate (RFC 8446, section 6.2).
fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "it has ended, or does not hold yet",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is signed by an authority that is not trusted there"
        }
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::CertificateRequired => "there was none, and it needs one",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => "see its log",
        _ => return None,
    })
}
