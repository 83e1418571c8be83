//! Lists on disk, for starts while the registry is away.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{fs::OFlags, process::geteuid};
use serde::{Deserialize, Serialize};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{debug, warn};

use crate::{About, Found, Instance, RegisterError, ServiceName, SnapshotCell};

/// The last list of each watched service, in a directory of this user alone. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: Arc<Path>,
    about: About,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    registry: String,
    service: String,
    /// Milliseconds since 1970, UTC.
    written: u64,
    instances: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    id: String,
    host: String,
    port: u16,
    weight: f64,
    metadata: BTreeMap<String, String>,
}

impl Cache {
    /// Changes are gathered for this long before they are written.
    const GATHER: Duration = Duration::from_millis(200);
    /// The largest file that is read, in bytes.
    const LARGEST: u64 = 64 << 20;

    /// Makes the directory if it is not there. What others may write is not trusted.
    pub(crate) fn open(directory: PathBuf, about: &About) -> Result<Self, RegisterError> {
        private_directory(&directory)
            .map_err(|error| about.invalid(format!("cache={}: {error}", directory.display())))?;
        Ok(Self { directory: directory.into(), about: about.clone() })
    }

    /// Shows the list on disk as long as there is no other.
    pub(crate) async fn restore(&self, service: &ServiceName, cell: &SnapshotCell) {
        let (cache, name) = (self.clone(), service.clone());
        match spawn_blocking(move || cache.load(&name)).await {
            Ok(Ok((found, age))) => {
                let reason = format!("it has not answered yet; the list is from {}", self.directory.display());
                cell.restore(found, age, &self.about.unreachable(reason));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => warn!("{}: {error}", self.path(service).display()),
            // The runtime ends.
            Err(_) => {}
        }
    }

    /// Writes each list that the registry confirms, for ever. An empty one is not kept: it may be what a registry says that has
    /// just lost its data.
    pub(crate) async fn keep(&self, service: &ServiceName, cell: &SnapshotCell) {
        let mut is_writable = true;
        loop {
            cell.changed().await;
            sleep(Self::GATHER).await;
            let Some(instances) = cell.confirmed().filter(|instances| !instances.is_empty()) else { continue };
            let (cache, name) = (self.clone(), service.clone());
            let stored = spawn_blocking(move || cache.store(&name, &instances)).await;
            let failed = stored.unwrap_or(Ok(())).err();
            if let Some(error) = failed.as_ref().filter(|_| is_writable) {
                warn!(
                    "{}: {error}: a start without the registry will find an older list",
                    self.path(service).display()
                );
            }
            is_writable = failed.is_none();
        }
    }

    fn load(&self, service: &ServiceName) -> io::Result<(Vec<Found>, Duration)> {
        let path = self.path(service);
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(no_follow).open(&path)?;
        let mut bytes = Vec::new();
        file.take(Self::LARGEST).read_to_end(&mut bytes)?;
        let kept: Kept = serde_json::from_slice(&bytes)?;
        if kept.registry != self.about.url() || kept.service != service.as_str() {
            debug!("{} is of `{}` in {}", path.display(), kept.service, kept.registry);
            return Err(io::ErrorKind::NotFound.into());
        }
        let age = now().saturating_sub(Duration::from_millis(kept.written));
        let instance = |entry: Entry| {
            let instance = Instance::new(entry.host, entry.port).with_id(entry.id).with_weight(entry.weight);
            let metadata = entry.metadata.into_iter();
            Ok(metadata.fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
        };
        Ok((kept.instances.into_iter().map(instance).collect(), age))
    }

    /// Replaces the file as a whole: a reader sees the old list or the new one.
    fn store(&self, service: &ServiceName, instances: &[Instance]) -> io::Result<()> {
        let entry = |instance: &Instance| Entry {
            id: instance.id().to_owned(),
            host: instance.host().to_owned(),
            port: instance.port(),
            weight: instance.weight(),
            metadata: instance.metadata().clone(),
        };
        let kept = Kept {
            registry: self.about.url().to_owned(),
            service: service.to_string(),
            written: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
            instances: instances.iter().map(entry).collect(),
        };
        let bytes = serde_json::to_vec(&kept)?;
        let path = self.path(service);
        let new = path.with_extension(format!("{:016x}", fastrand::u64(..)));
        // A new file: a link that somebody laid there is an error, and never followed.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(&bytes).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // An error: it is not there.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// One file for each registry and service; names need no encoding.
    fn path(&self, service: &ServiceName) -> PathBuf {
        self.directory.join(format!("{:016x}-{service}.json", hash(self.about.url())))
    }
}

/// Makes a directory of this user alone, if it is not there.
///
/// # Errors
/// The directory has another owner, others may write to it, or it is a link.
pub(crate) fn private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("give a directory of this user that others cannot write to (mode 700)"));
    }
    Ok(())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// FNV-1a, which stays the same over versions and machines.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
