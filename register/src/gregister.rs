//! gregister, the small registry node of this project (`ms gregister`), over HTTP.

mod candidate;
mod config;
mod election;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod link;
mod source;
mod stored;
mod tenant;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{
    Election, Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch, owner::Owners,
    watch::Watches,
};

pub use config::GregisterConfig;
use election::GregisterElection;
use link::Link;
use source::Reader;
use tenant::GregisterTenant;

/// Watches are answered at once.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `gregister://`: each instance is listed under a lease of its own, whose renewal is a request that the node answers late, or
/// at once when the instance is gone.
#[derive(Debug)]
pub struct Gregister {
    link: Link,
    reader: Reader,
    ttl: Duration,
    runtime: Handle,
    owners: Owners,
    watches: Watches,
    election: Arc<GregisterElection>,
}

impl Gregister {
    /// Connects, and checks with one read that the node answers. Needs a tokio runtime, in which the watches will run.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`] or [`RegisterError::Timeout`] when the node does not answer within the configured
    /// timeout, [`RegisterError::Rejected`] for a token that it refuses, [`RegisterError::InvalidUrl`] for a configuration
    /// that cannot work.
    pub async fn connect(config: GregisterConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|_| RegisterError::NoRuntime { registry: config.url() })?;
        let link = Link::new(&config)?;
        link.get("answer", "/v1/services", Duration::ZERO).await?;
        Ok(Self {
            reader: Reader::new(link.clone()),
            election: GregisterElection::new(link.clone(), config.ttl, runtime.clone()),
            link,
            ttl: config.ttl,
            runtime,
            owners: Owners::default(),
            watches: Watches::default(),
        })
    }
}

/// Whose instances these are; names need no encoding.
fn path(service: &ServiceName) -> String {
    format!("/v1/services/{service}")
}

#[async_trait]
impl MsRegister for Gregister {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        let path = format!("{}/{}", path(service), instance.id());
        let tenant = GregisterTenant::new(self.link.clone(), path, &instance, self.ttl);
        self.owners.start(self.link.url(), service, instance, tenant).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        if self.owners.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        let mut instances = self.reader.list(&path(service)).await?.instances;
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(instances)
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let (reader, path) = (self.reader.clone(), path(service));
        self.watches.open(&self.runtime, service, |cell| async move { reader.follow(&path, &cell).await })
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let (ended, resigned) = tokio::join!(self.owners.end_all(deadline), self.election.close(deadline));
        self.watches.close();
        ended.and(resigned)
    }

    fn url(&self) -> &str {
        self.link.url()
    }

    fn scope(&self) -> Option<&str> {
        Some(config::SCOPE)
    }

    fn expiry(&self) -> Duration {
        self.ttl
    }

    fn propagation(&self) -> Duration {
        PROPAGATION
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        Ok(self.election.clone())
    }
}
