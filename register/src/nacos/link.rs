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
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use nacos_sdk::api::{
    error::Error,
    naming::{NamingService, NamingServiceBuilder, ServiceInstance},
};
use tokio::{net::TcpStream, runtime::Handle, task::JoinHandle, time::timeout};

use super::{NacosConfig, http::Http};
use crate::{About, RegisterError, ServiceName};

/// A write on its way.
pub(super) type Write = JoinHandle<Result<(), Error>>;

/// All connections of one registry client.
pub(super) struct Link {
    config: NacosConfig,
    about: About,
    runtime: Handle,
    http: Http,
    /// Reads go here, and it is the first slot too.
    first: OnceLock<NamingService>,
    /// A connection that is being opened.
    building: tokio::sync::Mutex<Option<JoinHandle<Result<NamingService, Error>>>>,
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
    /// A link that has spoken to nobody yet.
    pub(super) fn new(config: NacosConfig, runtime: Handle) -> Self {
        Self {
            about: config.about(),
            http: Http::new(&config),
            config,
            runtime,
            first: OnceLock::new(),
            building: Default::default(),
            slots: Mutex::default(),
        }
    }

    /// Opens the first connection, and has it read. A connection that stands although the read failed is kept for the next attempt:
    /// it cannot be closed.
    pub(super) async fn connect(&self) -> Result<(), RegisterError> {
        if self.first.get().is_none() {
            let first = self.open().await?;
            self.slots().push(Slot { naming: first.clone(), holds: HashSet::new() });
            // An error: another attempt was faster, and this connection serves registrations.
            let _ = self.first.set(first);
        }
        // The connection stands before a login is checked: only a read shows that Nacos serves this user.
        self.query_on(self.naming()?, "answer", "ms.probe").await.map(drop)
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The connection for reads.
    pub(super) fn naming(&self) -> Result<&NamingService, RegisterError> {
        self.first.get().ok_or_else(|| self.about.unreachable("it is not connected to yet"))
    }

    pub(super) fn group(&self) -> Option<String> {
        Some(self.config.group.clone())
    }

    /// All instances of the service, as Nacos has them. Not from the client crate's cache, which turns errors into empty
    /// lists.
    pub(super) async fn query(&self, service: &ServiceName) -> Result<Vec<ServiceInstance>, RegisterError> {
        self.query_on(self.naming()?, "list the instances", service.as_str()).await
    }

    /// The same, over the connection of one place. The client crate reconnects at once only if there is something to
    /// send; a silent connection may take 10 s to notice that it is dead.
    pub(super) async fn query_at(
        &self,
        place: &Place,
        service: &ServiceName,
    ) -> Result<Vec<ServiceInstance>, RegisterError> {
        self.query_on(&place.naming, "list the instances", service.as_str()).await
    }

    async fn query_on(
        &self,
        naming: &NamingService,
        operation: &'static str,
        service: &str,
    ) -> Result<Vec<ServiceInstance>, RegisterError> {
        self.bounded(operation, naming.get_all_instances(service.to_owned(), self.group(), Vec::new(), false)).await
    }

    /// The names of all services of the group.
    pub(super) async fn services(&self) -> Result<Vec<String>, RegisterError> {
        const PAGE: i32 = 1000;
        let (naming, mut names) = (self.naming()?, Vec::new());
        for page in 1.. {
            let list = naming.get_service_list(page, PAGE, self.group());
            let (found, count) = self.bounded("list the services", list).await?;
            let is_last = found.len() < PAGE as usize;
            names.extend(found);
            if is_last || names.len() >= usize::try_from(count).unwrap_or(0) {
                break;
            }
        }
        Ok(names)
    }

    /// A place for one more instance of the service, on a connection of its own if need be.
    pub(super) async fn place(&self, service: &ServiceName) -> Result<Place, RegisterError> {
        if let Some(place) = self.free_place(service) {
            return Ok(place);
        }
        let naming = self.open().await?;
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
        Some(outcome.map_err(|error| named(&self.about, &error)))
    }

    pub(super) fn late(&self, operation: &'static str) -> RegisterError {
        self.about.late(operation, self.config.timeout)
    }

    /// For reads, which may be dropped.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RegisterError> {
        let call = async { call.await.map_err(|error| named(&self.about, &error)) };
        self.about.within(self.config.timeout, operation, call).await
    }

    /// A new connection, within the timeout. One that is still being opened when the time is up is what the next attempt waits
    /// for: the client crate goes on with it in any case.
    async fn open(&self) -> Result<NamingService, RegisterError> {
        let opened = async {
            let mut building = self.building.lock().await;
            if building.is_none() {
                // Before the client crate begins with anything: whatever it begins stays for ever.
                self.http.log_in().await?;
                let server = self.dial().await?;
                let builder = NamingServiceBuilder::new(self.config.props(&server));
                let builder = builder.with_auth_plugin(Arc::new(self.http.clone()));
                *building = Some(self.runtime.spawn(builder.build()));
            }
            let Some(build) = building.as_mut() else { return Err(self.about.no_runtime()) };
            let built = build.await;
            *building = None;
            let built = built.unwrap_or_else(|failed| Err(Error::ErrResult(failed.to_string())));
            built.map_err(|error| named(&self.about, &error))
        };
        self.about.within(self.config.timeout, "accept a connection", opened).await
    }

    /// The servers that answer HTTP, each within a share of half of the time, or without such those that accept connections. The
    /// client crate begins with any of those that it is given, and waits for it for longer than a start may take.
    async fn dial(&self) -> Result<Vec<String>, RegisterError> {
        let servers = &self.config.servers;
        let share = self.config.timeout / 4 / u32::try_from(servers.len()).unwrap_or(1).max(1);
        let (mut accept, mut answer, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for (server, grpc) in servers.iter().zip(self.config.grpc_addresses()?) {
            match timeout(share, TcpStream::connect(&grpc)).await {
                Ok(Ok(_)) => accept.push(server.clone()),
                Ok(Err(error)) => reasons.push(format!("gRPC at {grpc}: {error}")),
                Err(_) => reasons.push(format!("gRPC at {grpc}: no connection within {share:?}")),
            }
        }
        if accept.is_empty() {
            return Err(self.about.unreachable(reasons.join(", ")));
        }
        for server in &accept {
            if accept.len() == 1 || self.about.within(share, "answer", self.http.answers(server)).await.is_ok() {
                answer.push(server.clone());
            }
        }
        Ok(if answer.is_empty() { accept } else { answer })
    }

    /// Returns true if an operator has disabled the instance.
    pub(super) async fn is_disabled(
        &self,
        service: &ServiceName,
        instance: &ServiceInstance,
    ) -> Result<bool, RegisterError> {
        let named = self.named(service, instance);
        let cluster = instance.cluster_name.as_deref().unwrap_or_default();
        self.http.is_disabled(&[&pairs(&named)[..], &[("cluster", cluster)]].concat()).await
    }

    /// Gives the instance this weight and its metadata as the console does: what an earlier writer gave it is kept by a registration.
    /// The instance stays as enabled as it is.
    pub(super) async fn revise(
        &self,
        service: &ServiceName,
        instance: &ServiceInstance,
        weight: f64,
    ) -> Result<(), RegisterError> {
        let is_enabled = !self.is_disabled(service, instance).await?;
        let named = self.named(service, instance);
        let cluster = instance.cluster_name.as_deref().unwrap_or_default();
        let (weight, metadata) = (weight.to_string(), serde_json::json!(instance.metadata).to_string());
        let revised = [
            ("clusterName", cluster),
            ("weight", &weight),
            ("metadata", &metadata),
            ("enabled", if is_enabled { "true" } else { "false" }),
            ("ephemeral", "true"),
        ];
        self.http.revise(&[&pairs(&named)[..], &revised].concat()).await
    }

    /// Parameters of HTTP that name an instance, but for its cluster.
    fn named(&self, service: &ServiceName, instance: &ServiceInstance) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let mut parameters = vec![
            ("serviceName", service.to_string()),
            ("groupName", config.group.clone()),
            ("ip", instance.ip.clone()),
            ("port", instance.port.to_string()),
        ];
        if !config.namespace.is_empty() {
            parameters.push(("namespaceId", config.namespace.clone()));
        }
        parameters
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

fn pairs<'a>(parameters: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    parameters.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn named(about: &About, error: &Error) -> RegisterError {
    match error {
        // The client crate's words for an error code of Nacos.
        Error::ErrResult(text) if text.starts_with("handle ") => about.rejected(error),
        Error::ErrResponse(..) | Error::Serialization(_) | Error::InvalidParam(..) => about.rejected(error),
        Error::WrongServerAddress(_) => about.invalid(error),
        _ => about.unreachable(error),
    }
}
