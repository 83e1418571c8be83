//! Nacos 2 over gRPC, as its own ephemeral instances, so that its other clients and its console see the same.

mod config;
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
    Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch, owner::Owners, watch::Watches,
};

pub use config::NacosConfig;
use link::Link;
use source::Reader;
use tenant::NacosTenant;

/// So long a Nacos server was seen to list a client that had fallen silent.
const EXPIRY: Duration = Duration::from_secs(17);

/// Nacos gathers changes for about a second before it tells who watches.
const PROPAGATION: Duration = Duration::from_millis(1500);

/// `nacos://`: each instance is an ephemeral one of Nacos.
///
/// Nacos tells instances apart by address and cluster: the id is `ip:port`, or stands in the metadata as `ms.id` where
/// it is another. Instances of all clusters are listed, those that Nacos calls unhealthy or disabled are not.
///
/// The client crate cannot be closed: its connections, one for each instance of the same service, stay until the
/// process ends, and are used again.
#[derive(Debug)]
pub struct Nacos {
    link: Arc<Link>,
    reader: Reader,
    scope: String,
    cluster: String,
    runtime: Handle,
    owners: Owners,
    watches: Watches,
}

impl Nacos {
    /// Connects, and checks with one read that Nacos answers. Needs a tokio runtime, in which the watches will run.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`] or [`RegisterError::Timeout`] when no server answers within the configured timeout,
    /// [`RegisterError::Rejected`] for credentials that Nacos refuses, [`RegisterError::InvalidUrl`] for a
    /// configuration that cannot work.
    pub async fn connect(config: NacosConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let url = config.url();
        let runtime = Handle::try_current().map_err(|_| RegisterError::NoRuntime { registry: url })?;
        let (scope, cluster) = (config.scope(), config.cluster.clone());
        let link = Arc::new(Link::connect(config, runtime.clone()).await?);
        Ok(Self {
            reader: Reader::new(link.clone()),
            link,
            scope,
            cluster,
            runtime,
            owners: Owners::default(),
            watches: Watches::default(),
        })
    }
}

#[async_trait]
impl MsRegister for Nacos {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        let stored = stored::encode(&instance, &self.cluster);
        let tenant = NacosTenant::new(self.link.clone(), service.clone(), stored);
        self.owners.start(self.link.url(), service, instance, tenant).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        if self.owners.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        self.reader.list(service).await
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let (reader, name) = (self.reader.clone(), service.clone());
        self.watches.open(&self.runtime, service, |cell| async move { reader.follow(&name, &cell).await })
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let ended = self.owners.end_all(deadline).await;
        self.watches.close();
        ended
    }

    fn url(&self) -> &str {
        self.link.url()
    }

    fn scope(&self) -> Option<&str> {
        Some(&self.scope)
    }

    fn expiry(&self) -> Duration {
        EXPIRY
    }

    fn propagation(&self) -> Duration {
        PROPAGATION
    }
}
