//! gregister, the small registry node of this project (`ms gregister`), over HTTP.

mod candidate;
mod config;
mod connector;
mod election;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod lease;
mod link;
mod source;
mod stored;

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    About, Backend, ElectionBackend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, SnapshotCell,
};

pub use config::GregisterConfig;
use lease::GregisterKeeper;
use link::{Answer, Link};

/// Watches are answered at once.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `gregister://`: each instance is listed under a lease of its own, whose renewal is a request that the node answers late, or
/// at once when the instance is gone.
pub type Gregister = Registry<GregisterBackend>;

/// The back end of [`Gregister`].
#[derive(Debug)]
pub struct GregisterBackend {
    link: Link,
    ttl: Duration,
}

/// Path of a service's instances; names need no encoding.
fn path(service: &ServiceName) -> String {
    format!("/v1/services/{service}")
}

#[async_trait]
impl Backend for GregisterBackend {
    type Config = GregisterConfig;

    fn new(config: GregisterConfig) -> Result<Self, RegisterError> {
        config.check()?;
        Ok(Self { link: Link::new(&config)?, ttl: config.ttl })
    }

    fn about(&self) -> &About {
        self.link.about()
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        self.link.get("answer", "/v1/services", Duration::ZERO).await.map(drop)
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        let path = format!("{}/{}", path(service), instance.id());
        Some(Box::new(GregisterKeeper::new(self.link.clone(), path, instance, self.ttl)))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(source::list(&self.link, &path(service)).await?.found)
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        source::follow(&self.link, &path(service), cell).await
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        match self.link.get("list the services", "/v1/services", Duration::ZERO).await? {
            Answer::Body(body) => stored::decode_services(&body).map_err(|reason| self.link.about().rejected(reason)),
            Answer::Same | Answer::Missing => Err(self.link.no_gregister()),
        }
    }

    fn elections(&self) -> Option<&dyn ElectionBackend> {
        Some(self)
    }
}
