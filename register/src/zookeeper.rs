//! ZooKeeper, in the layout of Curator's service discovery, so that Java services read the same instances; or in the layout
//! of another framework.

mod candidate;
mod config;
mod election;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod layout;
mod life;
mod link;
mod nodes;
mod source;
mod stored;
mod tenant;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{
    Election, Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch, owner::Owners,
    watch::Watches,
};

pub use config::{ZookeeperConfig, ZookeeperLayout, ZookeeperPayload};
use election::ZookeeperElection;
use layout::Layout;
use link::Link;
use source::Reader;
use tenant::ZookeeperTenant;

/// Watches were seen to tell within 10 ms.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `zookeeper://`: each instance is the ephemeral node `<base>/<service>/<id>`.
///
/// The data is what Curator's service discovery writes, with weight and metadata in its payload. Instances that others
/// wrote in that form are listed too; what cannot be read as one is skipped, with one warning for each write.
/// [`ZookeeperLayout::MasterNormal`] is another form.
///
/// All of one client go over one session. When that is lost, its instances are written again under the next one.
/// Needs ZooKeeper 3.6 or later.
#[derive(Debug)]
pub struct Zookeeper {
    link: Arc<Link>,
    reader: Reader,
    layout: Layout,
    scope: String,
    expiry: Duration,
    runtime: Handle,
    owners: Owners,
    watches: Watches,
    election: Arc<ZookeeperElection>,
}

impl Zookeeper {
    /// Opens a session, and checks with one read that ZooKeeper serves. Needs a tokio runtime, in which the session and the
    /// watches will run.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`] or [`RegisterError::Timeout`] when no server gives a session within the configured
    /// timeout, [`RegisterError::Rejected`] for credentials that ZooKeeper refuses, [`RegisterError::InvalidUrl`] for a
    /// configuration that cannot work.
    pub async fn connect(config: ZookeeperConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let url = config.url();
        let runtime = Handle::try_current().map_err(|_| RegisterError::NoRuntime { registry: url })?;
        let (scope, layout) = (config.scope(), Layout::of(&config));
        let link = Arc::new(Link::new(config, runtime.clone()));
        let session = link.session().await?;
        link.bounded(&session, "answer", nodes::owner(&session.client, layout.base())).await?;
        Ok(Self {
            reader: Reader::new(link.clone(), layout.clone()),
            election: ZookeeperElection::new(link.clone(), layout.clone()),
            link,
            layout,
            scope,
            expiry: session.client.session_timeout(),
            runtime,
            owners: Owners::default(),
            watches: Watches::default(),
        })
    }

    fn check_service(&self, service: &ServiceName) -> Result<(), RegisterError> {
        stored::check_step(service.as_str())
            .map_err(|reason| RegisterError::InvalidName { name: service.to_string(), reason })
    }
}

#[async_trait]
impl MsRegister for Zookeeper {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        self.check_service(service)?;
        self.layout
            .check(&instance)
            .map_err(|reason| RegisterError::InvalidInstance { instance: instance.id().to_owned(), reason })?;
        let data = self.layout.encode(service, &instance, SystemTime::now());
        let tenant =
            ZookeeperTenant::new(self.link.clone(), self.layout.clone(), service.clone(), instance.id().into(), data);
        self.owners.start(self.link.url(), service, instance, tenant).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        if self.owners.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        self.check_service(service)?;
        self.reader.list(service).await
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let (reader, name) = (self.reader.clone(), service.clone());
        self.watches.open(&self.runtime, service, |cell| async move { reader.follow(&name, &cell).await })
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let (ended, resigned) = tokio::join!(self.owners.end_all(deadline), self.election.close(deadline));
        self.watches.close();
        self.link.leave().await;
        ended.and(resigned)
    }

    fn url(&self) -> &str {
        self.link.url()
    }

    fn scope(&self) -> Option<&str> {
        Some(&self.scope)
    }

    /// The session's time, as the server granted it.
    fn expiry(&self) -> Duration {
        self.expiry
    }

    fn propagation(&self) -> Duration {
        PROPAGATION
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        Ok(self.election.clone())
    }
}
