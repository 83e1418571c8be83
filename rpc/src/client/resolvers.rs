//! Resolvers of a proxy, by service name.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ms_register::{MsRegister, ServiceName};
use tokio::runtime::Handle;

use super::{
    balance::Balancing,
    instances::Bound,
    options::ClientConfig,
    request::not_sent,
    resolver::Resolver,
    roster::{Forget, Settings},
};
use crate::{Code, Status};

/// Table of the services that a proxy follows. A name that lists no instance and is not called for a while is forgotten.
#[derive(Debug)]
pub(crate) struct Resolvers {
    registry: Arc<dyn MsRegister>,
    config: Arc<ClientConfig>,
    balancing: Balancing,
    /// Random number of this client: see [`Bound::client`].
    client: u64,
    by_name: RwLock<HashMap<String, Arc<Resolver>>>,
}

impl Resolvers {
    pub(super) fn new(registry: Arc<dyn MsRegister>, config: ClientConfig, balancing: Balancing) -> Self {
        Self { registry, config: Arc::new(config), balancing, client: fastrand::u64(..), by_name: RwLock::default() }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The resolver that follows `service`; started at its first call.
    pub(super) fn get(self: &Arc<Self>, service: &str) -> Result<Arc<Resolver>, Status> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned();
        if let Some(resolver) = known {
            return Ok(resolver);
        }
        let name = ServiceName::new(service)?;
        let runtime = Handle::try_current()
            .map_err(|_| not_sent(Code::FailedPrecondition, "calls are made from within a tokio runtime"))?;
        let new = Arc::new(self.make(name));
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = by_name.get(service) {
            return Ok(resolver.clone());
        }
        let most = self.config.discovery.unlisted_services;
        if by_name.values().filter(|resolver| resolver.lists_none()).count() >= most {
            let message = format!(
                "`{service}` is one name too many: {most} names that no instance is listed of are followed already; each is \
                 forgotten {:?} after its last call (`discovery.unlisted_services`)",
                self.config.discovery.forget_after
            );
            return Err(not_sent(Code::ResourceExhausted, message));
        }
        by_name.insert(service.to_owned(), new.clone());
        // The registry's code does not run under the lock.
        drop(by_name);
        new.follow_on(&runtime);
        Ok(new)
    }

    fn make(self: &Arc<Self>, service: ServiceName) -> Resolver {
        let (table, name) = (Arc::downgrade(self), service.clone());
        let discovery = &self.config.discovery;
        let settings = Settings {
            balancing: self.balancing.clone(),
            ejection: self.config.ejection,
            hold: self.config.hold.clone(),
            bound: Bound { most: discovery.most_instances(open_files()), client: self.client },
            forget: Some(Forget {
                after: discovery.forget_after,
                ask: Box::new(move || table.upgrade().is_none_or(|table| table.forget(name.as_str()))),
            }),
        };
        Resolver::new(service, self.registry.clone(), self.config.clone(), settings)
    }

    /// Forgets a service that lists no instance and is not called; returns true if it is in the table no more.
    fn forget(&self, service: &str) -> bool {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten = by_name.get(service).is_none_or(|resolver| resolver.forget());
        if forgotten {
            by_name.remove(service);
        }
        forgotten
    }
}

/// Number of files that this process may open.
#[cfg(target_os = "linux")]
fn open_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(usize::MAX, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Number of files that this process may open: not known here.
#[cfg(not(target_os = "linux"))]
fn open_files() -> usize {
    usize::MAX
}
