//! One service as a proxy sees it: the registry's snapshot turned into instances to call, and which of them has a
//! connection. A pick reads shared immutable data: no lock, no I/O.

mod follow;
mod list;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ms_register::{Freshness, Instance, MsRegister, ServiceName, Snapshot};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    balance::{Ask, Balancer, Balancing, Clock, Policy},
    endpoint::{EndpointNumber, Shared},
    hold::Hold,
    instances::Instances,
    options::ClientConfig,
    request::{CallRequest, callers_address, not_sent},
    retry::Budget,
};
use crate::{Code, Status, meter, shard::Cursor};
use follow::follow;

/// Who waits for a connection picks again after this time at the latest.
const PICK_AGAIN: Duration = Duration::from_millis(50);

/// So many picks may meet a connection that has just ended.
const PICKS: usize = 4;

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

    /// Takes a retry from the budget; false if nothing is left.
    pub(crate) fn grants_retry(&self) -> bool {
        let granted = self.budget.withdraw(self.started.elapsed());
        meter::budget(self.service(), self.budget.saved(), granted);
        granted
    }

    /// Returns true if the call may go to more than one instance.
    pub(crate) fn has_others(&self, request: &CallRequest<'_>) -> bool {
        request.instance.is_none() && self.instances.load().listed.places().len() > 1
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
