//! TLS 1.3 with the identity of the service: certificates, keys and authorities of a process, for its servers and its clients.

#[cfg(feature = "tls-dev")]
pub mod dev;
mod error;
mod explain;
mod identity;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod material;
mod stream;
#[cfg(test)]
mod tests;
mod verify;
mod watch;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio_rustls::rustls;

pub use error::TlsError;
use identity::Names;
use material::{Loaded, Sources};
pub use stream::{Certified, Expected, Protocol, TlsStream};
use watch::Watcher;

/// PEM text (RFC 7468): a file, which is read again at each reload, or bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Pem {
    /// A file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The text itself.
    pub fn bytes(text: impl Into<Vec<u8>>) -> Self {
        Self(Source::Bytes(text.into().into()))
    }
}

/// Path of a file.
impl From<&str> for Pem {
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

/// Path of a file.
impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}

/// The path of a file, or the number of bytes; never the text, which may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Bytes(text) => write!(f, "{} bytes", text.len()),
        }
    }
}

/// Certificate, key and authorities of a process, for its servers and its clients. Cheap to clone; all clones see a reload.
///
/// Connections are TLS 1.3, and mutual: both sides present a certificate of an authority that the other trusts. A client takes
/// a server for an instance of service `S` only if its certificate names `S`, in one of the ways that the builder sets; the
/// registry is never asked for it, and no option skips it.
///
/// Files are compared every [`reload_every`](TlsBuilder::reload_every), and read anew when they changed: certificate, key,
/// authorities and revocations. Connections that stand go on; when a peer's certificate ends, RPC servers and clients replace its
/// connections.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ms_security::tls::Tls;
///
/// let tls = Tls::mutual("ca.pem", "goods.pem", "goods.key").trust_domain("prod").build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    sources: Sources,
    names: Names,
    current: ArcSwap<Loaded>,
    reload_every: Duration,
    watcher: Mutex<Watcher>,
}

impl Tls {
    /// Both sides present certificates: `ca` holds the authorities that sign the peers', `certificate` this process's chain, its own
    /// certificate first, and `key` the private key for it.
    pub fn mutual(ca: impl Into<Pem>, certificate: impl Into<Pem>, key: impl Into<Pem>) -> TlsBuilder {
        TlsBuilder::new(Some(ca.into()), Some((certificate.into(), key.into())))
    }

    /// For servers alone: clients are asked for no certificate, and are anonymous.
    pub fn one_way_server(certificate: impl Into<Pem>, key: impl Into<Pem>) -> TlsBuilder {
        TlsBuilder::new(None, Some((certificate.into(), key.into())))
    }

    /// For clients alone: they present no certificate, which only servers of [`one_way_server`](Self::one_way_server) take.
    pub fn one_way_client(ca: impl Into<Pem>) -> TlsBuilder {
        TlsBuilder::new(Some(ca.into()), None)
    }

    /// Reads all files again, and uses them for connections from now on if they fit together; returns true if they changed.
    /// Reads files: on a runtime's thread, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// The reason that the new files are not used; the previous configuration stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.0.reload()
    }

    fn current(&self) -> Arc<Loaded> {
        self.0.current.load_full()
    }

    /// Sees that files are compared from now on. Needs a runtime around it.
    fn watch(&self) {
        watch::start(&self.0);
    }

    /// Checks that a server can use it.
    ///
    /// # Errors
    /// There is no certificate.
    pub fn check_server(&self) -> Result<(), TlsError> {
        if self.current().has_certificate() { Ok(()) } else { Err(TlsError::NoCertificate) }
    }

    /// Checks that a client can use it for services.
    ///
    /// # Errors
    /// There are no authorities, or no rule for names of services.
    pub fn check_client(&self) -> Result<(), TlsError> {
        self.check_authorities()?;
        if self.0.names.is_empty() { Err(TlsError::NoNames) } else { Ok(()) }
    }

    /// Checks that a client can use it for hosts.
    ///
    /// # Errors
    /// There are no authorities.
    pub fn check_authorities(&self) -> Result<(), TlsError> {
        self.current().client.as_ref().map(drop).ok_or(TlsError::NoAuthorities)
    }
}

impl Inner {
    fn reload(&self) -> Result<bool, TlsError> {
        let texts = self.sources.read()?;
        if self.current.load().texts == texts {
            return Ok(false);
        }
        self.current.store(Arc::new(Loaded::new(&self.sources, texts)?));
        Ok(true)
    }
}

/// Files and names; no keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("sources", &self.0.sources).field("names", &self.0.names).finish_non_exhaustive()
    }
}

/// Settings of a [`Tls`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct TlsBuilder {
    sources: Sources,
    names: Names,
    reload_every: Duration,
}

impl TlsBuilder {
    fn new(ca: Option<Pem>, own: Option<(Pem, Pem)>) -> Self {
        let sources = Sources { ca, own, crl: None };
        Self { sources, names: Names::default(), reload_every: Duration::from_secs(60) }
    }

    /// Service `S` has the SPIFFE ID `spiffe://<trust domain>/S` in its certificate, as a URI among the alternative names
    /// (<https://spiffe.io>, X509-SVID).
    pub fn trust_domain(mut self, domain: impl Into<String>) -> Self {
        self.names.trust_domain = Some(domain.into());
        self
    }

    /// Service `S` has the DNS name `S.<suffix>` in its certificate.
    pub fn dns_suffix(mut self, suffix: impl Into<String>) -> Self {
        self.names.dns_suffix = Some(suffix.into());
        self
    }

    /// The service has this identity, a URI or a DNS name, and no other: for processes that serve several services under one
    /// certificate, and for services whose names fit into neither form.
    pub fn identity(mut self, service: impl Into<String>, identity: impl Into<String>) -> Self {
        self.names.explicit.insert(service.into(), identity.into());
        self
    }

    /// Revocation lists (RFC 5280): peers whose certificates are in them are refused. One for each authority in the chains.
    pub fn revocations(mut self, crl: impl Into<Pem>) -> Self {
        self.sources.crl = Some(crl.into());
        self
    }

    /// Pause between comparisons of the files. Default 60 s; at least 1 s.
    pub fn reload_every(mut self, pause: Duration) -> Self {
        self.reload_every = pause;
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// A file that cannot be read, or holds nothing of what it should; a key of another certificate; a certificate that is not valid
    /// now; a name that cannot be an identity.
    pub fn build(self) -> Result<Tls, TlsError> {
        self.names.check()?;
        if self.reload_every < Duration::from_secs(1) {
            return Err(TlsError::ReloadEvery(self.reload_every));
        }
        let texts = self.sources.read()?;
        let current = ArcSwap::from_pointee(Loaded::new(&self.sources, texts)?);
        let Self { sources, names, reload_every } = self;
        Ok(Tls(Arc::new(Inner { sources, names, current, reload_every, watcher: Mutex::default() })))
    }
}

/// Provider of the cryptography: ring. Never the process's default, which another crate may set.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
