//! The file of routes, zinx-cluster's `route.json`: read at the start, and again when it changes.

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tracing::{info, warn};

use crate::{GateError, Routes, RunningGate};

/// Period of looks at the file.
const LOOK: Duration = Duration::from_millis(500);
/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// A file of routes, and what it said last.
#[derive(Debug)]
pub struct RouteFile {
    path: PathBuf,
    version: Version,
    routes: Routes,
}

/// Identity of one content of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Version {
    length: u64,
    written: Option<SystemTime>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), written: metadata.modified().ok() }
    }
}

impl RouteFile {
    /// Reads a file of the form of [`Routes::from_json`].
    ///
    /// # Errors
    /// [`GateError::File`].
    pub async fn read(path: impl Into<PathBuf>) -> Result<Self, GateError> {
        let path = path.into();
        let failed = |reason: String| GateError::File { path: path.clone(), reason };
        let (version, text) = ask(&path, read_text).await.map_err(|error| failed(error.to_string()))?;
        let routes = Routes::from_json(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Self { path, version, routes })
    }

    /// What the file said when it was read last.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Reads the file again when it changes, for this gate, until the result is dropped. A content that cannot be used changes nothing; a
    /// warning says why.
    pub fn follow(mut self, gate: &RunningGate) -> FollowedRoutes {
        let set_routes = gate.routes_setter();
        FollowedRoutes(tokio::spawn(async move {
            loop {
                sleep(LOOK).await;
                if self.has_changed().await {
                    set_routes(self.routes.clone());
                }
            }
        }))
    }

    /// Reads the file again if it is another one by now; returns true if it can be used.
    async fn has_changed(&mut self) -> bool {
        let look = ask(&self.path, |path| fs::metadata(path).map(|metadata| Version::of(&metadata))).await;
        // A file that is away for a moment is being replaced.
        let Ok(version) = look else { return false };
        if version == self.version {
            return false;
        }
        match Self::read(self.path.clone()).await {
            Ok(read) => {
                info!("{} has changed", self.path.display());
                *self = read;
                true
            }
            Err(error) => {
                // Once for each content.
                self.version = version;
                warn!("{error}: the routes stay as they were");
                false
            }
        }
    }
}

/// Follows a file of routes until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, the file is followed no more"]
pub struct FollowedRoutes(JoinHandle<()>);

impl Drop for FollowedRoutes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn read_text(path: &Path) -> io::Result<(Version, String)> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > LARGEST {
        return Err(io::Error::other(format!("it has {} bytes, at most {LARGEST} are read", metadata.len())));
    }
    Ok((Version::of(&metadata), fs::read_to_string(path)?))
}

/// Asks the file system, off the threads of the runtime.
async fn ask<T: Send + 'static>(path: &Path, ask: fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = path.to_owned();
    spawn_blocking(move || ask(&path)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
