//! One instance as a proxy sees it: its connections, and the dialling of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use ms_register::Instance;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{connection::Connection, options::ClientConfig, request::not_sent, resolver::Resolver};
use crate::{
    Code, Status,
    shard::{Cursor, Sharded, Share},
};

/// One instance and its connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    number: EndpointNumber,
    instance: Instance,
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
    under_way: bool,
    failures: u32,
    /// No dial before this.
    not_before: Option<Instant>,
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
        Self { number, instance, slots, next: cursor(connections) }
    }

    pub(crate) fn number(&self) -> EndpointNumber {
        self.number
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Whether this can stand for `instance` in a new list, with its connections. A change of weight or metadata keeps
    /// the address.
    pub(crate) fn same_address(&self, instance: &Instance) -> bool {
        self.instance.host() == instance.host() && self.instance.port() == instance.port()
    }

    /// The same connections under what the registry says now.
    pub(crate) fn take_over(&self, instance: Instance) -> Self {
        Self { number: self.number, instance, slots: self.slots.clone(), next: cursor(self.slots.len()) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.slots.iter().any(|slot| slot.open().is_some())
    }

    /// All its connections, if every place has an open one.
    pub(crate) fn ready(&self) -> Option<Ready> {
        self.slots.iter().map(|slot| slot.connection.load_full().filter(|connection| connection.is_open())).collect()
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
    /// place has one.
    pub(crate) fn connection(self: &Arc<Self>, first: usize, resolver: &Arc<Resolver>) -> Option<Shared> {
        if let Some(open) = self.slots[first].open() {
            return Some(open);
        }
        self.dial(first, resolver);
        self.slots.iter().find_map(Slot::open)
    }

    /// Starts a dial of this place, unless one is under way or its time has not come.
    fn dial(self: &Arc<Self>, at: usize, resolver: &Arc<Resolver>) {
        let mut dialling = self.slots[at].lock();
        if dialling.under_way || dialling.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        dialling.under_way = true;
        drop(dialling);
        let (endpoint, resolver, config) = (self.clone(), Arc::downgrade(resolver), resolver.config().clone());
        let under_way = UnderWay { endpoint: self.clone(), at };
        tokio::spawn(async move {
            let address = endpoint.instance.address();
            let dialled = connect(&address, &config, resolver.clone()).await;
            drop(under_way);
            endpoint.dialled(at, &address, dialled, &resolver);
        });
    }

    fn dialled(&self, at: usize, address: &str, dialled: Result<Connection, Status>, resolver: &Weak<Resolver>) {
        let slot = &self.slots[at];
        let mut dialling = slot.lock();
        let error = match dialled {
            Ok(connection) => {
                info!("connected to {address}");
                dialling.failures = 0;
                dialling.not_before = None;
                slot.connection.store(Some(Arc::new(Sharded::new(Arc::new(connection)))));
                None
            }
            Err(status) => {
                debug!("{status}");
                dialling.not_before = Some(Instant::now() + pause(dialling.failures));
                dialling.failures = dialling.failures.saturating_add(1);
                Some(status)
            }
        };
        drop(dialling);
        if let Some(resolver) = resolver.upgrade() {
            resolver.connections_changed(error);
        }
    }
}

/// A dial that ends with its runtime has ended too.
struct UnderWay {
    endpoint: Arc<Endpoint>,
    at: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.endpoint.slots[self.at].lock().under_way = false;
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

/// Dials, and makes sure that the server belongs where the registry says.
async fn connect(address: &str, config: &ClientConfig, resolver: Weak<Resolver>) -> Result<Connection, Status> {
    let scope = resolver.upgrade().and_then(|resolver| resolver.scope().map(str::to_owned));
    let on_close = move || {
        if let Some(resolver) = resolver.upgrade() {
            resolver.connections_changed(None);
        }
    };
    let connection = Connection::dial(address, config, on_close).await?;
    let scopes = &connection.hello().scopes;
    match scope {
        // A port may have been taken over by another environment's server of the same name.
        Some(scope) if !scopes.is_empty() && !scopes.contains(&scope) => {
            let message = format!("{address} is registered in {}, not in {scope}", scopes.join(", "));
            Err(not_sent(Code::Unavailable, message))
        }
        _ => Ok(connection),
    }
}

/// Anything up to 1 s after the first failure, 1.6 times as much after each more, at most 10 s: full jitter keeps many
/// clients of one server apart.
fn pause(failures: u32) -> Duration {
    let most = (1.6f64.powi(failures.min(20).cast_signed())).min(10.0);
    Duration::from_secs_f64(most * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_cap() {
        for failures in 0..100 {
            let most = if failures == 0 { 1.0 } else { 10.0 };
            assert!(pause(failures).as_secs_f64() <= most);
        }
    }
}
