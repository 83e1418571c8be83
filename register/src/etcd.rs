//! etcd v3, in the layout of etcd's own naming package, so that its other clients read the same instances.

mod candidate;
mod config;
mod election;
mod gmq;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod keeper;
mod lease;
mod link;
mod msgo;
mod source;
mod stored;

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::GetOptions;
use tokio::time::sleep;

use crate::{
    About, Backend, ElectionBackend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, ServicesCell,
    SnapshotCell, backoff::reread,
};

pub use config::{EtcdConfig, EtcdLayout};
use keeper::EtcdKeeper;
use lease::Lease;
use link::Link;
use msgo::MsgoKeeper;
use stored::Form;

/// Watches were seen to tell within 6 ms.
const PROPAGATION: Duration = Duration::from_millis(100);

/// `etcd://`: each instance is the key `<prefix>/<service>/<id>` under a lease of its own.
///
/// The value is what etcd's naming package writes: `{"Op":0,"Addr":"h:p","Metadata":{"weight":1.0,..}}`. Instances that
/// others wrote in that form are listed too; entries that cannot be read as one are skipped, with one warning each.
pub type Etcd = Registry<EtcdBackend>;

/// The back end of [`Etcd`].
#[derive(Debug)]
pub struct EtcdBackend {
    link: Link,
    prefix: String,
    ttl: Duration,
    layout: EtcdLayout,
}

impl EtcdBackend {
    /// Common beginning of the keys of a service's instances. The slash at its end keeps `goods.v2` out of `goods`.
    fn directory(&self, service: &ServiceName) -> String {
        match self.layout {
            EtcdLayout::Gmq => gmq::DIRECTORY.to_owned(),
            _ => format!("{}/{service}/", self.prefix),
        }
    }

    /// Form of the values in a directory.
    fn form(&self) -> Form {
        match self.layout {
            EtcdLayout::Gmq => Form { encode: gmq::encode, decode: gmq::decode },
            _ => Form { encode: stored::encode, decode: stored::decode },
        }
    }

    /// Common beginning of the keys of a service's candidates: no service's instances can be there.
    fn candidates(&self, service: &ServiceName) -> String {
        format!("{}/@election/{service}/", self.prefix)
    }
}

#[async_trait]
impl Backend for EtcdBackend {
    type Config = EtcdConfig;

    fn new(config: EtcdConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let (prefix, ttl, layout) = (config.prefix().to_owned(), config.ttl, config.layout);
        Ok(Self { link: Link::new(config), prefix, ttl, layout })
    }

    fn about(&self) -> &About {
        self.link.about()
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        let options = GetOptions::new().with_prefix().with_limit(1).with_keys_only();
        match self.link.get("answer", &format!("{}/", self.prefix), &options).await {
            // Rights for one's own services suffice.
            Err(RegisterError::Rejected { reason, .. }) if reason.contains("permission denied") => Ok(()),
            answered => answered.map(drop),
        }
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        let lease = Lease::new(self.link.clone(), self.ttl);
        let form = self.form();
        match self.layout {
            EtcdLayout::Msgo => Some(Box::new(MsgoKeeper::new(lease, service, instance))),
            EtcdLayout::Naming | EtcdLayout::Gmq => {
                let key = format!("{}{}", self.directory(service), instance.id());
                Some(Box::new(EtcdKeeper::new(lease, key, instance, form)))
            }
        }
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        match self.layout {
            EtcdLayout::Gmq if service.as_str() != gmq::SERVICE => Ok(Vec::new()),
            EtcdLayout::Naming | EtcdLayout::Gmq => {
                Ok(source::list(&self.link, &self.directory(service), self.form()).await?.found())
            }
            EtcdLayout::Msgo => Ok(msgo::list(&self.link, service).await?.0),
        }
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        match self.layout {
            EtcdLayout::Gmq if service.as_str() != gmq::SERVICE => {
                cell.refresh(Vec::new());
                sleep(reread()).await;
                Ok(())
            }
            EtcdLayout::Naming | EtcdLayout::Gmq => {
                source::follow(&self.link, &self.directory(service), self.form(), cell).await
            }
            EtcdLayout::Msgo => msgo::follow(&self.link, service, cell).await,
        }
    }

    fn names_services(&self) -> bool {
        // In other layouts a name cannot be told from whatever else is in etcd.
        self.layout == EtcdLayout::Naming
    }

    async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        source::follow_services(&self.link, &format!("{}/", self.prefix), cell).await
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        source::services(&self.link, &format!("{}/", self.prefix)).await
    }

    fn elections(&self) -> Option<&dyn ElectionBackend> {
        (self.layout == EtcdLayout::Naming).then_some(self)
    }
}
