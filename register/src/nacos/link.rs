//! The connections to Nacos. Seen of the client crate, and what follows from it here:
//! - a connection remembers one instance of each service and writes only that one again after an outage, so instances of
//!   one service are spread over connections;
//! - a connection cannot be closed, so it is kept for the next instance;
//! - a write whose future is dropped happens all the same, so writes run in tasks of their own, to their end;
//! - during an outage calls neither fail nor end, so every wait has a limit of its own.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nacos_sdk::api::{
    error::Error,
    naming::{NamingService, NamingServiceBuilder, ServiceInstance},
};
use tokio::{net::TcpStream, runtime::Handle, task::JoinHandle, time::timeout};

use super::NacosConfig;
use crate::{RegisterError, ServiceName};

/// A write on its way.
pub(super) type Write = JoinHandle<Result<(), Error>>;

/// All connections of one registry client.
pub(super) struct Link {
    config: NacosConfig,
    url: String,
    runtime: Handle,
    /// Reads go here, and it is the first slot too.
    first: NamingService,
    slots: Mutex<Vec<Slot>>,
}

struct Slot {
    naming: NamingService,
    /// The services of which it holds an instance.
    holds: HashSet<ServiceName>,
}

/// The right to one instance of a service on one connection. It is given back once Nacos has confirmed that the instance
/// is gone, and not by dropping it: the connection would write the old instance again.
pub(super) struct Place {
    index: usize,
    naming: NamingService,
}

impl Link {
    pub(super) async fn connect(config: NacosConfig, runtime: Handle) -> Result<Self, RegisterError> {
        let first = open(&config, &runtime).await?;
        let slots = Mutex::new(vec![Slot { naming: first.clone(), holds: HashSet::new() }]);
        let link = Self { url: config.url(), config, runtime, first, slots };
        // The connection stands before a login is checked: only a read shows that Nacos serves this user.
        let probe = link.first.get_all_instances("ms.probe".to_owned(), link.group(), Vec::new(), false);
        link.bounded("answer", probe).await?;
        Ok(link)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn naming(&self) -> &NamingService {
        &self.first
    }

    pub(super) fn group(&self) -> Option<String> {
        Some(self.config.group.clone())
    }

    /// All instances of the service, as Nacos has them. Not from the client crate's cache, which turns errors into empty
    /// lists.
    pub(super) async fn query(&self, service: &ServiceName) -> Result<Vec<ServiceInstance>, RegisterError> {
        self.query_on(&self.first, service).await
    }

    /// The same, over the connection of one place. The client crate reconnects at once only if there is something to
    /// send; a silent connection may take 10 s to notice that it is dead.
    pub(super) async fn query_at(
        &self,
        place: &Place,
        service: &ServiceName,
    ) -> Result<Vec<ServiceInstance>, RegisterError> {
        self.query_on(&place.naming, service).await
    }

    async fn query_on(
        &self,
        naming: &NamingService,
        service: &ServiceName,
    ) -> Result<Vec<ServiceInstance>, RegisterError> {
        let query = naming.get_all_instances(service.to_string(), self.group(), Vec::new(), false);
        self.bounded("list the instances", query).await
    }

    /// A place for one more instance of the service, on a connection of its own if need be.
    pub(super) async fn place(&self, service: &ServiceName) -> Result<Place, RegisterError> {
        if let Some(place) = self.free_place(service) {
            return Ok(place);
        }
        let naming = open(&self.config, &self.runtime).await?;
        let mut slots = self.slots();
        slots.push(Slot { naming: naming.clone(), holds: HashSet::from([service.clone()]) });
        Ok(Place { index: slots.len() - 1, naming })
    }

    fn free_place(&self, service: &ServiceName) -> Option<Place> {
        let mut slots = self.slots();
        let (index, slot) = slots.iter_mut().enumerate().find(|(_, slot)| !slot.holds.contains(service))?;
        slot.holds.insert(service.clone());
        Some(Place { index, naming: slot.naming.clone() })
    }

    pub(super) fn give_back(&self, place: &Place, service: &ServiceName) {
        if let Some(slot) = self.slots().get_mut(place.index) {
            slot.holds.remove(service);
        }
    }

    pub(super) fn register(&self, place: &Place, service: &ServiceName, instance: &ServiceInstance) -> Write {
        let (naming, group) = (place.naming.clone(), self.group());
        let (service, instance) = (service.to_string(), instance.clone());
        self.runtime.spawn(async move { naming.register_instance(service, group, instance).await })
    }

    pub(super) fn deregister(&self, place: &Place, service: &ServiceName, instance: &ServiceInstance) -> Write {
        let (naming, group) = (place.naming.clone(), self.group());
        let (service, instance) = (service.to_string(), instance.clone());
        self.runtime.spawn(async move { naming.deregister_instance(service, group, instance).await })
    }

    /// Waits for a write; after an error by time it is still on its way.
    pub(super) async fn finish(&self, operation: &'static str, write: &mut Write) -> Option<Result<(), RegisterError>> {
        let joined = timeout(self.config.timeout, write).await.ok()?;
        let outcome = joined.unwrap_or_else(|failed| Err(Error::ErrResult(format!("{operation}: {failed}"))));
        Some(outcome.map_err(|error| named(&self.url, &error)))
    }

    pub(super) fn late(&self, operation: &'static str) -> RegisterError {
        RegisterError::Timeout { registry: self.url.clone(), operation, after: self.config.timeout }
    }

    /// For reads, which may be dropped.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RegisterError> {
        match timeout(self.config.timeout, call).await {
            Ok(outcome) => outcome.map_err(|error| named(&self.url, &error)),
            Err(_) => Err(self.late(operation)),
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A new connection, within the timeout.
async fn open(config: &NacosConfig, runtime: &Handle) -> Result<NamingService, RegisterError> {
    let connecting = async {
        // The client crate tries for 4.5 s before it says that nobody listens.
        dial(config).await?;
        let mut builder = NamingServiceBuilder::new(config.props());
        if config.username.is_some() {
            builder = builder.enable_auth_plugin_http();
        }
        // In a task: what it has begun when the time is up, it ends.
        let built = runtime.spawn(builder.build()).await;
        let built = built.unwrap_or_else(|failed| Err(Error::ErrResult(failed.to_string())));
        built.map_err(|error| named(&config.url(), &error))
    };
    match timeout(config.timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(RegisterError::Timeout {
            registry: config.url(),
            operation: "accept a connection",
            after: config.timeout,
        }),
    }
}

/// Ok when any of the servers accepts a connection.
async fn dial(config: &NacosConfig) -> Result<(), RegisterError> {
    let mut reasons = Vec::new();
    for address in config.grpc_addresses()? {
        match TcpStream::connect(&address).await {
            Ok(_) => return Ok(()),
            Err(error) => reasons.push(format!("gRPC at {address}: {error}")),
        }
    }
    Err(RegisterError::Unreachable { registry: config.url(), reason: reasons.join(", ") })
}

fn named(url: &str, error: &Error) -> RegisterError {
    let (registry, reason) = (url.to_owned(), error.to_string());
    match error {
        // How the client crate says that Nacos answered with an error code.
        Error::ErrResult(text) if text.starts_with("handle ") => RegisterError::Rejected { registry, reason },
        Error::ErrResponse(..) | Error::Serialization(_) | Error::InvalidParam(..) => {
            RegisterError::Rejected { registry, reason }
        }
        Error::WrongServerAddress(_) => RegisterError::InvalidUrl { url: registry, reason },
        _ => RegisterError::Unreachable { registry, reason },
    }
}
