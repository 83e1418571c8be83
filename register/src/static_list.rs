use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch, url::RegistryUrl,
    watch::SnapshotCell,
};

/// `static://`: a list given by hand, the same for every service.
///
/// Registering succeeds and publishes nothing: who calls was given the list.
#[derive(Debug)]
pub struct Static {
    url: String,
    instances: Vec<Instance>,
    cell: Arc<SnapshotCell>,
}

impl Static {
    /// These instances, whatever the service.
    pub fn new(mut instances: Vec<Instance>) -> Self {
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        let addresses: Vec<_> = instances.iter().map(Instance::address).collect();
        let cell = SnapshotCell::new();
        cell.refresh(instances.clone());
        Self { url: format!("static://{}", addresses.join(",")), instances, cell: Arc::new(cell) }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&[])?;
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path"));
        }
        url.instances().map(Self::new)
    }
}

#[async_trait]
impl MsRegister for Static {
    async fn register(&self, _service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        Ok(Registration::unlisted(&self.url, instance))
    }

    async fn list(&self, _service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        Ok(self.instances.clone())
    }

    fn watch(&self, _service: &ServiceName) -> SnapshotWatch {
        self.cell.subscribe()
    }

    async fn close(&self, _deadline: Duration) -> Result<(), RegisterError> {
        Ok(())
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn scope(&self) -> Option<&str> {
        None
    }
}
