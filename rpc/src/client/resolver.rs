//! One service as a proxy sees it: the registry's snapshot turned into instances to call, and which of them has a
//! connection. A pick reads shared immutable data: no lock, no I/O.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ms_register::{Freshness, Instance, MsRegister, ServiceName, Snapshot, SnapshotWatch};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

use super::{
    balance::{Ask, Balancer, Balancing, Clock, Policy},
    connection::Closed,
    endpoint::{Endpoint, EndpointNumber, Shared},
    health::may_eject,
    hold::Hold,
    instances::Instances,
    options::ClientConfig,
    request::{CallRequest, callers_address, not_sent},
    retry::Budget,
};
use crate::{
    Code, Outcome, Status,
    meter::{self, List},
    shard::Cursor,
};

/// Who waits for a connection picks again after this time at the latest.
const PICK_AGAIN: Duration = Duration::from_millis(50);

/// So many picks may meet a connection that has just ended.
const PICKS: usize = 4;

/// Among more instances than this, finding those with a connection takes long enough to do it for many changes at once.
const MANY: usize = 256;

#[derive(Debug)]
pub(crate) struct Resolver {
    service: ServiceName,
    registry: Arc<dyn MsRegister>,
    config: Arc<ClientConfig>,
    connections_per_instance: usize,
    policy: Arc<Policy>,
    clock: Arc<Clock>,
    pub(super) instances: ArcSwap<Instances>,
    /// Something changed for those that wait for a connection.
    changed: Notify,
    /// For the task that follows the registry: look at everything again.
    refresh_soon: Arc<Notify>,
    /// Why the last dial failed, for the message.
    last_error: Mutex<Option<Status>>,
    /// Makers of `instances` take turns.
    hold: Mutex<Hold>,
    /// Which of the instances without a connection is dialled next.
    next_dial: Cursor,
    /// How many endpoints were made.
    endpoints: AtomicU64,
    budget: Budget,
    started: Instant,
    watcher: OnceLock<AbortHandle>,
    /// Calls that wait for a connection; nobody is told of changes otherwise.
    waiting: AtomicU32,
}

/// A connection to use for one attempt, and whose it is.
pub(crate) struct Picked {
    pub(crate) endpoint: EndpointNumber,
    pub(crate) connection: Shared,
}

/// The instances that an earlier attempt has met.
pub(crate) type Tried = Vec<EndpointNumber>;

impl Resolver {
    /// Watches the service from now on.
    pub(crate) fn start(
        runtime: &Handle,
        service: ServiceName,
        registry: Arc<dyn MsRegister>,
        config: Arc<ClientConfig>,
        balancing: Balancing,
        connections_per_instance: usize,
    ) -> Arc<Self> {
        let policy = Arc::new(Policy::new(balancing));
        let watch = registry.watch(&service);
        let refresh_soon = Arc::new(Notify::new());
        let resolver = Arc::new(Self {
            hold: Mutex::new(Hold::new(registry.expiry())),
            service,
            registry,
            config,
            connections_per_instance,
            instances: ArcSwap::from_pointee(Instances::new(policy.clone(), None, Snapshot::never(), Vec::new())),
            policy,
            clock: Arc::default(),
            changed: Notify::new(),
            last_error: Mutex::new(None),
            next_dial: Cursor::default(),
            endpoints: AtomicU64::new(0),
            budget: Budget::new(),
            started: Instant::now(),
            watcher: OnceLock::new(),
            refresh_soon: refresh_soon.clone(),
            waiting: AtomicU32::new(0),
        });
        // Not before there is something to follow for: on another thread it may run at once.
        let following = runtime.spawn(follow(watch, refresh_soon, Arc::downgrade(&resolver)));
        resolver.watcher.get_or_init(|| following.abort_handle());
        resolver
    }

    pub(crate) fn service(&self) -> &str {
        self.service.as_str()
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.registry.scope()
    }

    /// What connections set, and picks read.
    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What calls choose from at the moment.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.instances.load().all.iter().map(|endpoint| endpoint.instance().clone()).collect()
    }

    /// An open connection to one of the instances, preferably one that was not tried. While there is none, it waits for
    /// one until the call's deadline.
    #[inline]
    pub(crate) async fn connection(
        self: &Arc<Self>,
        request: &CallRequest<'_>,
        tried: &Tried,
    ) -> Result<Picked, Status> {
        match self.pick(request, tried)? {
            Some(picked) => Ok(picked),
            // On the heap: the calls that need not wait are smaller for it.
            None => Box::pin(self.wait_for_connection(request, tried)).await,
        }
    }

    /// Without waiting: one of the instances that have a connection. One that has none is dialled meanwhile.
    fn pick(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Option<Picked>, Status> {
        let instances = self.instances.load();
        if let Some(id) = request.instance {
            return self.pick_instance(&instances, id);
        }
        if instances.listed.places().is_empty() {
            return self.nothing(&instances).map_or(Ok(None), Err);
        }
        if instances.live < instances.listed.places().len() {
            self.dial_next(&instances);
        }
        let is_tried = |place: u32| tried.contains(&instances.all[place as usize].number());
        // A connection may have ended since they were gathered; then another pick finds another.
        for _ in 0..PICKS {
            let picked = match instances.only() {
                Some(only) => Some(only),
                None if tried.is_empty() => instances.pick(&self.ask(request)),
                None => instances.pick_other(&self.ask(request), is_tried),
            };
            let Some(place) = picked else { break };
            let endpoint = &instances.all[place as usize];
            let turn = endpoint.turn();
            let ready = instances.ready[place as usize].as_ref().map(|ready| &ready[turn]);
            let connection = match ready.filter(|connection| connection.is_open()) {
                Some(connection) => Some(connection.share()),
                None => endpoint.connection(turn, self, false),
            };
            if let Some(connection) = connection {
                return Ok(Some(Picked { endpoint: endpoint.number(), connection }));
            }
        }
        Ok(None)
    }

    #[inline]
    fn ask(&self, request: &CallRequest<'_>) -> Ask<'_> {
        let key = match request.key {
            None if self.policy.balancing.balancer() == Balancer::IpHash => callers_address(),
            key => key,
        };
        Ask { key, clock: &self.clock }
    }

    /// The instance of this id, if it is connected; else it is dialled meanwhile.
    fn pick_instance(self: &Arc<Self>, instances: &Instances, id: &str) -> Result<Option<Picked>, Status> {
        let Ok(at) = instances.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(id)) else {
            return match instances.snapshot.freshness() {
                Freshness::Never if !instances.snapshot.is_failing() => Ok(None),
                _ => {
                    let (service, url) = (&self.service, self.registry.url());
                    Err(not_sent(Code::Unavailable, format!("no instance {id:?} of `{service}` in {url}")))
                }
            };
        };
        let endpoint = &instances.all[at];
        let connection = endpoint.connection(endpoint.turn(), self, true);
        if connection.is_none() && endpoint.is_unreachable() {
            let message = format!("{id} of `{}` could not be reached the last time", self.service);
            return Err(not_sent(Code::Unavailable, message));
        }
        Ok(connection.map(|connection| Picked { endpoint: endpoint.number(), connection }))
    }

    /// Dials one of the instances without a connection, each in its turn.
    fn dial_next(self: &Arc<Self>, instances: &Instances) {
        let places = instances.listed.places();
        let at = self.next_dial.advance() % places.len() as u32;
        let endpoint = &instances.all[places[at as usize] as usize];
        if !endpoint.is_live() {
            endpoint.connection(endpoint.turn(), self, instances.live == 0);
        }
    }

    async fn wait_for_connection(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Picked, Status> {
        let _waiting = Waiting::new(&self.waiting);
        let deadline = request.deadline();
        loop {
            let changed = self.changed.notified();
            if let Some(picked) = self.pick(request, tried)? {
                return Ok(picked);
            }
            // Then another instance is dialled too: the first may be one that never answers.
            let again = deadline.min(Instant::now() + PICK_AGAIN);
            tokio::select! {
                () = changed => {}
                () = sleep_until(again) => {}
            }
            if Instant::now() >= deadline {
                let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
                let (service, url) = (self.service.as_str(), self.registry.url());
                return Err(self.instances.load().not_connected(service, url, last_error.as_ref()));
            }
        }
    }

    /// Why there is nothing to choose from; none as long as the registry has not answered.
    pub(crate) fn nothing(&self, instances: &Instances) -> Option<Status> {
        instances.nothing(self.service.as_str(), self.registry.url())
    }

    /// What is listed, once something is; waits for the registry's first answer until the deadline.
    pub(crate) async fn listed(&self, deadline: Instant) -> Result<Arc<Instances>, Status> {
        loop {
            let changed = self.changed.notified();
            let instances = self.instances.load_full();
            if instances.selected().next().is_some() {
                return Ok(instances);
            }
            if let Some(status) = self.nothing(&instances) {
                return Err(status);
            }
            if timeout_at(deadline, changed).await.is_err() {
                let (service, url) = (self.service.as_str(), self.registry.url());
                return Err(instances.not_connected(service, url, None));
            }
        }
    }

    /// An attempt failed: an instance that does not answer is ejected, so that calls leave it alone for a while.
    pub(crate) fn attempt_failed(&self, picked: &Picked, status: &Status) {
        match status.outcome() {
            Outcome::NotSent => {}
            Outcome::Refused | Outcome::Answered => picked.connection.health().answered(),
            Outcome::Unknown => {
                if picked.connection.health().unanswered() {
                    self.eject(picked.endpoint, status);
                }
            }
        }
    }

    fn eject(&self, number: EndpointNumber, status: &Status) {
        let _turn = self.turn();
        let instances = self.instances.load();
        let found = instances.all.iter().find(|endpoint| endpoint.number() == number);
        let now = Instant::now();
        let Some(endpoint) = found.filter(|endpoint| endpoint.health().ejected_until(now).is_none()) else { return };
        if !may_eject(instances.ejected, instances.listed.places().len()) {
            return;
        }
        let time = endpoint.health().eject(now);
        let id = endpoint.instance().id();
        warn!(
            "`{}` {id} is not called for {time:?}: it left several calls in a row without an answer: {status}",
            self.service
        );
        meter::ejected(self.service(), id);
        self.publish(instances.refreshed());
        self.refresh_soon.notify_one();
    }

    /// The registry says something new.
    fn snapshot_changed(&self, snapshot: Snapshot) {
        let mut hold = self.turn();
        let held = hold.held();
        hold.apply(&snapshot, Instant::now());
        if hold.held() > held {
            let missing = hold.held();
            let url = self.registry.url();
            warn!("{url} does not list {missing} instances of `{}` any more: they are called on for now", self.service);
        }
        self.rebuild(snapshot, &hold);
    }

    /// Makes the list of callers anew.
    fn rebuild(&self, snapshot: Snapshot, hold: &Hold) {
        let before = self.instances.load();
        let endpoint = |instance: Instance| {
            let known = before.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(instance.id()));
            match known.ok().map(|at| &before.all[at]) {
                Some(known) if *known.instance() == instance => known.clone(),
                Some(known) if known.same_address(&instance) => Arc::new(known.take_over(instance)),
                _ => {
                    let number = EndpointNumber(self.endpoints.fetch_add(1, Ordering::Relaxed));
                    Arc::new(Endpoint::new(number, instance, self.connections_per_instance))
                }
            }
        };
        let all = hold.instances().into_iter().map(endpoint).collect();
        self.publish(Instances::new(self.policy.clone(), Some(&before), snapshot, all));
        self.measure(hold);
        self.changed.notify_waiters();
    }

    fn measure(&self, hold: &Hold) {
        let Instances { snapshot, all, live, ejected, .. } = &**self.instances.load();
        let list = List { snapshot, all: all.len(), live: *live, held: hold.held(), ejected: *ejected };
        meter::list(self.service(), &list);
    }

    fn publish(&self, instances: Instances) {
        self.instances.store(Arc::new(instances));
    }

    /// Looks at everything anew; returns how long to leave it at that.
    fn refresh(&self) -> Duration {
        let mut hold = self.turn();
        let instances = self.instances.load();
        if hold.expire(Instant::now()) {
            info!("the instances of `{}` that are not listed any more are left", self.service);
            self.rebuild(instances.snapshot.clone(), &hold);
        } else {
            self.publish(instances.refreshed());
            self.measure(&hold);
        }
        instances.effort()
    }

    /// When something changes by itself: a held instance is left, an ejected one comes back.
    fn next_change(&self) -> Option<Instant> {
        let expiry = self.turn().next_expiry();
        expiry.into_iter().chain(self.instances.load().next_return).min()
    }

    /// A connection came up, or failed to.
    pub(crate) fn dialled(&self, error: Option<Status>) {
        if error.is_some() {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
        self.connections_changed();
    }

    /// A connection takes no more calls.
    pub(crate) fn closed(&self, id: &str, why: Closed) {
        if why == Closed::WentAway {
            self.is_gone(id);
        }
        self.connections_changed();
    }

    /// A place of an instance lost its connection a while ago.
    pub(crate) fn dial(self: &Arc<Self>, id: &str, at: usize) {
        let instances = self.instances.load();
        let found = instances.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(id));
        if let Ok(place) = found {
            instances.all[place].dial_again(at, self);
        }
    }

    /// An instance shows itself that it is gone: then the registry is believed.
    pub(crate) fn is_gone(&self, id: &str) {
        let mut hold = self.turn();
        if hold.let_go(id) {
            info!("`{}` {id}, which is not listed any more, is gone", self.service);
            self.rebuild(self.instances.load().snapshot.clone(), &hold);
        }
    }

    fn connections_changed(&self) {
        let turn = self.turn();
        let instances = self.instances.load();
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

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// While a list is out of date, its age is measured so often.
const AGE: Duration = Duration::from_secs(5);

async fn follow(mut watch: SnapshotWatch, refresh_soon: Arc<Notify>, resolver: Weak<Resolver>) {
    let mut snapshot = Some(watch.current());
    let mut closed = false;
    loop {
        let Some(strong) = resolver.upgrade() else { return };
        let pause = match snapshot.take() {
            Some(snapshot) => {
                strong.snapshot_changed(snapshot);
                Duration::ZERO
            }
            None => strong.refresh(),
        };
        let is_live = strong.instances.load().snapshot.freshness() == Freshness::Live;
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
