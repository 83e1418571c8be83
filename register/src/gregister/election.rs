//! Elections in gregister: a queue of candidates for each service, which the node keeps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tracing::debug;

use super::{
    candidate::GregisterCandidate,
    link::{Answer, Link},
    source::Reader,
    stored::{self, Lead},
};
use crate::{
    Election, Instance, Leadership, Master, MasterWatch, RegisterError, ServiceName,
    backoff::Backoff,
    election::{self, Campaigns, MasterCell, Observers},
};

#[derive(Debug)]
pub(super) struct GregisterElection {
    link: Link,
    ttl: Duration,
    runtime: Handle,
    campaigns: Campaigns,
    observers: Observers,
}

impl GregisterElection {
    pub(super) fn new(link: Link, ttl: Duration, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { link, ttl, runtime, campaigns: Campaigns::default(), observers: Observers::new() })
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        election::close(&self.campaigns, &self.observers, deadline).await
    }
}

/// Whose candidates these are; names need no encoding.
fn path(service: &ServiceName) -> String {
    format!("/v1/elections/{service}")
}

#[async_trait]
impl Election for GregisterElection {
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError> {
        instance.check()?;
        let candidate = GregisterCandidate::new(self.link.clone(), &path(service), &instance, self.ttl);
        self.campaigns.run(self.link.url(), service, instance, deadline, candidate).await
    }

    fn observe(&self, service: &ServiceName) -> MasterWatch {
        let (link, path) = (self.link.clone(), path(service));
        self.observers.open(Some(&self.runtime), |cell| async move { follow(&link, &path, &cell).await })
    }

    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError> {
        let registry = || self.link.url().to_owned();
        if self.campaigns.is_closed() {
            return Err(RegisterError::Closed { registry: registry() });
        }
        let nobody = || RegisterError::NoMaster { registry: registry(), service: service.to_string() };
        read(&self.link, &path(service)).await?.master.ok_or_else(nobody)
    }
}

async fn read(link: &Link, path: &str) -> Result<Lead, RegisterError> {
    match link.get("read the master", path, Duration::ZERO).await? {
        Answer::Body(body) => stored::decode_lead(&body).map_err(|reason| link.rejected(&reason)),
        Answer::Same | Answer::Missing => Err(link.no_elections()),
    }
}

/// Keeps `cell` up to date for ever.
async fn follow(link: &Link, path: &str, cell: &MasterCell) {
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = round(link, path, cell, &mut backoff).await {
            debug!("watch of {path} in {}: {error}", link.url());
            cell.fail(error);
            sleep(backoff.next_delay()).await;
        }
    }
}

/// A full read, and who led since then.
async fn round(link: &Link, path: &str, cell: &MasterCell, backoff: &mut Backoff) -> Result<(), RegisterError> {
    let Lead { mut store, mut revision, master } = read(link, path).await?;
    cell.refresh(master);
    backoff.reset();
    let due = Instant::now() + Reader::REREAD;
    while Instant::now() < due {
        let wait = Reader::WAIT.as_secs();
        let since = format!("{path}?store={store}&revision={revision}&wait={wait}");
        if let Answer::Body(body) = link.get("tell who leads", &since, Reader::WAIT).await? {
            let lead = stored::decode_lead(&body).map_err(|reason| link.rejected(&reason))?;
            cell.refresh(lead.master);
            (store, revision) = (lead.store, lead.revision);
        }
    }
    Ok(())
}
