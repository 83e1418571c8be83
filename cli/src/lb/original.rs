//! go-micro-service's files on this machine.

use std::{error::Error, io::Write, net::SocketAddr, path::Path};

use ms_lb::original::{FileError, Found, read_or_write};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::lookup_host;

/// Reads the file; one that is missing is written, and the user told.
pub(super) fn read<T: DeserializeOwned + Serialize>(path: &Path, default: fn() -> T) -> Result<T, FileError> {
    let found = read_or_write(path, default)?;
    if let Found::Written(_) = &found {
        let _ = writeln!(std::io::stderr(), "ms: {} was missing: it is written with defaults", path.display());
    }
    Ok(found.content())
}

/// Address to listen on for a host of a file; of several that a name has, one of IPv4.
pub(super) async fn listening(host: &str, port: u16) -> Result<SocketAddr, Box<dyn Error>> {
    let addresses: Vec<_> =
        lookup_host((host, port)).await.map_err(|error| format!("host: {host:?}: {error}"))?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first());
    first.copied().ok_or_else(|| format!("host: {host:?} has no address").into())
}
