//! Resolvers of a proxy, by service name.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ms_register::{MsRegister, ServiceName};
use tokio::runtime::Handle;

use super::{balance::Balancing, options::ClientConfig, request::not_sent, resolver::Resolver};
use crate::{Code, Status};

/// Table of the services that a proxy follows. A name that lists no instance and is not called for a while is forgotten.
#[derive(Debug)]
pub(crate) struct Resolvers {
    pub(super) registry: Arc<dyn MsRegister>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) balancing: Balancing,
    /// Random number of this client: proxies of many processes choose different subsets of long lists.
    pub(super) client: u64,
    by_name: RwLock<HashMap<String, Arc<Resolver>>>,
}

impl Resolvers {
    pub(super) fn new(registry: Arc<dyn MsRegister>, config: Arc<ClientConfig>, balancing: Balancing) -> Self {
        Self { registry, config, balancing, client: fastrand::u64(..), by_name: RwLock::default() }
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
        let new = Arc::new(Resolver::new(name, self));
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

    /// Forgets a resolver that lists no instance and is not in use; returns true if it did.
    pub(super) fn forget(&self, resolver: &Resolver) -> bool {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten = resolver.forget();
        if forgotten {
            by_name.remove(resolver.service());
        }
        forgotten
    }
}
