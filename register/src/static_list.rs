use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, SnapshotCell, url::RegistryUrl,
};

/// `static://`: lists given by hand, one for every service or one for each.
///
/// Registering succeeds and publishes nothing: callers were given the list.
pub type Static = Registry<StaticBackend>;

/// The back end of [`Static`].
#[derive(Debug)]
pub struct StaticBackend {
    about: About,
    lists: StaticLists,
}

/// The lists of [`Static`].
#[derive(Debug, Default)]
pub struct StaticLists {
    by_service: BTreeMap<ServiceName, Vec<Instance>>,
    /// For services that have no list of their own.
    others: Vec<Instance>,
}

impl Static {
    /// A list of these instances, for every service.
    pub fn new(instances: Vec<Instance>) -> Self {
        Self::of(StaticBackend::listing(instances.into()))
    }

    /// A list for each of these services, and none for others.
    pub fn per_service(services: impl IntoIterator<Item = (ServiceName, Vec<Instance>)>) -> Self {
        Self::of(StaticBackend::listing(services.into_iter().collect()))
    }
}

impl From<Vec<Instance>> for StaticLists {
    /// One list for every service.
    fn from(others: Vec<Instance>) -> Self {
        Self { others, ..Self::default() }
    }
}

impl FromIterator<(ServiceName, Vec<Instance>)> for StaticLists {
    /// A list for each of these services, and none for others.
    fn from_iter<I: IntoIterator<Item = (ServiceName, Vec<Instance>)>>(services: I) -> Self {
        Self { by_service: services.into_iter().collect(), others: Vec::new() }
    }
}

impl StaticBackend {
    fn listing(lists: StaticLists) -> Self {
        let addresses = |list: &[Instance]| list.iter().map(Instance::address).collect::<Vec<_>>().join(",");
        let services = lists.by_service.iter().map(|(name, list)| format!("{name}={}", addresses(list)));
        let services = services.collect::<Vec<_>>().join("&");
        let sign = if services.is_empty() { "" } else { "?" };
        Self { about: About::new(format!("static://{}{sign}{services}", addresses(&lists.others))), lists }
    }

    pub(crate) fn config(url: &RegistryUrl) -> Result<StaticLists, RegisterError> {
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path"));
        }
        let mut lists = StaticLists::default();
        for (index, (name, addresses)) in url.pairs().enumerate() {
            let invalid =
                |reason: &str| url.bad_pair(index, reason, "give `service=host:port`, more of them after commas");
            let service = ServiceName::new(name).map_err(|error| invalid(&error.to_string()))?;
            let parse =
                |address: &str| Instance::from_address(address).map_err(|_| invalid(&format!("{name}={address}")));
            lists.by_service.insert(service, addresses.split(',').map(parse).collect::<Result<_, _>>()?);
        }
        if lists.by_service.is_empty() || !url.hosts.is_empty() {
            lists.others = url.instances()?;
        }
        Ok(lists)
    }

    fn found(&self, service: &ServiceName) -> Vec<Found> {
        let list = self.lists.by_service.get(service).unwrap_or(&self.lists.others);
        list.iter().cloned().map(Ok).collect()
    }
}

#[async_trait]
impl Backend for StaticBackend {
    type Config = StaticLists;

    const IS_REMOTE: bool = false;

    fn new(lists: StaticLists) -> Result<Self, RegisterError> {
        Ok(Self::listing(lists))
    }

    fn about(&self) -> &About {
        &self.about
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        Ok(())
    }

    fn lease(&self, _service: &ServiceName, _instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        None
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(self.found(service))
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        cell.refresh(self.found(service));
        std::future::pending().await
    }

    fn feed(&self, service: &ServiceName, cell: &SnapshotCell) -> bool {
        cell.refresh(self.found(service));
        true
    }

    /// A list for every service names none.
    fn names_services(&self) -> bool {
        self.lists.others.is_empty()
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        Ok(self.lists.by_service.keys().cloned().collect())
    }
}
