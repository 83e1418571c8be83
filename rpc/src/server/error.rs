use std::net::SocketAddr;

use ms_register::RegisterError;

/// Reason that a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another process using the port? port 0 picks a free one")]
    Bind {
        /// As given.
        address: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A service that cannot be served.
    #[error("service `{name}` cannot be served: {reason}")]
    Service {
        /// Its name.
        name: String,
        /// The broken rule, and what to do.
        reason: String,
    },
    /// No address that peers can dial.
    #[error("no address to advertise for {bound}: {reason}; give one with `advertise(\"host:port\")`")]
    Advertise {
        /// Address that the server listens on.
        bound: SocketAddr,
        /// Why none was found.
        reason: String,
    },
    /// A bound out of its range.
    #[error("the server's limit `{field}` is {reason}")]
    Limit {
        /// Name of the field of [`ServerLimits`](crate::ServerLimits).
        field: &'static str,
        /// The value, and the range.
        reason: String,
    },
    /// A codec or compression with the number of another.
    #[error("{0}")]
    Encoding(String),
    /// The registry refuses, or is away.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A rule that cannot be kept.
    #[error("the rule `{rule}` cannot be kept: {reason}")]
    Rule {
        /// Caller and method, as they were written.
        rule: String,
        /// The broken condition, and the remedy.
        reason: String,
    },
    /// A protocol of others that cannot be served.
    #[error("{reason}")]
    Protocol {
        /// The protocol, the broken condition, and the remedy.
        reason: String,
    },
    /// Names and tokens would cross a network in plaintext.
    #[error(
        "{address} is not loopback, and the server judges callers without TLS: use `tls` (feature `tls`), or `insecure` where the \
         network is trusted"
    )]
    Insecure {
        /// Address that the server listens on.
        address: SocketAddr,
    },
    /// Certificates that a server cannot use.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(crate::tls::TlsError),
}
