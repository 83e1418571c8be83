//! The one implementation of the contract: everything that is the same for every back end.

mod elections;
mod link;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{
    About, Backend, Election, Instance, MsRegister, RegisterError, Registration, ServiceName, ServicesCell,
    ServicesWatch, SnapshotCell, SnapshotWatch,
    backoff::rounds,
    cache::Cache,
    meter,
    observe::Observers,
    owner::{Owners, Start},
    sieve::Sieve,
    watch::Watches,
};

use elections::Elections;
use link::Link;

/// A registry client: the contract [`MsRegister`] over one [`Backend`].
pub struct Registry<B: Backend> {
    backend: Arc<B>,
    link: Link,
    /// Runtime of the watches; `None`: the client was made outside a runtime.
    runtime: Option<Handle>,
    owners: Owners,
    watches: Watches,
    elections: Arc<Elections<B>>,
    /// Watches of the services' names.
    observers: Observers,
    sieve: Arc<Sieve>,
    cache: Option<Cache>,
}

impl<B: Backend> Registry<B> {
    /// Connects, and checks with one request that the registry serves. Needs a tokio runtime, in which the watches will run.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`] or [`RegisterError::Timeout`] when no server answers within the configured timeout,
    /// [`RegisterError::Rejected`] for credentials that the registry refuses, [`RegisterError::InvalidUrl`] for a configuration
    /// that cannot work.
    pub async fn connect(config: B::Config) -> Result<Self, RegisterError> {
        let registry = Self::of(B::new(config)?);
        registry.runtime()?;
        registry.backend.connect().await?;
        Ok(registry)
    }

    /// The same without waiting for the registry: it is connected to in the background, for as long as it takes; see
    /// [`connect_in_background`](crate::connect_in_background).
    ///
    /// # Errors
    /// [`RegisterError::InvalidUrl`] for a configuration that cannot work, [`RegisterError::NoRuntime`] outside a runtime.
    pub fn connect_in_background(config: B::Config) -> Result<Self, RegisterError> {
        let registry = Self::over(B::new(config)?, if B::IS_REMOTE { Link::down() } else { Link::up() });
        if B::IS_REMOTE {
            registry.runtime()?.spawn(registry.link.clone().establish(registry.backend.clone()));
        }
        Ok(registry)
    }

    /// A client of a back end that is there.
    pub(crate) fn over(backend: B, link: Link) -> Self {
        let (backend, runtime) = (Arc::new(backend), Handle::try_current().ok());
        Self {
            elections: Arc::new(Elections::new(backend.clone(), runtime.clone())),
            sieve: Arc::new(Sieve::new(backend.about().clone())),
            backend,
            link,
            runtime,
            owners: Owners::default(),
            watches: Watches::default(),
            observers: Observers::new(),
            cache: None,
        }
    }

    /// Keeps the last list of each watched service in this directory, and shows it after a start while the registry is away: as
    /// [`Freshness::Stale`](crate::Freshness::Stale), with its age. The directory is made if it is not there, must belong to this
    /// user, and others must not be able to write to it; processes may share one.
    ///
    /// # Errors
    /// [`RegisterError::InvalidUrl`] for a directory that cannot be made, or is another one.
    pub fn with_cache(mut self, directory: impl Into<PathBuf>) -> Result<Self, RegisterError> {
        self.cache = Some(Cache::open(directory.into(), self.about())?);
        Ok(self)
    }

    /// A client of a back end within this process, which needs no connection.
    pub(crate) fn of(backend: B) -> Self {
        Self::over(backend, Link::up())
    }

    /// Runtime of the watches.
    fn runtime(&self) -> Result<Handle, RegisterError> {
        self.runtime.clone().or_else(|| Handle::try_current().ok()).ok_or_else(|| self.about().no_runtime())
    }

    /// The back end, for what it offers beyond the contract.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    fn about(&self) -> &About {
        self.backend.about()
    }

    /// Ok while requests may be made.
    fn check_open(&self) -> Result<(), RegisterError> {
        if self.owners.is_closed() {
            return Err(self.about().closed());
        }
        self.link.problem(self.about()).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl<B: Backend> MsRegister for Registry<B> {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        self.backend.check(service, Some(&instance))?;
        let Some(keeper) = self.backend.lease(service, &instance) else {
            return Ok(Registration::unlisted(self.about(), instance));
        };
        let start = self.link.connected().map_or(Start::Confirmed, Start::Eventually);
        self.owners.start(self.about(), service, instance, keeper, start).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        self.check_open()?;
        self.backend.check(service, None)?;
        let found = self.backend.list(service).await.inspect_err(|error| meter::failed(self.about(), error))?;
        Ok(self.sieve.sift(service, found))
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        self.watches.open(SnapshotCell::new(service, self.sieve.clone()), |cell| {
            if self.backend.feed(service, &cell) {
                return None;
            }
            let runtime = self.runtime().inspect_err(|error| cell.fail(error)).ok()?;
            let (backend, link, service) = (self.backend.clone(), self.link.clone(), service.clone());
            let cache = self.cache.clone();
            let follow = async move {
                let keeping = async {
                    if let Some(cache) = &cache {
                        cache.keep(&service, &cell).await;
                    }
                };
                let following = async {
                    if let Some(cache) = &cache {
                        cache.restore(&service, &cell).await;
                    }
                    link.await_up(|error| cell.fail(error)).await;
                    follow(&*backend, &service, &cell).await;
                };
                tokio::join!(keeping, following);
            };
            Some(runtime.spawn(follow).abort_handle())
        })
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        if !self.backend.names_services() {
            return Err(self.about().unnamed_services());
        }
        self.check_open()?;
        let services = self.backend.services().await;
        let mut services = services.inspect_err(|error| meter::failed(self.about(), error))?;
        services.sort();
        services.dedup();
        Ok(services)
    }

    fn watch_services(&self) -> Result<ServicesWatch, RegisterError> {
        if !self.backend.names_services() {
            return Err(self.about().unnamed_services());
        }
        let (backend, link, runtime) = (self.backend.clone(), self.link.clone(), self.runtime().ok());
        Ok(self.observers.open(runtime.as_ref(), |cell: ServicesCell| async move {
            link.await_up(|error| cell.fail(error.clone())).await;
            let failed = |error| {
                meter::failed(backend.about(), &error);
                cell.fail(error);
            };
            rounds("watch of the services", || backend.follow_services(&cell), failed).await;
        }))
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        self.link.close();
        let (ended, resigned) = tokio::join!(self.owners.end_all(deadline), self.elections.close(deadline));
        self.watches.close();
        self.observers.close();
        self.backend.close().await;
        ended.and(resigned)
    }

    fn url(&self) -> &str {
        self.about().url()
    }

    fn scope(&self) -> Option<&str> {
        self.about().scope()
    }

    fn expiry(&self) -> Duration {
        self.backend.expiry()
    }

    fn propagation(&self) -> Duration {
        self.about().propagation()
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        if self.backend.elections().is_none() {
            return Err(self.about().unsupported(
                "master election",
                "connect to etcd://, gregister:// or zookeeper:// for the elections alone (memory:// within one process)",
            ));
        }
        self.link.problem(self.about()).map_or_else(|| Ok(self.elections.clone() as Arc<dyn Election>), Err)
    }
}

/// Keeps `cell` up to date for ever.
async fn follow<B: Backend>(backend: &B, service: &ServiceName, cell: &SnapshotCell) {
    if let Err(error) = backend.check(service, None) {
        cell.fail(&error);
        return std::future::pending().await;
    }
    let failed = |error| {
        meter::failed(backend.about(), &error);
        cell.fail(&error);
    };
    rounds(&format!("watch of `{service}`"), || backend.follow(service, cell), failed).await;
}

impl<B: Backend> fmt::Debug for Registry<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Registrations outlive the client that made them; the connecting goes on as long as one of them waits for it.
impl<B: Backend> Drop for Registry<B> {
    fn drop(&mut self) {
        self.watches.close();
    }
}
