//! One service as a proxy sees it: the registry's snapshot turned into instances to call, and which of them has a
//! connection. A pick reads shared immutable data: no lock, no I/O.

mod follow;
mod list;
mod subset;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ms_register::{Freshness, Instance, MsRegister, ServiceName, Snapshot};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    balance::{Ask, Balancer, Clock, Policy},
    endpoint::{EndpointNumber, Shared},
    hold::Hold,
    instances::Instances,
    options::ClientConfig,
    request::{CallRequest, callers_address, not_sent},
    resolvers::Resolvers,
    retry::Budget,
};
use crate::{Code, Status, meter, shard::Cursor};
use follow::Follower;
pub(crate) use follow::STALL;

/// Who waits for a connection picks again after this time at the latest.
const PICK_AGAIN: Duration = Duration::from_millis(50);

/// So many picks may meet a connection that has just ended.
const PICKS: usize = 4;

#[derive(Debug)]
pub(crate) struct Resolver {
    service: ServiceName,
    registry: Arc<dyn MsRegister>,
    config: Arc<ClientConfig>,
    policy: Arc<Policy>,
    clock: Arc<Clock>,
    pub(super) instances: ArcSwap<Instances>,
    /// Something changed for those that wait for a connection.
    changed: Notify,
    /// Task that follows the registry.
    follower: Follower,
    /// Number of the proxy among all clients, by chance.
    client: u64,
    /// Table that this resolver is in.
    table: Weak<Resolvers>,
    /// Time of the last call that found no instance listed, in milliseconds since the start.
    used: AtomicU64,
    /// A warning said that the list is longer than what is connected.
    warned_of_subset: AtomicBool,
    /// Removed from the table: calls look there for another.
    forgotten: AtomicBool,
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
    /// A resolver that does not follow the registry yet.
    pub(crate) fn new(service: ServiceName, table: &Arc<Resolvers>) -> Self {
        let policy = Arc::new(Policy::new(table.balancing.clone()));
        let (registry, config) = (table.registry.clone(), table.config.clone());
        Self {
            hold: Mutex::new(Hold::new(registry.expiry(), &config.hold)),
            service,
            registry,
            instances: ArcSwap::from_pointee(Instances::new(
                policy.clone(),
                None,
                Snapshot::never(),
                Vec::new(),
                (&[], config.discovery.instances_per_service),
            )),
            policy,
            clock: Arc::default(),
            changed: Notify::new(),
            follower: Follower::default(),
            table: Arc::downgrade(table),
            used: AtomicU64::new(0),
            warned_of_subset: AtomicBool::new(false),
            client: table.client,
            forgotten: AtomicBool::new(false),
            last_error: Mutex::new(None),
            next_dial: Cursor::default(),
            endpoints: AtomicU64::new(0),
            budget: Budget::new(&config.retry),
            config,
            started: Instant::now(),
            waiting: AtomicU32::new(0),
        }
    }

    /// Returns true if no instance is listed or held.
    pub(super) fn lists_none(&self) -> bool {
        self.instances.load().all.is_empty()
    }

    /// Returns true if the table has forgotten this resolver.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Marks it as forgotten, if it lists none and no call needs it; returns true if so.
    pub(super) fn forget(&self) -> bool {
        let is_due = self.forget_at().is_some_and(|time| time <= Instant::now());
        let is_over = is_due && self.waiting.load(Ordering::SeqCst) == 0;
        self.forgotten.store(is_over, Ordering::Release);
        is_over
    }

    /// Time at which it may be forgotten, as long as it lists none.
    fn forget_at(&self) -> Option<Instant> {
        let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
        self.lists_none().then(|| self.started + used + self.config.discovery.forget_after)
    }

    /// A call found no instance listed.
    fn used_in_vain(&self) -> Result<(), Status> {
        let now = self.started.elapsed().as_millis();
        self.used.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.is_forgotten() {
            return Err(not_sent(Code::Unavailable, format!("`{}` is not followed any more", self.service)));
        }
        Ok(())
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
            self.used_in_vain()?;
            return self.nothing(&instances).map_or(Ok(None), Err);
        }
        if instances.unsettled {
            if self.follower.is_lost() {
                self.keep_following();
            }
            match instances.wanted(&self.ask(request)) {
                Some(place) => self.dial_wanted(&instances, place),
                None => self.dial_next(&instances),
            }
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

    /// Dials the instance that a key belongs to, in a list too long to connect all of it.
    fn dial_wanted(self: &Arc<Self>, instances: &Instances, place: u32) {
        let endpoint = &instances.all[place as usize];
        if endpoint.is_live() || !instances.has_room() {
            return;
        }
        endpoint.connection(endpoint.turn(), self, instances.live == 0);
        if endpoint.is_unreachable() {
            self.dial_next(instances);
        }
    }

    async fn wait_for_connection(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Picked, Status> {
        let _waiting = Waiting::new(&self.waiting);
        self.keep_following();
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
    pub(crate) async fn listed(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Instances>, Status> {
        loop {
            let changed = self.changed.notified();
            let instances = self.instances.load_full();
            if instances.selected().next().is_some() {
                return Ok(instances);
            }
            self.used_in_vain()?;
            self.keep_following();
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
