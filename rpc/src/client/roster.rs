//! Current instances of a service: follows the registry's snapshots, holds removals that are not believed yet, and ejects
//! outliers. Proxies and pickers share it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use ms_register::{Freshness, Instance, MsRegister, ServiceName, Snapshot, SnapshotWatch};
use tokio::{
    runtime::Handle,
    sync::{Notify, futures::Notified},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    balance::{Balancing, Clock, Policy},
    ejection::{EjectionConfig, EjectionState},
    hold::Hold,
    instances::{Instances, Member},
};
use crate::{
    Status,
    meter::{self, List},
};

/// Instances above which refreshes are batched: each takes long enough to serve many changes.
const MANY: usize = 256;

/// Interval at which the age of an outdated list is measured.
const AGE: Duration = Duration::from_secs(5);

/// Makes the member of a new instance.
type Make<M> = Box<dyn Fn(Instance, &Arc<Clock>) -> M + Send + Sync>;

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
    /// Wakes the following task for a refresh.
    refresh_soon: Arc<Notify>,
    /// Serializes the writers of `instances`.
    hold: Mutex<Hold>,
    /// Waiters for a connection; without any, changes of connections are not announced.
    waiting: AtomicU32,
    watcher: OnceLock<AbortHandle>,
}

impl<M: Member> Roster<M> {
    /// Follows the service from now on. `make` makes the member of a new instance.
    pub(crate) fn start(
        runtime: &Handle,
        service: ServiceName,
        registry: Arc<dyn MsRegister>,
        balancing: Balancing,
        ejection: EjectionConfig,
        make: impl Fn(Instance, &Arc<Clock>) -> M + Send + Sync + 'static,
    ) -> Arc<Self> {
        let policy = Arc::new(Policy::new(balancing));
        let watch = registry.watch(&service);
        let refresh_soon = Arc::new(Notify::new());
        let roster = Arc::new(Self {
            hold: Mutex::new(Hold::new(registry.expiry())),
            service,
            registry,
            ejection,
            instances: ArcSwap::from_pointee(Instances::new(policy.clone(), None, Snapshot::never(), Vec::new())),
            policy,
            clock: Arc::default(),
            make: Box::new(make),
            changed: Notify::new(),
            refresh_soon: refresh_soon.clone(),
            waiting: AtomicU32::new(0),
            watcher: OnceLock::new(),
        });
        // Spawned last: on another thread it may run at once.
        let following = runtime.spawn(follow(watch, refresh_soon, Arc::downgrade(&roster)));
        roster.watcher.get_or_init(|| following.abort_handle());
        roster
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

    /// Member of this id.
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

    /// Guard of a waiter for a connection.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(&self.waiting)
    }

    /// The list, once the selector admits an instance; waits for the registry's first answer until the deadline.
    pub(crate) async fn listed(&self, deadline: Instant) -> Result<Arc<Instances<M>>, Status> {
        loop {
            let changed = self.changed();
            let instances = self.instances();
            if instances.selected().next().is_some() {
                return Ok(instances);
            }
            if let Some(status) = self.nothing(&instances) {
                return Err(status);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(self.not_connected(&instances, None));
            }
        }
    }

    /// Records a call without an answer; an instance that leaves several in a row is ejected.
    pub(crate) fn unanswered(&self, state: &EjectionState, why: &dyn std::fmt::Display) {
        if state.unanswered(&self.ejection) {
            self.eject(state, why);
        }
    }

    fn eject(&self, state: &EjectionState, why: &dyn std::fmt::Display) {
        let _turn = self.turn();
        let instances = self.load();
        let found = instances.all.iter().find(|member| std::ptr::eq(member.ejection(), state));
        let now = Instant::now();
        let Some(member) = found.filter(|_| state.ejected_until(now).is_none()) else { return };
        if !self.ejection.allows(instances.ejected, instances.listed.slots().len()) {
            return;
        }
        let time = state.eject(&self.ejection, now);
        let (service, id) = (self.service(), member.instance().id());
        warn!("`{service}` {id} is not called for {time:?}: it left several calls in a row without an answer: {why}");
        meter::ejected(service, id);
        self.publish(instances.refreshed());
        self.refresh_soon.notify_one();
    }

    /// Applies the registry's new list.
    fn snapshot_changed(&self, snapshot: Snapshot) {
        let mut hold = self.turn();
        let held = hold.held();
        hold.apply(&snapshot, Instant::now());
        if hold.held() > held {
            let (missing, url) = (hold.held(), self.registry.url());
            warn!("{url} does not list {missing} instances of `{}` any more: they are called on for now", self.service);
        }
        self.rebuild(snapshot, &hold);
    }

    fn rebuild(&self, snapshot: Snapshot, hold: &Hold) {
        let before = self.load();
        let member = |instance: Instance| {
            let known = Self::find(&before, instance.id()).map(|at| &before.all[at]);
            match known {
                Some(known) if **known.instance() == instance => known.clone(),
                // A change of weight or metadata keeps the address, and with it connections and estimates.
                Some(known) if same_address(known.instance(), &instance) => {
                    Arc::new(known.with_instance(Arc::new(instance)))
                }
                _ => Arc::new((self.make)(instance, &self.clock)),
            }
        };
        let all = hold.instances().into_iter().map(member).collect();
        self.publish(Instances::new(self.policy.clone(), Some(&before), snapshot, all));
        self.measure(hold);
        self.changed.notify_waiters();
    }

    fn measure(&self, hold: &Hold) {
        let Instances { snapshot, all, live, ejected, .. } = &**self.load();
        let list = List { snapshot, all: all.len(), live: *live, held: hold.held(), ejected: *ejected };
        meter::list(self.service(), &list);
    }

    fn publish(&self, instances: Instances<M>) {
        self.instances.store(Arc::new(instances));
    }

    /// Looks at everything anew; returns the time to wait before the next refresh.
    fn refresh(&self) -> Duration {
        let mut hold = self.turn();
        let instances = self.load();
        if hold.expire(Instant::now()) {
            info!("the instances of `{}` that are not listed any more are left", self.service);
            self.rebuild(instances.snapshot.clone(), &hold);
        } else {
            self.publish(instances.refreshed());
            self.measure(&hold);
        }
        instances.effort()
    }

    /// Time of the next change without an event: a held instance expires, or an ejection ends.
    fn next_change(&self) -> Option<Instant> {
        let expiry = self.turn().next_expiry();
        expiry.into_iter().chain(self.load().next_return).min()
    }

    /// An instance is known to be gone: if its removal is held, the registry is believed.
    pub(crate) fn is_gone(&self, id: &str) {
        let mut hold = self.turn();
        if hold.let_go(id) {
            info!("`{}` {id}, which is not listed any more, is gone", self.service);
            self.rebuild(self.load().snapshot.clone(), &hold);
        }
    }

    pub(crate) fn connections_changed(&self) {
        let turn = self.turn();
        let instances = self.load();
        if instances.all.len() <= MANY {
            self.publish(instances.refreshed());
        } else {
            self.refresh_soon.notify_one();
        }
        drop(turn);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    fn turn(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Member> std::fmt::Debug for Roster<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("service", &self.service).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<M: Member> Drop for Roster<M> {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

fn same_address(a: &Instance, b: &Instance) -> bool {
    a.host() == b.host() && a.port() == b.port()
}

pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn follow<M: Member>(mut watch: SnapshotWatch, refresh_soon: Arc<Notify>, roster: Weak<Roster<M>>) {
    let mut snapshot = Some(watch.current());
    let mut closed = false;
    loop {
        let Some(strong) = roster.upgrade() else { return };
        let pause = match snapshot.take() {
            Some(snapshot) => {
                strong.snapshot_changed(snapshot);
                Duration::ZERO
            }
            None => strong.refresh(),
        };
        let is_live = strong.load().snapshot.freshness() == Freshness::Live;
        let in_a_while = (!is_live).then(|| Instant::now() + AGE);
        let next = strong.next_change().into_iter().chain(in_a_while).min();
        drop(strong);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let next_change = async {
            match next {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = watch.changed(), if !closed => match changed {
                Ok(changed) => snapshot = Some(changed),
                // The last list stays.
                Err(_) => closed = true,
            },
            () = refresh_soon.notified() => {}
            () = next_change => {}
        }
    }
}
