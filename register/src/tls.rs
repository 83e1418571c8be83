//! TLS with a registry: files in PEM, read again when they change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_blocking, time::Instant};
use tracing::{info, warn};

use crate::{RegisterError, url::RegistryUrl};

/// Certificates for TLS with a registry: files in PEM. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// Certificates of the authorities that may have signed the registry's. There are no others, those of the system included.
    pub ca: PathBuf,
    /// The client's certificate, with those between it and its authority, and its private key; none by default.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Name that the registry's certificate must be for. Default: the host that is connected to.
    pub server_name: Option<String>,
}

impl TlsFiles {
    /// Parameters of URLs.
    pub(crate) const KEYS: [&str; 5] = ["tls", "ca", "cert", "key", "server_name"];

    /// Registries whose certificates were signed by one of these authorities.
    pub fn new(ca: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), identity: None, server_name: None }
    }

    /// Shows the registry this certificate, whose private key is in the second file.
    #[must_use]
    pub fn with_identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Expects the registry's certificate to be for this name.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The parameters `tls=1`, `ca`, `cert`, `key` and `server_name`.
    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Option<Self>, RegisterError> {
        match url.get("tls") {
            Some("1") => {}
            None | Some("0") => {
                return match Self::KEYS[1..].iter().find(|key| url.get(key).is_some()) {
                    Some(key) => Err(url.invalid(&format!("{key} is for TLS: add tls=1"))),
                    None => Ok(None),
                };
            }
            Some(_) => return Err(url.bad("tls", "use 0 or 1")),
        }
        let ca = url
            .get("ca")
            .ok_or_else(|| url.invalid("tls=1 needs ca=FILE: the authority of the registry's certificate"))?;
        let identity = match (url.get("cert"), url.get("key")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err(url.invalid("give both cert and key, or none of them")),
        };
        Ok(Some(Self { ca: ca.into(), identity, server_name: url.get("server_name").map(str::to_owned) }))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        std::iter::once(&self.ca).chain(identity).cloned().collect()
    }
}

/// Contents of the files.
#[derive(Debug)]
pub(crate) struct Pem {
    pub(crate) ca: Vec<u8>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    version: Version,
}

/// Tells contents of files apart without reading them: inode, length and time of each.
type Version = Vec<(u64, u64, Option<SystemTime>)>;

/// The contents as they were read last.
#[derive(Debug)]
pub(crate) struct TlsReader {
    pub(crate) files: TlsFiles,
    read: Mutex<Option<(Arc<Pem>, Instant)>>,
}

impl TlsReader {
    /// Shortest time between two looks at the files.
    const LOOK: Duration = Duration::from_secs(1);

    pub(crate) fn new(files: TlsFiles) -> Self {
        Self { files, read: Mutex::default() }
    }

    /// The contents, read again if the files have changed. Where that fails the old ones stay.
    ///
    /// # Errors
    /// The files cannot be read, and never were; the text names the file.
    pub(crate) async fn pem(&self) -> io::Result<Arc<Pem>> {
        let slot = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slot().clone();
        if let Some((pem, looked)) = &before
            && looked.elapsed() < Self::LOOK
        {
            return Ok(pem.clone());
        }
        let (paths, known) = (self.files.paths(), before.as_ref().map(|(pem, _)| pem.version.clone()));
        let read = spawn_blocking(move || read(&paths, known)).await.map_err(io::Error::other)?;
        let pem = match (read, before) {
            (Ok(Some(pem)), before) => {
                if before.is_some() {
                    info!("{} and what belongs to it changed: read again", self.files.ca.display());
                }
                Arc::new(pem)
            }
            (Ok(None), Some((pem, _))) => pem,
            (Err(error), Some((pem, _))) => {
                warn!("{error}: the certificates of before stay in use");
                pem
            }
            (Err(error), None) => return Err(error),
            (Ok(None), None) => return Err(io::Error::other("there is no certificate")),
        };
        *slot() = Some((pem.clone(), Instant::now()));
        Ok(pem)
    }
}

/// `None`: they are as they were.
fn read(paths: &[PathBuf], known: Option<Version>) -> io::Result<Option<Pem>> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let version = |path: &PathBuf| {
        let found = fs::metadata(path).map_err(|error| named(path, error))?;
        Ok((found.ino(), found.len(), found.modified().ok()))
    };
    let version = paths.iter().map(version).collect::<io::Result<Version>>()?;
    if known.as_ref() == Some(&version) {
        return Ok(None);
    }
    let content = |path: &PathBuf| {
        let text = fs::read(path).map_err(|error| named(path, error))?;
        if !text.windows(11).any(|part| part == b"-----BEGIN ") {
            return Err(named(path, io::Error::other("it is not PEM: no line begins with `-----BEGIN`")));
        }
        Ok(text)
    };
    let mut contents = paths.iter().map(content).collect::<io::Result<Vec<_>>>()?.into_iter();
    let (ca, certificate, key) = (contents.next().unwrap_or_default(), contents.next(), contents.next());
    Ok(Some(Pem { ca, identity: certificate.zip(key), version }))
}
