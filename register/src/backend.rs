//! The contract between [`Registry`](crate::Registry), which is the same for every kind of registry, and a back end.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{
    About, Candidate, Found, Instance, LeaseKeeper, Master, MasterCell, RegisterError, ServiceName, ServicesCell,
    SnapshotCell, backoff::jittered,
};

/// One kind of registry. [`Registry<B>`](crate::Registry) makes an [`MsRegister`](crate::MsRegister) of it: it holds ids
/// once, keeps registrations alive, repeats and paces what fails, skips and reports entries that are no instances, sorts lists,
/// ends everything at `close`. A back end only translates single requests.
///
/// Every method is bounded in time by the back end itself, except those that say otherwise; every future may be dropped at any
/// `await` unless its documentation says otherwise.
#[async_trait]
pub trait Backend: fmt::Debug + Sized + Send + Sync + 'static {
    /// Address, credentials, time limits.
    type Config: Send;

    /// False for a registry within this process, which is there as soon as it is made and needs no runtime. Default true.
    const IS_REMOTE: bool = true;

    /// Checks the configuration. It speaks to nobody.
    ///
    /// # Errors
    /// [`RegisterError::InvalidUrl`] for a configuration that cannot work, [`RegisterError::NoRuntime`] where one is needed.
    fn new(config: Self::Config) -> Result<Self, RegisterError>;

    /// URL, scope, and times.
    fn about(&self) -> &About;

    /// See [`MsRegister::expiry`](crate::MsRegister::expiry). Default: as [`About`] has it; another where the registry decides.
    fn expiry(&self) -> Duration {
        self.about().expiry()
    }

    /// Opens what later calls need, and checks with one request that the registry serves. Called until it succeeds; nothing else
    /// is called before. An attempt that fails leaves no connection behind.
    ///
    /// # Errors
    /// [`RegisterError::Unreachable`], [`RegisterError::Timeout`], or the registry's refusal.
    async fn connect(&self) -> Result<(), RegisterError>;

    /// Checks what this kind of registry demands of names and instances beyond [`Instance::check`]. It speaks to nobody.
    ///
    /// # Errors
    /// [`RegisterError::InvalidName`] and [`RegisterError::InvalidInstance`].
    fn check(&self, _service: &ServiceName, _instance: Option<&Instance>) -> Result<(), RegisterError> {
        Ok(())
    }

    /// The keeper of one registration, which has written nothing yet. `None`: others write this registry; registering
    /// succeeds and publishes nothing.
    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>>;

    /// One authoritative read, in any order. It sees every write that was confirmed before.
    ///
    /// # Errors
    /// A registry that cannot be read. An unknown service is an empty list.
    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError>;

    /// One round of following a service: a full read, then changes, each put into `cell` as a full list. Rounds are repeated for
    /// as long as somebody watches, with pauses that grow while rounds are short. Not bounded in time: a round that
    /// works may last for ever, or end after a while for a new full read.
    ///
    /// # Errors
    /// Reason why the list may be out of date; it is shown with the last list, which stays.
    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError>;

    /// Takes over a cell, to be kept up to date by the writers themselves and without a task: for registries within this process.
    /// True: [`follow`](Self::follow) is not called.
    fn feed(&self, _service: &ServiceName, _cell: &SnapshotCell) -> bool {
        false
    }

    /// Returns true if [`services`](Self::services) is there. Default false.
    fn names_services(&self) -> bool {
        false
    }

    /// The names of all services with at least one entry, in any order.
    ///
    /// # Errors
    /// [`RegisterError::Unsupported`] by default.
    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        Err(self.about().unnamed_services())
    }

    /// One round of following the names of all services; see [`follow`](Self::follow). Default: a read every 5 s, give or take a
    /// quarter.
    ///
    /// # Errors
    /// Reason why the names may be out of date.
    async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        const PERIOD: Duration = Duration::from_secs(5);
        loop {
            cell.refresh(self.services().await?);
            sleep(jittered(PERIOD)).await;
        }
    }

    /// Elections, where this kind of registry has them. Default: none.
    fn elections(&self) -> Option<&dyn ElectionBackend> {
        None
    }

    /// Called once all registrations and campaigns have ended: gives up what is open.
    async fn close(&self) {}
}

/// Elections of one kind of registry.
#[async_trait]
pub trait ElectionBackend: Send + Sync {
    /// One campaign, which has written nothing yet.
    fn candidate(&self, service: &ServiceName, instance: &Instance) -> Box<dyn Candidate>;

    /// One authoritative read of the master. `None`: nobody leads.
    ///
    /// # Errors
    /// A registry that cannot be read, and a leader's entry that does not parse.
    async fn master(&self, service: &ServiceName) -> Result<Option<Master>, RegisterError>;

    /// One round of following the master; see [`Backend::follow`].
    ///
    /// # Errors
    /// Reason why the master may be out of date.
    async fn follow_master(&self, service: &ServiceName, cell: &MasterCell) -> Result<(), RegisterError>;
}
