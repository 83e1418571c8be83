//! Services in a file that somebody else writes.

mod form;

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, ServicesCell, SnapshotCell,
    url::RegistryUrl,
};

use form::Services;

/// `file://`: services and their instances in a file in TOML or JSON, read again when it changes.
///
/// Registering succeeds and publishes nothing: whoever writes the file lists the instances.
pub type File = Registry<FileBackend>;

/// The back end of [`File`].
#[derive(Clone, Debug)]
pub struct FileBackend {
    about: About,
    path: Arc<Path>,
}

/// Identity of one content of a file. Whoever replaces the file, or a link to it, changes it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Version {
    inode: u64,
    length: u64,
    written: Option<SystemTime>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), length: metadata.len(), written: metadata.modified().ok() }
    }
}

impl FileBackend {
    /// Period of looks at the file. A file system need not tell of changes, above all one of a network.
    const LOOK: Duration = Duration::from_millis(500);
    /// Longest time of one look.
    const TIMEOUT: Duration = Duration::from_secs(3);
    /// The largest file that is read, in bytes.
    const LARGEST: u64 = 64 << 20;

    pub(crate) fn config(url: &RegistryUrl) -> Result<PathBuf, RegisterError> {
        url.check_keys(&[])?;
        Ok(PathBuf::from(&url.location))
    }

    /// Asks the file system, off the threads of the runtime.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, RegisterError> {
        let path = self.path.clone();
        let asking = async {
            let asked = spawn_blocking(move || ask(&path)).await.map_err(|error| self.about.unreachable(error))?;
            asked.map_err(|error| self.about.unreachable(error))
        };
        self.about.within(Self::TIMEOUT, "read the file", asking).await
    }

    async fn read(&self) -> Result<(Version, Services), RegisterError> {
        let read = |path: &Path| {
            let metadata = fs::metadata(path)?;
            if metadata.len() > Self::LARGEST {
                let (size, most) = (metadata.len(), Self::LARGEST);
                return Err(io::Error::other(format!("it has {size} bytes, at most {most} are read")));
            }
            Ok((Version::of(&metadata), fs::read_to_string(path)?))
        };
        let (version, text) = self.ask(read).await?;
        let is_toml = self.path.extension().is_some_and(|extension| extension == "toml");
        let services = if is_toml { form::toml(&text) } else { form::json(&text) };
        // Another content will be read: whoever writes the file may not have ended.
        let services = services.map_err(|reason| self.about.unreachable(format!("it does not parse: {reason}")))?;
        Ok((version, services))
    }

    /// Reads the file, and again after each change; ends with the first error.
    async fn each(&self, mut show: impl FnMut(&Services) + Send) -> Result<(), RegisterError> {
        loop {
            let (version, services) = self.read().await?;
            show(&services);
            loop {
                sleep(Self::LOOK).await;
                if self.ask(|path| fs::metadata(path).map(|metadata| Version::of(&metadata))).await? != version {
                    break;
                }
            }
        }
    }
}

fn found(services: &Services, service: &ServiceName) -> Vec<Found> {
    services.get(service).cloned().unwrap_or_default()
}

#[async_trait]
impl Backend for FileBackend {
    type Config = PathBuf;

    fn new(path: PathBuf) -> Result<Self, RegisterError> {
        let about = About::new(format!("file://{}", path.display()));
        if !path.extension().is_some_and(|extension| extension == "toml" || extension == "json") {
            return Err(about.invalid("give the path of a .toml or .json file: `file:///etc/services.toml`"));
        }
        Ok(Self { about, path: path.into() })
    }

    fn about(&self) -> &About {
        &self.about
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        self.read().await.map(drop)
    }

    fn lease(&self, _: &ServiceName, _: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        None
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(found(&self.read().await?.1, service))
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        self.each(|services| cell.refresh(found(services, service))).await
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        Ok(self.read().await?.1.into_keys().collect())
    }

    async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        self.each(|services| cell.refresh(services.keys().cloned().collect())).await
    }
}
