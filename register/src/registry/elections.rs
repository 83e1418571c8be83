//! The elections of one registry client.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{
    Backend, Election, ElectionBackend, Instance, Leadership, Master, MasterCell, MasterWatch, RegisterError,
    ServiceName, backoff::rounds, election::Campaigns, meter, observe::Observers,
};

#[derive(Debug)]
pub(super) struct Elections<B> {
    backend: Arc<B>,
    runtime: Option<Handle>,
    campaigns: Campaigns,
    observers: Observers,
}

impl<B: Backend> Elections<B> {
    pub(super) fn new(backend: Arc<B>, runtime: Option<Handle>) -> Self {
        Self { backend, runtime, campaigns: Campaigns::default(), observers: Observers::new() }
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let ended = self.campaigns.end_all(deadline).await;
        self.observers.close();
        ended
    }

    /// The back end's elections, if they can have this service and instance.
    fn of(&self, service: &ServiceName, instance: Option<&Instance>) -> Result<&dyn ElectionBackend, RegisterError> {
        self.backend.check(service, instance)?;
        // Absent elections were refused before this was handed out.
        self.backend.elections().ok_or_else(|| self.backend.about().closed())
    }
}

#[async_trait]
impl<B: Backend> Election for Elections<B> {
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError> {
        instance.check()?;
        let candidate = self.of(service, Some(&instance))?.candidate(service, &instance);
        self.campaigns.run(self.backend.about(), service, instance, deadline, candidate).await
    }

    /// Outside a runtime it shows nothing.
    fn observe(&self, service: &ServiceName) -> MasterWatch {
        let runtime = self.runtime.clone().or_else(|| Handle::try_current().ok());
        let (backend, service) = (self.backend.clone(), service.clone());
        self.observers.open(runtime.as_ref(), |cell| async move { follow(&*backend, &service, &cell).await })
    }

    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError> {
        let about = self.backend.about();
        if self.campaigns.is_closed() {
            return Err(about.closed());
        }
        self.of(service, None)?.master(service).await?.ok_or_else(|| about.no_master(service))
    }
}

/// Keeps `cell` up to date for ever.
async fn follow<B: Backend>(backend: &B, service: &ServiceName, cell: &MasterCell) {
    if let Err(error) = backend.check(service, None) {
        cell.fail(error);
        return std::future::pending().await;
    }
    let Some(elections) = backend.elections() else { return };
    let what = format!("watch of the master of `{service}`");
    let failed = |error| {
        meter::failed(backend.about(), &error);
        cell.fail(error);
    };
    rounds(&what, || elections.follow_master(service, cell), failed).await;
}
