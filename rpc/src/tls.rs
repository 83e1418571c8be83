//! TLS 1.3 with the identity of the service: certificates, keys and authorities of a process, for its servers and its clients.

mod accept;
mod dial;
mod stream;

pub use ms_security::tls::*;

pub(crate) use accept::TlsAccept;
pub(crate) use dial::TlsDial;

/// Application protocol that both sides must name.
const ALPN: Protocol = Protocol::required("ms-rpc/2");
