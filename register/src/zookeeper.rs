//! ZooKeeper, in the layout of Curator's service discovery, so that Java services read the same instances; or in the layout
//! of another framework.

mod candidate;
mod config;
mod election;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod keeper;
mod layout;
mod life;
mod link;
mod nodes;
mod queue;
mod source;
mod stored;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{
    About, Backend, ElectionBackend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, ServicesCell,
    SnapshotCell,
};

pub use config::{ZookeeperConfig, ZookeeperLayout, ZookeeperPayload};
use keeper::ZookeeperKeeper;
use layout::Layout;
use link::Link;
use source::Reader;

/// Watches were seen to tell within 10 ms.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `zookeeper://`: each instance is the ephemeral node `<base>/<service>/<id>`.
///
/// The data is what Curator's service discovery writes, with weight and metadata in its payload. Instances that others
/// wrote in that form are listed too; nodes that cannot be read as one are skipped, with one warning each.
/// [`ZookeeperLayout::MasterNormal`] is another form.
///
/// All instances of one client go over one session. When that is lost, its instances are written again under the next one.
/// Needs ZooKeeper 3.6 or later.
pub type Zookeeper = Registry<ZookeeperBackend>;

/// The back end of [`Zookeeper`].
#[derive(Debug)]
pub struct ZookeeperBackend {
    link: Arc<Link>,
    reader: Reader,
    layout: Layout,
}

#[async_trait]
impl Backend for ZookeeperBackend {
    type Config = ZookeeperConfig;

    fn new(config: ZookeeperConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|_| config.about().no_runtime())?;
        let layout = Layout::of(&config);
        let link = Arc::new(Link::new(config, runtime));
        Ok(Self { reader: Reader::new(link.clone(), layout.clone()), link, layout })
    }

    fn about(&self) -> &About {
        self.link.about()
    }

    /// The session's time, as the server granted it.
    fn expiry(&self) -> Duration {
        self.link.granted().unwrap_or_else(|| self.link.about().expiry())
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        let session = self.link.session().await?;
        self.link.bounded(&session, "answer", nodes::owner(&session.client, self.layout.base())).await.map(drop)
    }

    fn check(&self, service: &ServiceName, instance: Option<&Instance>) -> Result<(), RegisterError> {
        stored::check_step(service.as_str())
            .map_err(|reason| RegisterError::InvalidName { name: service.to_string(), reason })?;
        let Some(instance) = instance else { return Ok(()) };
        self.layout
            .check(instance)
            .map_err(|reason| RegisterError::InvalidInstance { instance: instance.id().to_owned(), reason })
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        let data = self.layout.encode(service, instance, SystemTime::now());
        let (link, layout) = (self.link.clone(), self.layout.clone());
        Some(Box::new(ZookeeperKeeper::new(link, layout, service.clone(), instance.id().into(), data)))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        self.reader.list(service).await
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        self.reader.follow(service, cell).await
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        self.reader.services().await
    }

    async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        self.reader.follow_services(cell).await
    }

    fn elections(&self) -> Option<&dyn ElectionBackend> {
        Some(self)
    }

    async fn close(&self) {
        self.link.leave().await;
    }
}
