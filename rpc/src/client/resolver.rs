//! One service as a proxy sees it: the registry's snapshot turned into instances to call, and which of them has a
//! connection. A pick reads shared immutable data: no lock, no I/O.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ms_register::{Freshness, MsRegister, ServiceName, Snapshot, SnapshotWatch};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    balance::{Balance, Balancer, Choices},
    endpoint::{Endpoint, EndpointNumber, Ready, Shared},
    options::ClientConfig,
    request::{CallRequest, not_sent},
    retry::Budget,
};
use crate::{Code, Status, shard::Cursor};

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
    balance: Box<dyn Balance>,
    instances: ArcSwap<Instances>,
    /// Something changed for those that wait for a connection.
    changed: Notify,
    /// Among many instances, one look at the connections serves many changes.
    refresh_soon: Arc<Notify>,
    /// Why the last dial failed, for the message.
    last_error: Mutex<Option<Status>>,
    /// Makers of `instances` take turns.
    updating: Mutex<()>,
    /// Which of the instances without a connection is dialled next.
    next_dial: Cursor,
    /// How many endpoints were made.
    endpoints: AtomicU64,
    budget: Budget,
    started: Instant,
    watcher: AbortHandle,
    /// Calls that wait for a connection; nobody is told of changes otherwise.
    waiting: AtomicU32,
}

/// What is known of the service's instances.
#[derive(Debug)]
struct Instances {
    snapshot: Snapshot,
    all: Vec<Arc<Endpoint>>,
    choices: Choices,
    /// Those of them with an open connection.
    live: Choices,
    /// By place: the connections of an instance that has all of its own, to be used without a further look.
    ready: Vec<Option<Ready>>,
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
        balancer: Balancer,
        connections_per_instance: usize,
    ) -> Arc<Self> {
        let watch = registry.watch(&service);
        let refresh_soon = Arc::new(Notify::new());
        Arc::new_cyclic(|resolver: &Weak<Self>| Self {
            service,
            registry,
            config,
            connections_per_instance,
            balance: balancer.build(),
            instances: ArcSwap::from_pointee(Instances::new(Snapshot::never(), Vec::new())),
            changed: Notify::new(),
            last_error: Mutex::new(None),
            updating: Mutex::new(()),
            next_dial: Cursor::default(),
            endpoints: AtomicU64::new(0),
            budget: Budget::new(),
            started: Instant::now(),
            watcher: runtime.spawn(follow(watch, refresh_soon.clone(), resolver.clone())).abort_handle(),
            refresh_soon,
            waiting: AtomicU32::new(0),
        })
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.registry.scope()
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// An open connection to one of the instances, preferably one that was not tried. While there is none, it waits for
    /// one until the call's deadline.
    #[inline]
    pub(crate) async fn connection(
        self: &Arc<Self>,
        request: &CallRequest<'_>,
        tried: &Tried,
    ) -> Result<Picked, Status> {
        match self.pick(tried)? {
            Some(picked) => Ok(picked),
            // On the heap: the calls that need not wait are smaller for it.
            None => Box::pin(self.wait_for_connection(request, tried)).await,
        }
    }

    /// Without waiting: one of the instances that have a connection. One that has none is dialled meanwhile.
    fn pick(self: &Arc<Self>, tried: &Tried) -> Result<Option<Picked>, Status> {
        let instances = self.instances.load();
        if instances.choices.is_empty() {
            return self.no_instance(&instances).map(|()| None);
        }
        if instances.live.len() < instances.choices.len() {
            self.dial_next(&instances);
        }
        let avoided = |place: u32| !tried.is_empty() && tried.contains(&instances.all[place as usize].number());
        // A connection may have ended since they were gathered; then another pick finds another.
        for _ in 0..PICKS {
            let Some(place) = instances.live.pick(&*self.balance, avoided) else { break };
            let endpoint = &instances.all[place as usize];
            let turn = endpoint.turn();
            let ready = instances.ready[place as usize].as_ref().map(|ready| &ready[turn]);
            let connection = match ready.filter(|connection| connection.is_open()) {
                Some(connection) => Some(connection.share()),
                None => endpoint.connection(turn, self),
            };
            if let Some(connection) = connection {
                return Ok(Some(Picked { endpoint: endpoint.number(), connection }));
            }
        }
        Ok(None)
    }

    /// Dials one of the instances without a connection, each in its turn.
    fn dial_next(self: &Arc<Self>, instances: &Instances) {
        let at = self.next_dial.advance() % instances.choices.len() as u32;
        let endpoint = &instances.all[instances.choices.place(at as usize) as usize];
        if !endpoint.is_live() {
            endpoint.connection(endpoint.turn(), self);
        }
    }

    async fn wait_for_connection(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Picked, Status> {
        let _waiting = Waiting::new(&self.waiting);
        let deadline = request.deadline();
        loop {
            let changed = self.changed.notified();
            if let Some(picked) = self.pick(tried)? {
                return Ok(picked);
            }
            // Then another instance is dialled too: the first may be one that never answers.
            let again = deadline.min(Instant::now() + PICK_AGAIN);
            tokio::select! {
                () = changed => {}
                () = sleep_until(again) => {}
            }
            if Instant::now() >= deadline {
                return Err(self.no_connection());
            }
        }
    }

    /// Nothing to choose from: an error, or, while the registry has not answered yet, something to wait for.
    fn no_instance(&self, instances: &Instances) -> Result<(), Status> {
        let (service, url) = (&self.service, self.registry.url());
        let snapshot = &instances.snapshot;
        let state = snapshot.state(std::time::Instant::now());
        if !instances.all.is_empty() {
            let message = format!("all {} instances of `{service}` in {url} have weight 0", instances.all.len());
            return Err(not_sent(Code::FailedPrecondition, message));
        }
        if snapshot.freshness() == Freshness::Never && !snapshot.is_failing() {
            return Ok(());
        }
        let message = format!("no instance of `{service}`: the registry {url} is {state} and lists none");
        Err(not_sent(Code::Unavailable, message))
    }

    fn no_connection(&self) -> Status {
        let service = &self.service;
        let instances = self.instances.load();
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let message = match (&*last_error, instances.all.len()) {
            (_, 0) => format!("the registry {} has not said yet who serves `{service}`", self.registry.url()),
            (Some(error), n) => format!("none of the {n} instances of `{service}` is connected: {}", error.message()),
            (None, n) => format!("none of the {n} instances of `{service}` was connected in time"),
        };
        not_sent(Code::Unavailable, message)
    }

    fn snapshot_changed(&self, snapshot: Snapshot) {
        let turn = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.instances.load();
        let endpoint = |instance: &ms_register::Instance| {
            let known = before.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(instance.id()));
            match known.ok().map(|at| &before.all[at]) {
                Some(known) if known.instance() == instance => known.clone(),
                Some(known) if known.same_address(instance) => Arc::new(known.take_over(instance.clone())),
                _ => {
                    let number = EndpointNumber(self.endpoints.fetch_add(1, Ordering::Relaxed));
                    Arc::new(Endpoint::new(number, instance.clone(), self.connections_per_instance))
                }
            }
        };
        let all = snapshot.instances().iter().map(endpoint).collect();
        self.instances.store(Arc::new(Instances::new(snapshot, all)));
        drop(turn);
        self.changed.notify_waiters();
    }

    /// Looks at the connections anew; returns how long to leave it at that.
    fn refresh(&self) -> Duration {
        let _turn = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = self.instances.load();
        self.instances.store(Arc::new(instances.refreshed()));
        Duration::from_micros(instances.all.len() as u64)
    }

    /// A connection came up, failed to, or ended.
    pub(crate) fn connections_changed(&self, error: Option<Status>) {
        let turn = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_some() {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
        let instances = self.instances.load();
        if instances.all.len() <= MANY {
            self.instances.store(Arc::new(instances.refreshed()));
        } else {
            self.refresh_soon.notify_one();
        }
        drop(turn);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Instances {
    fn new(snapshot: Snapshot, all: Vec<Arc<Endpoint>>) -> Self {
        let choices = Choices::new(places(&all).map(|(place, endpoint)| (place, endpoint.instance().weight())));
        let live = live(&all);
        let ready = all.iter().map(|endpoint| endpoint.ready()).collect();
        Self { snapshot, all, choices, live, ready }
    }

    /// The same with the connections as they are now.
    fn refreshed(&self) -> Self {
        Self::new(self.snapshot.clone(), self.all.clone())
    }
}

fn places(all: &[Arc<Endpoint>]) -> impl Iterator<Item = (u32, &Arc<Endpoint>)> {
    (0..).zip(all)
}

fn live(all: &[Arc<Endpoint>]) -> Choices {
    let live = places(all).filter(|(_, endpoint)| endpoint.is_live());
    Choices::new(live.map(|(place, endpoint)| (place, endpoint.instance().weight())))
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

async fn follow(mut watch: SnapshotWatch, refresh_soon: Arc<Notify>, resolver: Weak<Resolver>) {
    let mut snapshot = Some(watch.current());
    loop {
        let pause = match (resolver.upgrade(), snapshot.take()) {
            (None, _) => return,
            (Some(resolver), Some(snapshot)) => {
                resolver.snapshot_changed(snapshot);
                Duration::ZERO
            }
            (Some(resolver), None) => resolver.refresh(),
        };
        sleep(pause).await;
        tokio::select! {
            changed = watch.changed() => match changed {
                Ok(changed) => snapshot = Some(changed),
                Err(_) => return,
            },
            () = refresh_soon.notified() => {}
        }
    }
}
