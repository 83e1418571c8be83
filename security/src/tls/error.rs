use std::time::Duration;

/// Reason that certificates, keys or names cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A text that holds nothing of what it should, or something else.
    #[error("{file} holds no {wanted} in PEM: {reason}")]
    Pem {
        /// File, or "the bytes of ..".
        file: String,
        /// The kind of object that was looked for.
        wanted: &'static str,
        /// Reason.
        reason: String,
    },
    /// The key is not the certificate's.
    #[error("the key {key} does not belong to the certificate {certificate}")]
    KeyMismatch {
        /// Source of the key.
        key: String,
        /// Source of the certificate.
        certificate: String,
    },
    /// The certificate is over, or does not hold yet.
    #[error("the certificate {certificate} {reason}: renew it, or set the clock")]
    Validity {
        /// Source of the certificate.
        certificate: String,
        /// "ended at .." or "does not hold before ..".
        reason: String,
    },
    /// The parts do not make a configuration.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// The part.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A name that cannot be an identity.
    #[error("`{name}` is no {wanted}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The kind of name that was needed.
        wanted: &'static str,
        /// Reason.
        reason: &'static str,
    },
    /// A server needs a certificate.
    #[error("a server needs a certificate of its own: use `Tls::mutual` or `Tls::one_way_server`")]
    NoCertificate,
    /// A client needs authorities.
    #[error("a client needs authorities to trust: use `Tls::mutual` or `Tls::one_way_client`")]
    NoAuthorities,
    /// A client needs to know how services are named.
    #[error(
        "a client must know how services are named in certificates: set `trust_domain`, `dns_suffix` or `identity`"
    )]
    NoNames,
    /// A pause that is too short.
    #[error("`reload_every` is {0:?}: use at least 1 s")]
    ReloadEvery(Duration),
}
