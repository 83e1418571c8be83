//! Elections in etcd: `<prefix>/@election/<service>/<lease>/<id>`, where no service's instances can be.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{GetOptions, SortOrder, SortTarget, WatchOptions};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use super::{
    candidate::EtcdCandidate,
    link::Link,
    stored::{self, Stored},
};
use crate::{
    Election, Instance, Leadership, Master, MasterWatch, RegisterError, ServiceName,
    backoff::Backoff,
    election::{self, Campaigns, MasterCell, Observers},
};

#[derive(Debug)]
pub(super) struct EtcdElection {
    link: Link,
    prefix: String,
    ttl: Duration,
    runtime: Handle,
    campaigns: Campaigns,
    observers: Observers,
}

impl EtcdElection {
    pub(super) fn new(link: Link, prefix: &str, ttl: Duration, runtime: Handle) -> Arc<Self> {
        let (campaigns, observers) = (Campaigns::default(), Observers::new());
        Arc::new(Self { link, prefix: prefix.to_owned(), ttl, runtime, campaigns, observers })
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        election::close(&self.campaigns, &self.observers, deadline).await
    }

    fn directory(&self, service: &ServiceName) -> String {
        format!("{}/@election/{service}/", self.prefix)
    }
}

#[async_trait]
impl Election for EtcdElection {
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError> {
        instance.check()?;
        let (directory, value) = (self.directory(service), stored::encode(&instance));
        let candidate = EtcdCandidate::new(self.link.clone(), directory, instance.id(), value, self.ttl);
        self.campaigns.run(self.link.url(), service, instance, deadline, candidate).await
    }

    fn observe(&self, service: &ServiceName) -> MasterWatch {
        let (link, directory) = (self.link.clone(), self.directory(service));
        self.observers.open(Some(&self.runtime), |cell| async move { follow(&link, &directory, &cell).await })
    }

    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError> {
        if self.campaigns.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        let (master, _) = first(&self.link, &self.directory(service)).await?;
        master.ok_or_else(|| RegisterError::NoMaster {
            registry: self.link.url().to_owned(),
            service: service.to_string(),
        })
    }
}

/// The first candidate, and the revision at which it was that.
async fn first(link: &Link, directory: &str) -> Result<(Option<Master>, i64), RegisterError> {
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1);
    let found = link.get("read the master", directory, &options).await?;
    let revision = found.header().map_or(0, |header| header.revision());
    let Some(pair) = found.kvs().first() else { return Ok((None, revision)) };
    let refused = |reason: &str| {
        let key = String::from_utf8_lossy(pair.key());
        RegisterError::Rejected { registry: link.url().to_owned(), reason: format!("{key} is no candidate: {reason}") }
    };
    // `<directory><lease>/<id>`
    let Some(slash) = pair.key().get(directory.len()..).and_then(|rest| rest.iter().position(|byte| *byte == b'/'))
    else {
        return Err(refused("its key is not `<lease>/<id>`"));
    };
    let parent = String::from_utf8_lossy(&pair.key()[..=directory.len() + slash]);
    match stored::decode(&parent, pair.key(), pair.value()) {
        Ok(Stored::Instance(instance)) => {
            Ok((Some(Master::new(instance, pair.create_revision().unsigned_abs())), revision))
        }
        Ok(Stored::Deleted) => Err(refused("it is marked as deleted")),
        Err(reason) => Err(refused(&reason)),
    }
}

/// A full read from time to time corrects whatever a watch may have missed.
const REREAD: Duration = Duration::from_secs(30);

/// Keeps `cell` up to date for ever.
async fn follow(link: &Link, directory: &str, cell: &MasterCell) {
    let mut backoff = Backoff::default();
    loop {
        match round(link, directory, cell, &mut backoff).await {
            Ok(()) => continue,
            Err(error) => {
                debug!("watch of {directory} in {}: {error}", link.url());
                cell.fail(error);
            }
        }
        sleep(backoff.next_delay()).await;
    }
}

/// One watch, with a read after each change. Ok: it is time to begin anew.
async fn round(link: &Link, directory: &str, cell: &MasterCell, backoff: &mut Backoff) -> Result<(), RegisterError> {
    let (master, revision) = first(link, directory).await?;
    cell.refresh(master);
    let (due, start) = (Instant::now() + REREAD, revision + 1);
    let options = WatchOptions::new().with_prefix().with_start_revision(start);
    let mut stream = link.watch(directory, &options).await?;
    loop {
        let Ok(message) = timeout_at(due, stream.message()).await else { return Ok(()) };
        let response = message
            .map_err(|error| link.named(&error))?
            .ok_or_else(|| link.unreachable("the watch ended".to_owned()))?;
        let seen = response.header().map_or(0, |header| header.revision());
        if response.canceled() || response.compact_revision() != 0 || seen + 1 < start {
            return Err(link.unreachable("the watch broke".to_owned()));
        }
        backoff.reset();
        if !response.events().is_empty() {
            cell.refresh(first(link, directory).await?.0);
        }
    }
}
