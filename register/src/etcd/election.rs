//! Elections in etcd: `<prefix>/@election/<service>/<lease>/<id>`.

use async_trait::async_trait;
use etcd_client::{GetOptions, SortOrder, SortTarget, WatchOptions};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    EtcdBackend,
    candidate::EtcdCandidate,
    lease::Lease,
    link::Link,
    stored::{self, Stored},
};
use crate::{Candidate, ElectionBackend, Instance, Master, MasterCell, RegisterError, ServiceName, backoff::reread};

#[async_trait]
impl ElectionBackend for EtcdBackend {
    fn candidate(&self, service: &ServiceName, instance: &Instance) -> Box<dyn Candidate> {
        let (lease, value) = (Lease::new(self.link.clone(), self.ttl), stored::encode(instance));
        Box::new(EtcdCandidate::new(lease, self.candidates(service), instance.id(), value))
    }

    async fn master(&self, service: &ServiceName) -> Result<Option<Master>, RegisterError> {
        Ok(first(&self.link, &self.candidates(service)).await?.0)
    }

    /// One watch, with a read after each change.
    async fn follow_master(&self, service: &ServiceName, cell: &MasterCell) -> Result<(), RegisterError> {
        let directory = self.candidates(service);
        let (master, revision) = first(&self.link, &directory).await?;
        cell.refresh(master);
        let due = Instant::now() + reread();
        let mut watch = self.link.watch(&directory, WatchOptions::new().with_prefix(), revision).await?;
        while let Ok(response) = timeout_at(due, watch.next()).await {
            if !response?.events().is_empty() {
                cell.refresh(first(&self.link, &directory).await?.0);
            }
        }
        Ok(())
    }
}

/// The first candidate, and the revision at which it was that. A key without a lease is nobody's, and ends with nothing: it is passed
/// over.
async fn first(link: &Link, directory: &str) -> Result<(Option<Master>, i64), RegisterError> {
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1);
    let found = link.get("read the master", directory, &options).await?;
    let revision = found.header().map_or(0, |header| header.revision());
    let all = match found.kvs().first() {
        Some(first) if first.lease() == 0 => {
            debug!("{} has no lease: it is no candidate", String::from_utf8_lossy(first.key()));
            link.get("read the master", directory, &options.with_limit(0)).await?
        }
        _ => found,
    };
    let Some(pair) = all.kvs().iter().find(|pair| pair.lease() != 0) else { return Ok((None, revision)) };
    let refused = |reason: &str| {
        let key = String::from_utf8_lossy(pair.key());
        link.about().rejected(format!("{key} is no candidate: {reason}"))
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
