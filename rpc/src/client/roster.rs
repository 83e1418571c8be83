//! Current instances of a service: follows the registry's snapshots, holds removals that are not believed yet, and ejects
//! outliers. Proxies and pickers share it.

mod follow;
mod list;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use ms_register::{Instance, MsRegister, ServiceName, Snapshot};
use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, timeout_at},
};

use super::{
    balance::{Balancing, Clock, Policy},
    config::HoldConfig,
    ejection::EjectionConfig,
    hold::Hold,
    instances::{Bound, Instances, Member},
};
use crate::Status;
use follow::Follower;

/// Makes the member of a new instance.
type Make<M> = Box<dyn Fn(Instance, &Arc<Clock>) -> M + Send + Sync>;

/// Settings of a roster.
pub(crate) struct Settings {
    pub(crate) balancing: Balancing,
    pub(crate) ejection: EjectionConfig,
    pub(crate) hold: HoldConfig,
    pub(crate) bound: Bound,
    /// `None`: followed as long as it is in use.
    pub(crate) forget: Option<Forget>,
}

/// End of a roster that lists no instance and is not called.
pub(crate) struct Forget {
    /// Time after the last call.
    pub(crate) after: Duration,
    /// Asks the owner to [`forget`](Roster::forget) the roster; returns true if it did.
    pub(crate) ask: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Current instances of a service. Writers take turns; readers take no lock.
pub(crate) struct Roster<M: Member> {
    service: ServiceName,
    registry: Arc<dyn MsRegister>,
    policy: Arc<Policy>,
    ejection: EjectionConfig,
    clock: Arc<Clock>,
    instances: ArcSwap<Instances<M>>,
    make: Make<M>,
    /// Wakes waiters after a change.
    changed: Notify,
    /// Task that follows the registry.
    follower: Follower,
    /// Serializes the writers of `instances`.
    hold: Mutex<Hold>,
    /// Waiters for a connection; without any, changes of connections are not announced.
    waiting: AtomicU32,
    /// A warning said that the list is longer than the bound of connected instances.
    warned_of_bound: AtomicBool,
    started: Instant,
    /// Time of the last call that found no instance listed, in milliseconds since the start.
    used: AtomicU64,
    forget: Option<Forget>,
    /// The owner has forgotten this roster: calls need another one.
    forgotten: AtomicBool,
}

impl<M: Member> Roster<M> {
    /// A roster that does not follow the registry yet: see [`follow_on`](Self::follow_on). `make` makes the member of a new
    /// instance.
    pub(crate) fn new(
        service: ServiceName,
        registry: Arc<dyn MsRegister>,
        settings: Settings,
        make: impl Fn(Instance, &Arc<Clock>) -> M + Send + Sync + 'static,
    ) -> Arc<Self> {
        let Settings { balancing, ejection, hold, bound, forget } = settings;
        let policy = Arc::new(Policy::new(balancing));
        let none = Instances::new(policy.clone(), None, Snapshot::never(), Vec::new(), bound);
        Arc::new(Self {
            hold: Mutex::new(Hold::new(registry.expiry(), &hold)),
            service,
            registry,
            ejection,
            instances: ArcSwap::from_pointee(none),
            policy,
            clock: Arc::default(),
            make: Box::new(make),
            changed: Notify::new(),
            follower: Follower::default(),
            waiting: AtomicU32::new(0),
            warned_of_bound: AtomicBool::new(false),
            started: Instant::now(),
            used: AtomicU64::new(0),
            forget,
            forgotten: AtomicBool::new(false),
        })
    }

    pub(crate) fn service(&self) -> &str {
        self.service.as_str()
    }

    pub(crate) fn registry(&self) -> &dyn MsRegister {
        &*self.registry
    }

    pub(crate) fn balancing(&self) -> &Balancing {
        &self.policy.balancing
    }

    /// Clock that answers advance and picks read.
    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// The list as it is now, for longer than a borrow.
    pub(crate) fn instances(&self) -> Arc<Instances<M>> {
        self.instances.load_full()
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<Instances<M>>> {
        self.instances.load()
    }

    /// Slot of this id.
    pub(crate) fn find(instances: &Instances<M>, id: &str) -> Option<usize> {
        instances.all.binary_search_by(|member| member.instance().id().cmp(id)).ok()
    }

    /// Error for an empty list; `None` while the registry has not answered.
    pub(crate) fn nothing(&self, instances: &Instances<M>) -> Option<Status> {
        instances.nothing(self.service(), self.registry.url())
    }

    /// Error for a call that waited for a connection in vain.
    pub(crate) fn not_connected(&self, instances: &Instances<M>, last_error: Option<&Status>) -> Status {
        instances.not_connected(self.service(), self.registry.url(), last_error)
    }

    /// Completes at the next change, of the list or - while [`waiting`](Self::waiting) - of the connections.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Guard of a waiter for a connection. It keeps the roster from being forgotten.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(&self.waiting)
    }

    /// The list, once the selector admits an instance; waits for the registry's first answer until the deadline.
    pub(crate) async fn listed(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Instances<M>>, Status> {
        loop {
            let changed = self.changed();
            let instances = self.instances();
            if instances.selected().next().is_some() {
                return Ok(instances);
            }
            self.found_none();
            self.keep_following();
            if let Some(status) = self.nothing(&instances) {
                return Err(status);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(self.not_connected(&instances, None));
            }
        }
    }

    /// Returns true if no instance is listed or held.
    pub(crate) fn lists_none(&self) -> bool {
        self.load().all.is_empty()
    }

    /// Records a call that found no instance listed.
    pub(crate) fn found_none(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    /// Returns true if the owner has forgotten this roster: it follows the registry no more.
    #[inline]
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Marks the roster as forgotten, if its time has come and no call waits; returns true if so.
    pub(crate) fn forget(&self) -> bool {
        if self.forget_at().is_none_or(|time| time > Instant::now()) {
            return false;
        }
        // A waiter that comes meanwhile either sees the mark or is counted here.
        self.forgotten.store(true, Ordering::SeqCst);
        let is_over = self.waiting.load(Ordering::SeqCst) == 0;
        self.forgotten.store(is_over, Ordering::SeqCst);
        is_over
    }

    /// Time at which the roster may be forgotten, as long as it lists no instance.
    fn forget_at(&self) -> Option<Instant> {
        let forget = self.forget.as_ref().filter(|_| self.lists_none())?;
        Some(self.started + Duration::from_millis(self.used.load(Ordering::Relaxed)) + forget.after)
    }

    fn turn(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true while a writer has its turn.
    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        self.hold.try_lock().is_err()
    }
}

impl<M: Member> fmt::Debug for Roster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("service", &self.service).field("policy", &self.policy).finish_non_exhaustive()
    }
}

pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
