//! Reads and follows the instances of one service.

use std::{sync::Arc, time::Duration};

use nacos_sdk::api::naming::{NamingChangeEvent, NamingEventListener, NamingService};
use tokio::{sync::Notify, time::timeout};
use tracing::debug;

use super::{link::Link, stored};
use crate::{Found, RegisterError, ServiceName, Skipped, SnapshotCell, backoff::jittered};

/// Period of reads: a push of Nacos may be lost, and an outage shows in nothing but a failed read.
const REREAD: Duration = Duration::from_secs(5);

/// The instances in service. One address in two clusters is two instances to Nacos.
pub(super) async fn list(link: &Link, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
    let found = link.query(service).await?;
    let decoded = found
        .iter()
        .map(|stored| stored::decode(stored).map_err(|reason| Skipped::new(stored::name(stored), reason)).transpose());
    Ok(decoded.flatten().collect())
}

/// Reads whenever Nacos says that something has changed, and after a while.
pub(super) async fn follow(link: &Arc<Link>, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
    let subscription = Subscription::open(link, service)?;
    loop {
        match list(link, service).await {
            Ok(found) => cell.refresh(found),
            // The subscription outlives an outage.
            Err(error) => cell.fail(&error),
        }
        // Either way it is time to read again.
        let _ = timeout(jittered(REREAD), subscription.changed.notified()).await;
    }
}

/// Hears of changes of one service until it is dropped.
struct Subscription {
    link: Arc<Link>,
    naming: NamingService,
    service: ServiceName,
    changed: Arc<Notify>,
    listener: Arc<Bell>,
}

/// Listener that takes a push for no more than a sign to read: pushes come late, out of order, and not at all.
struct Bell(Arc<Notify>);

impl NamingEventListener for Bell {
    fn event(&self, _: Arc<NamingChangeEvent>) {
        self.0.notify_one();
    }
}

impl Subscription {
    fn open(link: &Arc<Link>, service: &ServiceName) -> Result<Self, RegisterError> {
        let changed = Arc::new(Notify::new());
        let listener = Arc::new(Bell(changed.clone()));
        let (naming, group) = (link.naming()?.clone(), link.group());
        let opened = Self { link: link.clone(), naming: naming.clone(), service: service.clone(), changed, listener };
        let (name, bell) = (service.to_string(), opened.listener.clone());
        link.runtime().spawn(async move {
            if let Err(error) = naming.subscribe(name, group, Vec::new(), bell).await {
                debug!("Nacos pushes no changes: {error}");
            }
        });
        Ok(opened)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (naming, group) = (self.naming.clone(), self.link.group());
        let (name, bell) = (self.service.to_string(), self.listener.clone());
        self.link.runtime().spawn(async move {
            if let Err(error) = naming.unsubscribe(name, group, Vec::new(), bell).await {
                debug!("Nacos goes on pushing changes: {error}");
            }
        });
    }
}
