//! The other end of a connection.

use std::{fmt, net::SocketAddr, time::SystemTime};

/// The other end of a connection, as a server sees it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Peer {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
    /// `None` for an anonymous peer: a server may hold many connections of them.
    verified: Option<Box<Verified>>,
}

/// Identity and principal of a peer.
#[derive(Clone, Default, PartialEq, Eq)]
struct Verified {
    identity: String,
    /// End of the certificate with that identity.
    ends: Option<SystemTime>,
    principal: Option<String>,
}

impl Peer {
    /// A peer of which nothing is known, such as a caller within this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a socket address.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The same with a name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same with credentials.
    #[must_use]
    pub fn with_credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }

    /// The same with a verified identity, such as a URI of a certificate. At `ends` the server says GOAWAY.
    #[must_use]
    pub fn with_identity(mut self, identity: impl Into<String>, ends: Option<SystemTime>) -> Self {
        let verified = self.verified.get_or_insert_default();
        (verified.identity, verified.ends) = (identity.into(), ends);
        self
    }

    /// Socket address; none for a caller within this process.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Name that the client gives itself. Not verified.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Verified identity: with mutual TLS the URI or DNS name in the client's certificate. Empty without one.
    pub fn identity(&self) -> &str {
        self.verified.as_ref().map_or("", |verified| &verified.identity)
    }

    /// Time at which the [identity](Self::identity) ends.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.verified.as_ref()?.ends
    }

    /// The same with the name that an authentication found.
    #[must_use]
    pub fn with_principal(mut self, name: impl Into<String>) -> Self {
        self.verified.get_or_insert_default().principal = Some(name.into());
        self
    }

    /// Name of the caller for [rules](crate::Server::allow): what [`Server::authenticate`](crate::Server::authenticate) found, else
    /// the verified [identity](Self::identity). Empty for an anonymous caller.
    pub fn principal(&self) -> &str {
        self.verified.as_ref().and_then(|verified| verified.principal.as_deref()).unwrap_or_else(|| self.identity())
    }

    /// Credentials that the client presents, for interceptors and layers to judge. Empty by default.
    pub fn credentials(&self) -> &[u8] {
        &self.credentials
    }
}

/// Leaves the credentials out.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}
