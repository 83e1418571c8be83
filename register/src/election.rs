//! Elections: one of a service's instances leads.

mod campaign;
mod term;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Instance, RegisterError, ServiceName,
    observe::{Cell, Observation, Observer},
};

pub(crate) use campaign::Campaigns;
pub use campaign::{Candidate, Leadership};
pub use term::{Moment, Term};

/// The elections of one registry: of the instances that campaign for a service, one at a time is its master. Made by
/// [`MsRegister::election`](crate::MsRegister::election).
///
/// # What a leader must do
/// No process can know at every moment that it leads: one that is frozen (SIGSTOP, a long pause of its virtual machine)
/// between asking [`Leadership::is_leader`] and acting acts when it wakes, and by then another one leads. So:
/// - ask `is_leader()` right before each act; it costs a look at a clock, and is false before anybody else can be elected;
/// - give [`Leadership::token`] to whatever the leader writes to, with every write. Who takes the writes keeps the highest
///   token that it has seen, and refuses lower ones. Tokens grow with every term, so what an old leader still sends is
///   refused as soon as its successor has written.
///
/// Tokens grow as long as the registry keeps its data. One that lost all of it counts from the beginning again; and it knows
/// nothing of a leader from before, which stops leading within two thirds of the lease's or the session's time. gregister goes
/// on from the time of day instead, and elects nobody until the longest lease that it grants has passed.
#[async_trait]
pub trait Election: fmt::Debug + Send + Sync + 'static {
    /// Waits until `instance` is the master of `service`, at most for `deadline`. Candidates are elected in the order in
    /// which they came. While the registry is away the campaign goes on.
    ///
    /// The instance need not be registered. A campaign that fails, or whose future is dropped, takes itself back in the
    /// background, and at the latest ends with its lease or session.
    ///
    /// # Errors
    /// [`RegisterError::Timeout`] when others led for all of the time, [`RegisterError::Unreachable`] when the registry was
    /// away at its end; at once what waiting does not change: an invalid instance, a refusal, a closed registry.
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError>;

    /// Follows who is the master of `service`: the latest wins, and one of several that follow each other quickly may be
    /// skipped. It ends when the registry is closed.
    fn observe(&self, service: &ServiceName) -> MasterWatch;

    /// One authoritative read of who is the master of `service`.
    ///
    /// # Errors
    /// [`RegisterError::NoMaster`] when nobody is; a registry that cannot be read.
    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError>;
}

/// An instance that leads, and its term.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Master {
    /// The instance that leads.
    pub instance: Instance,
    /// Number of the term: higher than that of every term before. See [`Leadership::token`].
    pub token: u64,
}

impl Master {
    /// A master: this instance, in the term with this token.
    pub fn new(instance: Instance, token: u64) -> Self {
        Self { instance, token }
    }
}

/// The master of a service at one moment.
pub type MasterSnapshot = Observation<Option<Arc<Master>>>;
/// Follows the master of one service; see [`Election::observe`].
pub type MasterWatch = Observer<Option<Arc<Master>>>;
/// The writing side of a [`MasterWatch`]: what [`ElectionBackend::follow_master`](crate::ElectionBackend::follow_master) fills.
pub type MasterCell = Cell<Option<Arc<Master>>>;

impl MasterSnapshot {
    /// The master, if there is one. While the registry cannot be read it is the last one known, which may lead no more.
    pub fn master(&self) -> Option<&Master> {
        self.value().as_deref()
    }
}

impl MasterCell {
    /// Publishes a successful read.
    pub fn refresh(&self, master: Option<Master>) {
        self.replace(master.map(Arc::new));
    }
}
