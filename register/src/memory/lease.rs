use std::sync::Arc;

use async_trait::async_trait;

use super::Store;
use crate::{Instance, LeaseKeeper, RegisterError, ServiceName};

/// One registration.
pub(super) struct MemoryKeeper {
    store: Arc<Store>,
    service: ServiceName,
    instance: Instance,
}

impl MemoryKeeper {
    pub(super) fn new(store: Arc<Store>, service: &ServiceName, instance: &Instance) -> Self {
        Self { store, service: service.clone(), instance: instance.clone() }
    }
}

#[async_trait]
impl LeaseKeeper for MemoryKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        self.store.change_up(|state| state.insert(&self.service, self.instance.clone()))
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.instance = instance.clone();
        Ok(())
    }

    async fn held(&mut self) -> String {
        let is_gone = |store: &Store| (!store.lock().has(&self.service, self.instance.id())).then_some(());
        self.store.until(is_gone).await;
        "it was removed".to_owned()
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        self.store.change_up(|state| state.remove(&self.service, self.instance.id()))
    }
}
