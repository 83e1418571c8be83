//! etcd v3, in the layout of etcd's own naming package, so that its other clients read the same instances.

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
use etcd_client::GetOptions;
use tokio::runtime::Handle;

use crate::{
    Election, Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch, owner::Owners,
    watch::Watches,
};

pub use config::EtcdConfig;
use election::EtcdElection;
use link::Link;
use source::Reader;
use tenant::EtcdTenant;

/// Watches were seen to tell within 6 ms.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `etcd://`: each instance is the key `<prefix>/<service>/<id>` under a lease of its own.
///
/// The value is what etcd's naming package writes: `{"Op":0,"Addr":"h:p","Metadata":{"weight":1.0,..}}`. Instances that
/// others wrote in that form are listed too; what cannot be read as one is skipped, with one warning for each write.
#[derive(Debug)]
pub struct Etcd {
    link: Link,
    reader: Reader,
    prefix: String,
    scope: String,
    ttl: Duration,
    runtime: Handle,
    owners: Owners,
    watches: Watches,
    election: Arc<EtcdElection>,
}

impl Etcd {
    /// Connects, and checks with one read that etcd answers. Needs a tokio runtime, in which the watches will run.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`] or [`RegisterError::Timeout`] when no endpoint answers within the configured
    /// timeout, [`RegisterError::Rejected`] for credentials that etcd refuses, [`RegisterError::InvalidUrl`] for a
    /// configuration that cannot work.
    pub async fn connect(config: EtcdConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let url = config.url();
        let runtime = Handle::try_current().map_err(|_| RegisterError::NoRuntime { registry: url.clone() })?;
        let prefix = config.prefix.trim_matches('/').to_owned();
        let link = Link::connect(&config, url).await?;
        let probe = format!("{prefix}/");
        let options = GetOptions::new().with_prefix().with_limit(1).with_keys_only();
        link.get("answer", &probe, &options).await?;
        Ok(Self {
            reader: Reader::new(link.clone()),
            election: EtcdElection::new(link.clone(), &prefix, config.ttl, runtime.clone()),
            link,
            scope: config.scope(),
            prefix,
            ttl: config.ttl,
            runtime,
            owners: Owners::default(),
            watches: Watches::default(),
        })
    }

    /// What the keys of the service's instances begin with. The slash at its end keeps `goods.v2` out of `goods`.
    fn directory(&self, service: &ServiceName) -> String {
        format!("{}/{service}/", self.prefix)
    }
}

#[async_trait]
impl MsRegister for Etcd {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        let key = format!("{}{}", self.directory(service), instance.id());
        let tenant = EtcdTenant::new(self.link.clone(), key, stored::encode(&instance), self.ttl);
        self.owners.start(self.link.url(), service, instance, tenant).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        if self.owners.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        let listing = self.reader.list(&self.directory(service)).await?;
        let mut instances = listing.instances();
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(instances)
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let reader = self.reader.clone();
        let directory = self.directory(service);
        self.watches.open(&self.runtime, service, |cell| async move { reader.follow(&directory, &cell).await })
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
        Some(&self.scope)
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
