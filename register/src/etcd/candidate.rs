//! One campaign in etcd: a key under a lease of its own. The keys of a service's candidates are ordered by their create
//! revisions; the first leads, and each other one watches the one before it, so that an end wakes one candidate and not all.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{GetOptions, SortOrder, SortTarget};
use tokio::time::timeout;

use super::lease::{Lease, removed_since};
use crate::{Candidate, Moment, RegisterError, Term, backoff::reread};

pub(super) struct EtcdCandidate {
    lease: Lease,
    /// Common beginning of the keys of all candidates of the service.
    directory: String,
    key: String,
    value: Vec<u8>,
    /// True if anything may be written.
    entered: bool,
}

/// Rank of a candidate.
enum Rank {
    First(i64),
    Behind { key: Vec<u8>, seen_at: i64 },
    Nowhere,
}

impl EtcdCandidate {
    pub(super) fn new(lease: Lease, directory: String, id: &str, value: Vec<u8>) -> Self {
        let key = format!("{directory}{:016x}/{id}", lease.id);
        Self { lease, directory, key, value, entered: false }
    }

    /// A fifth of the lease: of the renewals in two thirds of it, one may be lost and the next one still comes in time.
    fn beat(&self) -> Duration {
        self.lease.ttl / 5
    }

    /// Waits until it is first; then its create revision.
    async fn turn(&self) -> Result<i64, RegisterError> {
        let about = self.lease.link.about();
        loop {
            match self.rank().await? {
                Rank::First(revision) => return Ok(revision),
                Rank::Nowhere => return Err(about.unreachable("its key is gone")),
                Rank::Behind { key, seen_at } => {
                    let key =
                        String::from_utf8(key).map_err(|_| about.unreachable("a candidate's key is not UTF-8"))?;
                    // Late: whatever the watch may have missed is seen by the next read.
                    if let Ok(ended) = timeout(reread(), removed_since(&self.lease.link, &key, seen_at)).await {
                        ended?;
                    }
                }
            }
        }
    }

    /// One read, which sees this key and the one before it at one moment.
    async fn rank(&self) -> Result<Rank, RegisterError> {
        let link = &self.lease.link;
        let own = link.get("read the candidate", &self.key, &GetOptions::new().with_keys_only()).await?;
        let Some(entered) = own.kvs().first().map(|own| own.create_revision()) else { return Ok(Rank::Nowhere) };
        let options = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_max_create_revision(entered)
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(2);
        let found = link.get("read the candidates", &self.directory, &options).await?;
        let seen_at = found.header().map_or(0, |header| header.revision());
        let mut candidates = found.kvs().iter();
        if candidates.next().is_none_or(|own| own.key() != self.key.as_bytes() || own.create_revision() != entered) {
            return Ok(Rank::Nowhere);
        }
        let before = match candidates.next() {
            // Nobody's, and perhaps not the only one.
            Some(before) if before.lease() == 0 => {
                let all = link.get("read the candidates", &self.directory, &options.with_limit(0)).await?;
                all.kvs().iter().skip(1).find(|before| before.lease() != 0).map(|before| before.key().to_vec())
            }
            before => before.map(|before| before.key().to_vec()),
        };
        Ok(before.map_or(Rank::First(entered), |key| Rank::Behind { key, seen_at }))
    }
}

fn confirm(term: &Term) -> impl Fn(Moment, Duration) {
    |sent, granted| {
        term.confirm(sent, granted);
    }
}

#[async_trait]
impl Candidate for EtcdCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        self.entered = true;
        let (lease, about) = (&self.lease, self.lease.link.about());
        let confirm = confirm(term);
        lease.grant().await?;
        let Some(stream) = lease.open(&confirm).await? else {
            return Err(about.unreachable("a lease ended as it was granted"));
        };
        // A key that is there keeps its create revision, and so its rank.
        lease.link.put(&self.key, &self.value, lease.id).await?;
        let revision = tokio::select! {
            reason = lease.renew(self.beat(), Some(stream), confirm) => return Err(about.unreachable(reason)),
            turn = self.turn() => turn?,
        };
        Ok(revision.unsigned_abs())
    }

    async fn held(&mut self, term: &Term) -> String {
        tokio::select! {
            reason = self.lease.renew(self.beat(), None, confirm(term)) => reason,
            reason = self.lease.removed(&self.key) => reason,
        }
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        if self.entered {
            self.lease.link.revoke(self.lease.id).await?;
        }
        Ok(())
    }
}
