use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Election, Instance, Registration, ServiceName, SnapshotWatch};

/// A registry: the place where services list their instances. Used as `Arc<dyn MsRegister>`.
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
    /// An id is registered once per service and registry client. To change a weight or metadata, deregister and
    /// register again; a registration that was only dropped is waited for. Of several processes that register one id
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

    /// Deregisters all that was registered here, and ends the watches. Again: does nothing.
    ///
    /// # Errors
    /// What the registry has not confirmed by `deadline`; those instances vanish when their lease ends.
    async fn close(&self, deadline: Duration) -> Result<(), RegisterError>;

    /// The URL without credentials, for messages.
    fn url(&self) -> &str;

    /// What a service's name is unique in: namespace, group and prefix, without hosts. Two servers of one service name in
    /// different scopes are different services. `None`: this registry has no such thing.
    fn scope(&self) -> Option<&str>;

    /// How long the registry lists an instance whose process has died: a lease's or a session's time.
    fn expiry(&self) -> Duration {
        Duration::ZERO
    }

    /// How long after a confirmed deregistration watchers may still list the instance.
    fn propagation(&self) -> Duration {
        Duration::ZERO
    }

    /// The elections of this registry: who of a service's instances leads. [`close`](Self::close) resigns them.
    ///
    /// # Errors
    /// [`RegisterError::Unsupported`] where there are none, with what to use instead;
    /// [`RegisterError::Unreachable`] while a registry that is
    /// [connected to in the background](crate::connect_in_background) has not answered yet.
    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        Err(RegisterError::Unsupported {
            registry: self.url().to_owned(),
            what: "master election",
            instead: "connect to etcd://, gregister:// or zookeeper:// for the elections alone (memory:// within one process)",
        })
    }
}

/// Why a registry did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A service name that breaks the rule of [`ServiceName`].
    #[error("service name {name:?}: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// The broken rule.
        reason: String,
    },
    /// An instance that cannot be published.
    #[error("instance `{instance}` cannot be registered: {reason}")]
    InvalidInstance {
        /// Its id.
        instance: String,
        /// The broken rule, and what to do.
        reason: String,
    },
    /// A registry URL that does not parse.
    #[error("registry URL {url:?}: {reason}")]
    InvalidUrl {
        /// The URL, without credentials.
        url: String,
        /// The broken rule.
        reason: String,
    },
    /// A URL scheme that no back end answers to.
    #[error("registry URL scheme `{scheme}` is unknown: use one of {known}")]
    UnknownScheme {
        /// The scheme as given.
        scheme: String,
        /// All known schemes.
        known: &'static str,
    },
    /// A back end that exists but was left out of this build.
    #[error("the {scheme} back end is not compiled in: turn on the cargo feature `{scheme}` of ms-register")]
    NotCompiled {
        /// The scheme, which is also the feature's name.
        scheme: &'static str,
    },
    /// The registry did not answer, or answered that it cannot serve.
    #[error("registry {registry} is unreachable: {reason}")]
    Unreachable {
        /// Its URL.
        registry: String,
        /// What was seen.
        reason: String,
    },
    /// The registry took longer than allowed.
    #[error("registry {registry} did not {operation} within {after:?}")]
    Timeout {
        /// Its URL.
        registry: String,
        /// What was asked.
        operation: &'static str,
        /// The time allowed.
        after: Duration,
    },
    /// The registry answered with a refusal.
    #[error("registry {registry} refused: {reason}")]
    Rejected {
        /// Its URL.
        registry: String,
        /// Its words.
        reason: String,
    },
    /// What this kind of registry cannot do.
    #[error("registry {registry} has no {what}: {instead}")]
    Unsupported {
        /// Its URL.
        registry: String,
        /// What was asked for.
        what: &'static str,
        /// What to use.
        instead: &'static str,
    },
    /// Nobody leads at the moment.
    #[error("`{service}` has no master in registry {registry}: nobody campaigns, or the next one is not elected yet")]
    NoMaster {
        /// The registry's URL.
        registry: String,
        /// Whose master was asked for.
        service: String,
    },
    /// The registry was closed by this process.
    #[error("registry {registry} is closed")]
    Closed {
        /// Its URL.
        registry: String,
    },
    /// Called outside a tokio runtime, which the background work needs.
    #[error("registry {registry} needs a tokio runtime: call it from within one")]
    NoRuntime {
        /// Its URL.
        registry: String,
    },
}

impl RegisterError {
    /// Whether the same request may succeed later without a change on the caller's side.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}
