use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Election, Instance, RegisterError, Registration, ServiceName, ServicesWatch, SnapshotWatch};

/// A registry: the place where services list their instances. Used as `Arc<dyn MsRegister>`. Its one implementation is
/// [`Registry`](crate::Registry); a kind of registry of one's own is a [`Backend`](crate::Backend).
///
/// The contract is the same on every back end:
/// - an error is never an empty list, and an unknown service is an empty list and not an error;
/// - one registry may hold many instances of many services from one process;
/// - no call waits without a deadline: the back end's `timeout` (default 3 s) bounds each request that a call makes.
#[async_trait]
pub trait MsRegister: fmt::Debug + Send + Sync + 'static {
    /// Lists `instance` under `service`, and keeps it listed until the [`Registration`] is deregistered or dropped:
    /// through lost leases, deleted keys, and restarts of the registry, on the same data or on none.
    ///
    /// An id is registered once per service and registry client. A weight and metadata are changed by
    /// [`Registration::update`]; a registration that was only dropped is waited for. Of several processes that register one id
    /// the last to write is listed, and none of them fights over it.
    ///
    /// # Errors
    /// Ok means that the registry has confirmed the first write. Invalid input, an id that is registered here already,
    /// and a registry that is away are errors.
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError>;

    /// One authoritative read of the instances of `service`, sorted by id.
    ///
    /// # Errors
    /// A registry that cannot be read is an error; an unknown service is an empty list.
    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError>;

    /// Follows the instances of `service`: full snapshots, the latest wins. It never ends before [`close`](Self::close).
    ///
    /// When the registry cannot be read, the last known list stays, marked [`Freshness::Stale`](crate::Freshness::Stale).
    fn watch(&self, service: &ServiceName) -> SnapshotWatch;

    /// The names of all services with at least one entry, sorted. One authoritative read.
    ///
    /// # Errors
    /// [`RegisterError::Unsupported`] where the registry cannot tell; a registry that cannot be read.
    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError>;

    /// Follows the names of all services. Each change is shown at once where the registry has watches (etcd, ZooKeeper, `memory://`,
    /// `file://`), and within 7 s elsewhere (Nacos, gregister).
    ///
    /// # Errors
    /// [`RegisterError::Unsupported`] where the registry cannot tell.
    fn watch_services(&self) -> Result<ServicesWatch, RegisterError>;

    /// Deregisters all that was registered here, and ends the watches. Again: does nothing.
    ///
    /// # Errors
    /// Instances whose end the registry has not confirmed by `deadline`; they vanish when their lease ends.
    async fn close(&self, deadline: Duration) -> Result<(), RegisterError>;

    /// The URL without credentials, for messages.
    fn url(&self) -> &str;

    /// The space in which a service's name is unique: namespace, group and prefix, without hosts. Two servers of one service name in
    /// different scopes are different services. `None`: this registry has no such thing.
    fn scope(&self) -> Option<&str>;

    /// Longest time for which the registry lists an instance whose process has died: a lease's or a session's time.
    fn expiry(&self) -> Duration;

    /// Longest time after a confirmed deregistration for which watchers may still list the instance.
    fn propagation(&self) -> Duration;

    /// The elections of this registry: who of a service's instances leads. [`close`](Self::close) resigns them.
    ///
    /// # Errors
    /// [`RegisterError::Unsupported`] where there are none, with what to use instead;
    /// [`RegisterError::Unreachable`] while a registry that is
    /// [connected to in the background](crate::connect_in_background) has not answered yet.
    fn election(&self) -> Result<Arc<dyn Election>, RegisterError>;
}
