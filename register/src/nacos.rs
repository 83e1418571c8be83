//! Nacos 2 over gRPC, as its own ephemeral instances, so that its other clients and its console see the same.

mod config;
mod http;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod keeper;
mod link;
mod source;
mod stored;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, SnapshotCell};

pub use config::NacosConfig;
use keeper::NacosKeeper;
use link::Link;

/// Longest time for which a Nacos server was seen to list a client that had fallen silent.
const EXPIRY: Duration = Duration::from_secs(17);

/// Nacos gathers changes for about a second before it notifies watchers.
const PROPAGATION: Duration = Duration::from_millis(1500);

/// `nacos://`: each instance is an ephemeral one of Nacos.
///
/// Nacos tells instances apart by address and cluster: the id is `ip:port`, or stands in the metadata as `ms.id` where
/// it is another. Instances of all clusters are listed, those that Nacos calls unhealthy or disabled are not.
///
/// The client crate cannot be closed: its connections, one for each instance of the same service, stay until the
/// process ends, and are used again.
pub type Nacos = Registry<NacosBackend>;

/// The back end of [`Nacos`].
#[derive(Debug)]
pub struct NacosBackend {
    link: Arc<Link>,
    cluster: String,
}

#[async_trait]
impl Backend for NacosBackend {
    type Config = NacosConfig;

    fn new(config: NacosConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|_| config.about().no_runtime())?;
        Ok(Self { cluster: config.cluster.clone(), link: Arc::new(Link::new(config, runtime)) })
    }

    fn about(&self) -> &About {
        self.link.about()
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        self.link.connect().await
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        let stored = stored::encode(instance, &self.cluster);
        Some(Box::new(NacosKeeper::new(self.link.clone(), service.clone(), stored)))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        source::list(&self.link, service).await
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        source::follow(&self.link, service, cell).await
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        let names = self.link.services().await?;
        Ok(names.iter().filter_map(|name| ServiceName::new(name).ok()).collect())
    }
}
