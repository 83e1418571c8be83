//! Elections in gregister: a queue of candidates for each service, which the node keeps.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    GregisterBackend,
    candidate::GregisterCandidate,
    link::{Answer, Link},
    source::WAIT,
    stored::{self, Lead},
};
use crate::{Candidate, ElectionBackend, Instance, Master, MasterCell, RegisterError, ServiceName, backoff::reread};

/// Path of a service's candidates; names need no encoding.
fn path(service: &ServiceName) -> String {
    format!("/v1/elections/{service}")
}

#[async_trait]
impl ElectionBackend for GregisterBackend {
    fn candidate(&self, service: &ServiceName, instance: &Instance) -> Box<dyn Candidate> {
        Box::new(GregisterCandidate::new(self.link.clone(), &path(service), instance, self.ttl))
    }

    async fn master(&self, service: &ServiceName) -> Result<Option<Master>, RegisterError> {
        Ok(read(&self.link, &path(service)).await?.master)
    }

    /// A full read, and who led since then.
    async fn follow_master(&self, service: &ServiceName, cell: &MasterCell) -> Result<(), RegisterError> {
        let (link, path) = (&self.link, path(service));
        let Lead { mut store, mut revision, master } = read(link, &path).await?;
        cell.refresh(master);
        let due = Instant::now() + reread();
        while Instant::now() < due {
            let since = format!("{path}?store={store}&revision={revision}&wait={}", WAIT.as_secs());
            if let Answer::Body(body) = link.get("tell who leads", &since, WAIT).await? {
                let lead = stored::decode_lead(&body).map_err(|reason| link.about().rejected(reason))?;
                cell.refresh(lead.master);
                (store, revision) = (lead.store, lead.revision);
            }
        }
        Ok(())
    }
}

async fn read(link: &Link, path: &str) -> Result<Lead, RegisterError> {
    match link.get("read the master", path, Duration::ZERO).await? {
        Answer::Body(body) => stored::decode_lead(&body).map_err(|reason| link.about().rejected(reason)),
        Answer::Same | Answer::Missing => Err(link.no_gregister()),
    }
}
