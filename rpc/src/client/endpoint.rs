//! Endpoint: the connections of one instance, and their dialling.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use ms_register::Instance;
use tokio::{
    runtime::{self, Handle},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    balance::{Clock, LoadEstimate, LoadEstimates},
    config::RedialConfig,
    connection::{Change, Connection, DialError, DialFailure, Expected},
    ejection::EjectionState,
    home::STALL,
    instances::Member,
    options::ClientConfig,
    redial::Redial,
};
use crate::{
    Status, meter,
    net::Target,
    shard::{Cursor, Sharded, Share},
};

/// Owner of a service's endpoints: supplies the parameters of a dial, and is notified of its result.
pub(crate) trait Dialler: Send + Sync + 'static {
    fn service(&self) -> &str;

    fn config(&self) -> &Arc<ClientConfig>;

    /// Scope that the registry's instances belong to.
    fn scope(&self) -> Option<&str>;

    /// Clock that connections advance and picks read.
    fn clock(&self) -> &Arc<Clock>;

    /// Makes sure that the registry is followed: the runtime that did so may have ended.
    fn keep_following(&self);

    /// A connection came up, or failed to.
    fn dialled(&self, error: Option<Status>);

    /// A connection takes no more calls.
    fn closed(&self, id: &str, why: Change);

    /// Dials a connection again that was lost a while ago, if its instance is still called.
    fn dial(self: &Arc<Self>, id: &str, at: usize);

    /// Dials a connection that is to take the place of one that ages, if its instance is still called.
    fn replace(self: &Arc<Self>, id: &str, at: usize);

    /// An instance is known to be gone: if its removal is held, the registry is believed.
    fn is_gone(&self, id: &str);
}

/// Instance and its connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    number: EndpointNumber,
    instance: Arc<Instance>,
    ejection: Arc<EjectionState>,
    slots: Arc<[Slot]>,
    /// Turns of the slots, if there are several.
    next: Option<Box<Cursor>>,
}

/// Identity of an instance of a service, for as long as its address stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointNumber(pub(crate) u64);

/// Calls in a row over one connection before the next one's turn.
const IN_A_ROW: u32 = 64;

/// Slot of one connection.
#[derive(Debug, Default)]
struct Slot {
    connection: ArcSwapOption<Sharded<Connection>>,
    dialling: Mutex<Dialling>,
}

#[derive(Debug, Default)]
struct Dialling {
    /// Runtime and begin of the dial that is under way.
    under_way: Option<(runtime::Id, Instant)>,
    /// Kind and message of the last dial, if it failed.
    failed: Option<(DialFailure, String)>,
    redial: Redial,
    /// Incarnation of the server that the last connection met: it changes with each start.
    incarnation: u64,
}

/// The connections of an instance, each open when they were gathered.
pub(crate) type Ready = Box<[Arc<Sharded<Connection>>]>;

/// A connection that several calls use.
pub(crate) type Shared = Arc<Share<Connection>>;

fn cursor(connections: usize) -> Option<Box<Cursor>> {
    (connections > 1).then(Box::default)
}

impl Endpoint {
    pub(crate) fn new(number: EndpointNumber, instance: Instance, connections: usize) -> Self {
        let slots = (0..connections).map(|_| Slot::default()).collect();
        Self { number, instance: Arc::new(instance), ejection: Arc::default(), slots, next: cursor(connections) }
    }

    pub(crate) fn number(&self) -> EndpointNumber {
        self.number
    }

    /// Returns true if the last dial of every slot failed, and none is connected.
    pub(crate) fn has_failed(&self) -> bool {
        !self.is_connected() && self.slots.iter().all(|slot| slot.lock().failed.is_some())
    }

    /// Message of the last dial, if it [has failed](Self::has_failed).
    pub(crate) fn last_failure(&self) -> Option<String> {
        let last = self.slots.last().filter(|_| self.has_failed())?.lock();
        last.failed.as_ref().map(|(_, message)| message.clone())
    }

    /// The slot whose turn it is.
    #[inline]
    pub(crate) fn turn(&self) -> usize {
        match &self.next {
            None => 0,
            // Some calls in a row: those made at the same moment leave in one write.
            Some(next) => (next.advance() / IN_A_ROW) as usize % self.slots.len(),
        }
    }

    /// An open connection, of this slot if possible. A slot without one is dialled in the background, even if another slot has
    /// one. `urgent`: calls wait, and no instance of the service is connected.
    pub(crate) fn connection<D: Dialler>(
        self: &Arc<Self>,
        first: usize,
        dialler: &Arc<D>,
        urgent: bool,
    ) -> Option<Shared> {
        if let Some(open) = self.slots[first].open() {
            return Some(open);
        }
        self.dial(first, dialler, urgent);
        self.slots.iter().find_map(Slot::open)
    }

    /// Dials this slot when its time has come, if it has no connection.
    pub(crate) fn dial_again<D: Dialler>(self: &Arc<Self>, at: usize, dialler: &Arc<D>) {
        if self.slots[at].open().is_none() {
            self.dial(at, dialler, true);
        }
    }

    /// Dials this slot, whose connection goes on until another one takes its place.
    pub(crate) fn dial_anew<D: Dialler>(self: &Arc<Self>, at: usize, dialler: &Arc<D>) {
        self.dial(at, dialler, true);
    }

    /// Starts a dial of this slot, unless one is under way or its time has not come.
    fn dial<D: Dialler>(self: &Arc<Self>, at: usize, dialler: &Arc<D>, urgent: bool) {
        let Ok(runtime) = Handle::try_current() else { return };
        let began = Instant::now();
        let mut dialling = self.slots[at].lock();
        // A dial on another runtime, which may not be driven, counts for a while only.
        let is_hopeful = |(on, since): (runtime::Id, Instant)| on == runtime.id() || began < since + STALL;
        if dialling.under_way.is_some_and(is_hopeful) || !dialling.redial.is_due(urgent, began) {
            return;
        }
        let number = (runtime.id(), began);
        dialling.under_way = Some(number);
        drop(dialling);
        dialler.keep_following();
        let (endpoint, dialler, config) = (self.clone(), Arc::downgrade(dialler), dialler.config().clone());
        let under_way = UnderWay { endpoint: self.clone(), at, number };
        runtime.spawn(async move {
            let dialled = endpoint.connect(at, &config, &dialler).await;
            drop(under_way);
            endpoint.dialled(at, began, dialled, &config.redial, &dialler);
        });
    }

    /// Dials, and makes sure that the server belongs where the registry says.
    async fn connect<D: Dialler>(
        &self,
        at: usize,
        config: &ClientConfig,
        dialler: &Weak<D>,
    ) -> Result<Connection, DialError> {
        let strong = dialler.upgrade();
        let service = strong.as_ref().map(|dialler| dialler.service().to_owned()).unwrap_or_default();
        let scope = strong.as_ref().and_then(|dialler| dialler.scope().map(str::to_owned));
        let load = strong.map(|dialler| Arc::new(LoadEstimate::new(dialler.clock().clone()))).unwrap_or_default();
        let address = self.instance.address();
        let (id, slots, dialler) = (self.instance.id().to_owned(), Arc::downgrade(&self.slots), dialler.clone());
        let began = Instant::now();
        let on_change = move |change| {
            let (Some(slots), Some(owner)) = (slots.upgrade(), dialler.upgrade()) else { return };
            if change == Change::Ages {
                return owner.replace(&id, at);
            }
            let now = Instant::now();
            let due = slots[at].lock().redial.lost(&owner.config().redial, now - began, now, fastrand::f64());
            meter::connection_lost(owner.service());
            owner.closed(&id, change);
            // Without a runtime around it, that of the connection has ended: the next call dials.
            let Ok(runtime) = Handle::try_current() else { return };
            let (id, dialler) = (id.clone(), dialler.clone());
            runtime.spawn(async move {
                sleep_until(due).await;
                if let Some(owner) = dialler.upgrade() {
                    owner.dial(&id, at);
                }
            });
        };
        let expected = Expected { scope: scope.as_deref(), ejection: self.ejection.clone(), load };
        let target = Target::new(&address).of(&service, &self.instance);
        Connection::dial(&target, config, expected, on_change).await
    }

    fn dialled<D: Dialler>(
        &self,
        at: usize,
        began: Instant,
        dialled: Result<Connection, DialError>,
        redial: &RedialConfig,
        dialler: &Weak<D>,
    ) {
        let slot = &self.slots[at];
        let mut dialling = slot.lock();
        let now_failed = dialled.as_ref().err().map(|error| (error.kind, error.status.message().to_owned()));
        let before = std::mem::replace(&mut dialling.failed, now_failed).map(|(kind, _)| kind);
        let failed = match dialled {
            Ok(connection) => {
                let incarnation = connection.hello().incarnation;
                if std::mem::replace(&mut dialling.incarnation, incarnation) != incarnation {
                    self.ejection.forget();
                }
                slot.connection.store(Some(Arc::new(Sharded::new(Arc::new(connection)))));
                None
            }
            Err(error) => {
                let now = Instant::now();
                match error.kind {
                    DialFailure::OtherScope => dialling.redial.misplaced(redial, now),
                    _ => dialling.redial.failed(redial, began, now, fastrand::f64()),
                }
                Some(error)
            }
        };
        drop(dialling);
        match &failed {
            None => info!("connected to {}", self.instance.address()),
            // A failure that does not pass by itself is said once.
            Some(error) if error.kind == DialFailure::Tls && before != Some(error.kind) => {
                warn!("{}: it is not called", error.status.message());
            }
            Some(error) if error.kind == DialFailure::OtherScope && before != Some(error.kind) => warn!(
                "{}: it is not called; if it is another environment's server on a reused port, remove the instance from the \
                 registry, else start the server with this scope",
                error.status.message()
            ),
            Some(error) => debug!("{}", error.status),
        }
        let Some(dialler) = dialler.upgrade() else { return };
        meter::dialled(dialler.service(), failed.is_none());
        if failed.as_ref().is_some_and(|error| error.kind == DialFailure::Refused) {
            dialler.is_gone(self.instance.id());
        }
        dialler.dialled(failed.map(|error| error.status));
    }
}

impl Member for Endpoint {
    type Ready = Ready;

    fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    fn with_instance(&self, instance: Arc<Instance>) -> Self {
        Self {
            number: self.number,
            instance,
            ejection: self.ejection.clone(),
            slots: self.slots.clone(),
            next: cursor(self.slots.len()),
        }
    }

    fn ejection(&self) -> &EjectionState {
        &self.ejection
    }

    /// Load estimates of the open connections.
    fn loads(&self) -> LoadEstimates {
        let open = self.slots.iter().filter_map(Slot::open);
        open.map(|connection| connection.load().clone()).collect()
    }

    fn is_connected(&self) -> bool {
        self.slots.iter().any(|slot| slot.open().is_some())
    }

    /// Permits a dial of a server that was of another scope.
    fn list_changed(&self) {
        let slots = self.slots.iter().map(Slot::lock);
        slots
            .filter(|slot| matches!(slot.failed, Some((DialFailure::OtherScope, _))))
            .for_each(|mut slot| slot.redial.reset());
    }

    /// All connections, if every slot has an open one.
    fn ready(&self) -> Option<Ready> {
        self.slots.iter().map(|slot| slot.connection.load_full().filter(|connection| connection.is_open())).collect()
    }
}

/// Marks a dial as over when it ends, also with its runtime.
struct UnderWay {
    endpoint: Arc<Endpoint>,
    at: usize,
    number: (runtime::Id, Instant),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.endpoint.slots[self.at].lock().under_way.take_if(|dial| *dial == self.number);
    }
}

impl Slot {
    #[inline]
    fn open(&self) -> Option<Shared> {
        let connection = self.connection.load();
        connection.as_ref().filter(|connection| connection.is_open()).map(|connection| connection.share())
    }

    fn lock(&self) -> MutexGuard<'_, Dialling> {
        self.dialling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
