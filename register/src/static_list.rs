use async_trait::async_trait;

use crate::{
    About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, SnapshotCell, url::RegistryUrl,
};

/// `static://`: a list given by hand, the same for every service.
///
/// Registering succeeds and publishes nothing: callers were given the list.
pub type Static = Registry<StaticBackend>;

/// The back end of [`Static`].
#[derive(Debug)]
pub struct StaticBackend {
    about: About,
    instances: Vec<Instance>,
}

impl Static {
    /// A list of these instances, for every service.
    pub fn new(instances: Vec<Instance>) -> Self {
        Self::of(StaticBackend::listing(instances))
    }
}

impl StaticBackend {
    fn listing(mut instances: Vec<Instance>) -> Self {
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        let addresses: Vec<_> = instances.iter().map(Instance::address).collect();
        Self { about: About::new(format!("static://{}", addresses.join(","))), instances }
    }

    pub(crate) fn config(url: &RegistryUrl) -> Result<Vec<Instance>, RegisterError> {
        url.check_keys(&[])?;
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path"));
        }
        url.instances()
    }

    fn found(&self) -> Vec<Found> {
        self.instances.iter().cloned().map(Ok).collect()
    }
}

#[async_trait]
impl Backend for StaticBackend {
    type Config = Vec<Instance>;

    const IS_REMOTE: bool = false;

    fn new(instances: Vec<Instance>) -> Result<Self, RegisterError> {
        Ok(Self::listing(instances))
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

    async fn list(&self, _service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(self.found())
    }

    async fn follow(&self, _service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        cell.refresh(self.found());
        std::future::pending().await
    }

    fn feed(&self, _service: &ServiceName, cell: &SnapshotCell) -> bool {
        cell.refresh(self.found());
        true
    }
}
