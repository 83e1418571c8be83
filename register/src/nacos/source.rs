//! Reads and follows the instances of one service.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nacos_sdk::api::naming::{NamingChangeEvent, NamingEventListener, ServiceInstance};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{link::Link, stored};
use crate::{Instance, RegisterError, ServiceName, backoff::Backoff, warned::Warned, watch::SnapshotCell};

/// Cheap to clone; all clones warn of a piece of garbage once.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    link: Arc<Link>,
    /// Of which instance of which service was warned, and why.
    warned: Arc<Mutex<Warned<(ServiceName, String), String>>>,
}

impl Reader {
    /// A push of Nacos may be lost, and an outage shows in nothing but a failed read.
    const REREAD: Duration = Duration::from_secs(5);

    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, warned: Arc::default() }
    }

    /// The instances in service, sorted by id.
    pub(super) async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        let found = self.link.query(service).await?;
        let mut instances: Vec<_> = found.iter().filter_map(|stored| self.decode(service, stored)).collect();
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        // One address in two clusters is two instances to Nacos, and one to who calls it.
        instances.dedup_by(|later, first| later.id() == first.id());
        Ok(instances)
    }

    /// Keeps `cell` up to date for ever.
    pub(super) async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) {
        let subscription = Subscription::open(self.link.clone(), service.clone());
        let mut backoff = Backoff::default();
        loop {
            match self.list(service).await {
                Ok(instances) => {
                    cell.refresh(instances);
                    backoff.reset();
                    // Either way it is time to read again.
                    let _ = timeout(Self::REREAD, subscription.changed.notified()).await;
                }
                Err(error) => {
                    cell.fail(&error);
                    sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    fn decode(&self, service: &ServiceName, stored: &ServiceInstance) -> Option<Instance> {
        stored::decode(stored).unwrap_or_else(|reason| {
            let name = stored::name(stored);
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.is_first((service.clone(), name.clone()), reason.clone()) {
                warn!("{name} of `{service}` in {} is skipped, it is no instance: {reason}", self.link.url());
            }
            None
        })
    }
}

/// Hears of changes of one service until it is dropped.
struct Subscription {
    link: Arc<Link>,
    service: ServiceName,
    changed: Arc<Notify>,
    listener: Arc<Bell>,
}

/// What Nacos says is not used but as a sign to read: pushes come late, out of order, and not at all.
struct Bell(Arc<Notify>);

impl NamingEventListener for Bell {
    fn event(&self, _: Arc<NamingChangeEvent>) {
        self.0.notify_one();
    }
}

impl Subscription {
    fn open(link: Arc<Link>, service: ServiceName) -> Self {
        let changed = Arc::new(Notify::new());
        let listener = Arc::new(Bell(changed.clone()));
        let (naming, group) = (link.naming().clone(), link.group());
        let (name, bell) = (service.to_string(), listener.clone());
        link.runtime().spawn(async move {
            if let Err(error) = naming.subscribe(name, group, Vec::new(), bell).await {
                debug!("Nacos pushes no changes: {error}");
            }
        });
        Self { link, service, changed, listener }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (naming, group) = (self.link.naming().clone(), self.link.group());
        let (name, bell) = (self.service.to_string(), self.listener.clone());
        self.link.runtime().spawn(async move {
            if let Err(error) = naming.unsubscribe(name, group, Vec::new(), bell).await {
                debug!("Nacos goes on pushing changes: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_for_each_reason() {
        let goods: ServiceName = "goods".parse().unwrap();
        let mut warned = Warned::default();
        assert!(
            warned.is_first((goods.clone(), "a".to_owned()), "port")
                && warned.is_first((goods.clone(), "b".to_owned()), "port")
        );
        assert!(!warned.is_first((goods.clone(), "a".to_owned()), "port"));
        assert!(warned.is_first((goods.clone(), "a".to_owned()), "weight"));
    }
}
