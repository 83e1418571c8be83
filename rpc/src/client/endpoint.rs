//! One instance as a proxy sees it: its connections, and the dialling of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use ms_register::Instance;
use tokio::{
    runtime::{self, Handle},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    balance::{Load, Loads},
    config::RedialConfig,
    connection::{Connection, DialError, DialFailure, Expected},
    health::Health,
    options::ClientConfig,
    redial::Redial,
    resolver::{Resolver, STALL},
};
use crate::{
    meter,
    net::Target,
    shard::{Cursor, Sharded, Share},
};

/// One instance and its connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    number: EndpointNumber,
    instance: Instance,
    health: Arc<Health>,
    slots: Arc<[Slot]>,
    /// Whose turn it is, among several.
    next: Option<Box<Cursor>>,
}

/// Tells the instances of a service apart, for as long as their addresses stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointNumber(pub(crate) u64);

/// So many calls go over one connection before it is the next one's turn.
const IN_A_ROW: u32 = 64;

/// The place of one connection.
#[derive(Debug, Default)]
struct Slot {
    connection: ArcSwapOption<Sharded<Connection>>,
    dialling: Mutex<Dialling>,
}

#[derive(Debug, Default)]
struct Dialling {
    /// Runtime and begin of the dial that is under way.
    under_way: Option<(runtime::Id, Instant)>,
    /// The last dial failed.
    failed: bool,
    /// The last dial met a server of another scope, and a warning said so.
    other_scope: bool,
    redial: Redial,
    /// Which start of the server the last connection met.
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
        Self { number, instance, health: Arc::default(), slots, next: cursor(connections) }
    }

    pub(crate) fn number(&self) -> EndpointNumber {
        self.number
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Whether this can stand for `instance` in a new list, with its connections. A change of weight or metadata keeps
    /// the address.
    pub(crate) fn same_address(&self, instance: &Instance) -> bool {
        self.instance.host() == instance.host() && self.instance.port() == instance.port()
    }

    /// The same connections under what the registry says now.
    pub(crate) fn take_over(&self, instance: Instance) -> Self {
        Self {
            number: self.number,
            instance,
            health: self.health.clone(),
            slots: self.slots.clone(),
            next: cursor(self.slots.len()),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.slots.iter().any(|slot| slot.open().is_some())
    }

    /// Whether it could not be reached the last time.
    pub(crate) fn is_unreachable(&self) -> bool {
        !self.is_live() && self.slots.iter().all(|slot| slot.lock().failed)
    }

    /// All its connections, if every place has an open one.
    pub(crate) fn ready(&self) -> Option<Ready> {
        self.slots.iter().map(|slot| slot.connection.load_full().filter(|connection| connection.is_open())).collect()
    }

    /// Of its open connections.
    pub(crate) fn loads(&self) -> Loads {
        let open = self.slots.iter().filter_map(Slot::open);
        open.map(|connection| connection.load().clone()).collect()
    }

    /// The place whose turn it is.
    #[inline]
    pub(crate) fn turn(&self) -> usize {
        match &self.next {
            None => 0,
            // Some calls in a row: those made at the same moment leave in one write.
            Some(next) => (next.advance() / IN_A_ROW) as usize % self.slots.len(),
        }
    }

    /// An open connection, at this place if possible. A place without one is dialled in the background, even when another
    /// place has one. `urgent`: calls wait, and no instance of the service is connected.
    pub(crate) fn connection(self: &Arc<Self>, first: usize, resolver: &Arc<Resolver>, urgent: bool) -> Option<Shared> {
        if let Some(open) = self.slots[first].open() {
            return Some(open);
        }
        self.dial(first, resolver, urgent);
        self.slots.iter().find_map(Slot::open)
    }

    /// Dials this place when its time has come, if it has no connection.
    pub(crate) fn dial_again(self: &Arc<Self>, at: usize, resolver: &Arc<Resolver>) {
        if self.slots[at].open().is_none() {
            self.dial(at, resolver, true);
        }
    }

    /// Permits a dial of a server that was of another scope: the registry's list has changed.
    pub(crate) fn list_changed(&self) {
        self.slots.iter().map(Slot::lock).filter(|slot| slot.other_scope).for_each(|mut slot| slot.redial.reset());
    }

    /// Starts a dial of this place, unless one is under way or its time has not come.
    fn dial(self: &Arc<Self>, at: usize, resolver: &Arc<Resolver>, urgent: bool) {
        let Ok(runtime) = Handle::try_current() else { return };
        let began = Instant::now();
        let mut dialling = self.slots[at].lock();
        // A dial on a runtime that may not be driven holds up nobody for long.
        let is_hopeful = |(on, since): (runtime::Id, Instant)| on == runtime.id() || began < since + STALL;
        if dialling.under_way.is_some_and(is_hopeful) || !dialling.redial.is_due(urgent, began) {
            return;
        }
        let number = (runtime.id(), began);
        dialling.under_way = Some(number);
        drop(dialling);
        resolver.keep_following();
        let (endpoint, resolver, config) = (self.clone(), Arc::downgrade(resolver), resolver.config().clone());
        let under_way = UnderWay { endpoint: self.clone(), at, number };
        runtime.spawn(async move {
            let dialled = endpoint.connect(at, &config, &resolver).await;
            drop(under_way);
            endpoint.dialled(at, began, dialled, &config.redial, &resolver);
        });
    }

    /// Dials, and makes sure that the server belongs where the registry says.
    async fn connect(
        &self,
        at: usize,
        config: &ClientConfig,
        resolver: &Weak<Resolver>,
    ) -> Result<Connection, DialError> {
        let strong = resolver.upgrade();
        let service = strong.as_ref().map(|resolver| resolver.service().to_owned()).unwrap_or_default();
        let scope = strong.as_ref().and_then(|resolver| resolver.scope().map(str::to_owned));
        let load = strong.map(|resolver| Arc::new(Load::new(resolver.clock().clone()))).unwrap_or_default();
        let address = self.instance.address();
        let (id, slots, resolver) = (self.instance.id().to_owned(), Arc::downgrade(&self.slots), resolver.clone());
        let began = Instant::now();
        let on_close = move |why| {
            let (Some(slots), Some(proxy)) = (slots.upgrade(), resolver.upgrade()) else { return };
            let now = Instant::now();
            let due = slots[at].lock().redial.lost(&proxy.config().redial, now - began, now, fastrand::f64());
            meter::connection_lost(proxy.service());
            proxy.closed(&id, why);
            // Without one its runtime has ended: the next call dials.
            let Ok(runtime) = Handle::try_current() else { return };
            runtime.spawn(async move {
                sleep_until(due).await;
                if let Some(proxy) = resolver.upgrade() {
                    proxy.dial(&id, at);
                }
            });
        };
        let expected = Expected { scope: scope.as_deref(), health: self.health.clone(), load };
        let target = Target::new(&address).of(&service, &self.instance);
        Connection::dial(&target, config, expected, on_close).await
    }

    fn dialled(
        &self,
        at: usize,
        began: Instant,
        dialled: Result<Connection, DialError>,
        redial: &RedialConfig,
        resolver: &Weak<Resolver>,
    ) {
        let slot = &self.slots[at];
        let mut dialling = slot.lock();
        dialling.failed = dialled.is_err();
        let failed = match dialled {
            Ok(connection) => {
                let incarnation = connection.hello().incarnation;
                if std::mem::replace(&mut dialling.incarnation, incarnation) != incarnation {
                    self.health.forget();
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
        let other_scope = failed.as_ref().is_some_and(|error| error.kind == DialFailure::OtherScope);
        let is_news = std::mem::replace(&mut dialling.other_scope, other_scope) != other_scope;
        drop(dialling);
        match &failed {
            None => info!("connected to {}", self.instance.address()),
            Some(error) if other_scope && is_news => warn!(
                "{}: it is not called; if it is another environment's server on a reused port, remove the instance from the \
                 registry, else start the server with this scope",
                error.status.message()
            ),
            Some(error) => debug!("{}", error.status),
        }
        let Some(resolver) = resolver.upgrade() else { return };
        meter::dialled(resolver.service(), failed.is_none());
        if failed.as_ref().is_some_and(|error| error.kind == DialFailure::Refused) {
            resolver.is_gone(self.instance.id());
        }
        resolver.dialled(failed.map(|error| error.status));
    }
}

/// A dial that ends with its runtime has ended too.
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
