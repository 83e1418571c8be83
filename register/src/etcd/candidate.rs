//! One campaign in etcd: a key under a lease of its own. The keys of a service's candidates are ordered by their create
//! revisions; the first leads, and each other one watches the one before it, so that an end wakes one candidate and not all.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    EventType, GetOptions, LeaseKeepAliveStream, LeaseKeeper, SortOrder, SortTarget, WatchFilterType, WatchOptions,
};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::link::Link;
use crate::{
    RegisterError,
    backoff::Backoff,
    election::{Candidate, Term, now, until},
};

pub(super) struct EtcdCandidate {
    link: Link,
    /// Where the candidates of the service are.
    directory: String,
    key: String,
    value: Vec<u8>,
    ttl: Duration,
    /// Chosen here, and known to nobody else: what is written under it is ours, whether the answer arrived or not.
    lease: i64,
    /// Whether anything may be written.
    entered: bool,
}

/// A keep-alive stream of its lease.
type Stream = (LeaseKeeper, LeaseKeepAliveStream);

/// Where a candidate stands.
enum Place {
    First(i64),
    Behind { key: Vec<u8>, seen_at: i64 },
    Nowhere,
}

impl EtcdCandidate {
    const REREAD: Duration = Duration::from_secs(30);

    pub(super) fn new(link: Link, directory: String, id: &str, value: Vec<u8>, ttl: Duration) -> Self {
        let lease = fastrand::i64(1..=i64::MAX);
        let key = format!("{directory}{lease:016x}/{id}");
        Self { link, directory, key, value, ttl, lease, entered: false }
    }

    fn seconds(&self) -> i64 {
        i64::try_from(self.ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// Of two thirds of the lease, one renewal may be lost and the next one still comes in time.
    fn beat(&self) -> Duration {
        self.ttl / 5
    }

    /// Opens a stream, which renews the lease once. `None`: etcd does not know the lease.
    async fn open(&self, term: &Term) -> Result<Option<Stream>, RegisterError> {
        let sent = now();
        let stream = self.link.keep_alive(self.lease).await?;
        if stream.is_some() {
            // etcd grants what is asked for, or more.
            term.confirm(until(sent, self.ttl));
        }
        Ok(stream)
    }

    /// Renews the lease, over whatever breaks; returns when etcd does not know it any more.
    async fn renew(&self, term: &Term, mut stream: Option<Stream>) -> String {
        let mut backoff = Backoff::default();
        loop {
            if let Some(open) = stream.take() {
                backoff.reset();
                if let Some(reason) = self.renew_on(term, open).await {
                    return reason;
                }
            }
            match self.open(term).await {
                Ok(None) => return "its lease has expired".to_owned(),
                Ok(opened) => stream = opened,
                Err(error) => {
                    debug!("{}: its lease could not be renewed: {error}", self.key);
                    sleep(backoff.next_delay().min(self.beat())).await;
                }
            }
        }
    }

    /// `None`: the stream broke, which says nothing about the lease.
    async fn renew_on(&self, term: &Term, (mut keeper, mut replies): Stream) -> Option<String> {
        loop {
            sleep(self.beat()).await;
            // One question at a time, so that an answer is to this one.
            let sent = now();
            keeper.keep_alive().await.ok()?;
            let reply = timeout(self.beat(), replies.message()).await.ok()?.ok()??;
            let Some(granted) = u64::try_from(reply.ttl()).ok().filter(|seconds| *seconds > 0) else {
                return Some("its lease has expired".to_owned());
            };
            term.confirm(until(sent, Duration::from_secs(granted).min(self.ttl)));
        }
    }

    /// Waits until it is first; then its create revision.
    async fn turn(&self) -> Result<i64, RegisterError> {
        loop {
            match self.place().await? {
                Place::First(revision) => return Ok(revision),
                Place::Nowhere => return Err(self.link.unreachable("its key is gone".to_owned())),
                Place::Behind { key, seen_at } => {
                    let key = String::from_utf8(key)
                        .map_err(|_| self.link.unreachable("a candidate's key is not UTF-8".to_owned()))?;
                    // Late: whatever the watch may have missed is seen by the next read.
                    if let Ok(ended) = timeout(Self::REREAD, self.removed(&key, seen_at)).await {
                        ended?;
                    }
                }
            }
        }
    }

    /// One read, which sees this key and the one before it at one moment.
    async fn place(&self) -> Result<Place, RegisterError> {
        let own = self.link.get("read the candidate", &self.key, &GetOptions::new().with_keys_only()).await?;
        let Some(entered) = own.kvs().first().map(|own| own.create_revision()) else { return Ok(Place::Nowhere) };
        let options = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_max_create_revision(entered)
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(2);
        let found = self.link.get("read the candidates", &self.directory, &options).await?;
        let seen_at = found.header().map_or(0, |header| header.revision());
        let mut candidates = found.kvs().iter();
        if candidates.next().is_none_or(|own| own.key() != self.key.as_bytes() || own.create_revision() != entered) {
            return Ok(Place::Nowhere);
        }
        Ok(match candidates.next() {
            None => Place::First(entered),
            Some(before) => Place::Behind { key: before.key().to_vec(), seen_at },
        })
    }

    /// Returns when the key may be gone. It was there at this revision.
    async fn removed(&self, key: &str, seen_at: i64) -> Result<(), RegisterError> {
        let start = seen_at + 1;
        let options = WatchOptions::new().with_start_revision(start).with_filters([WatchFilterType::NoPut]);
        let mut stream = self.link.watch(key, &options).await?;
        loop {
            let message = stream.message().await.map_err(|error| self.link.named(&error))?;
            let Some(response) = message else {
                return Err(self.link.unreachable("the watch of a candidate ended".to_owned()));
            };
            let revision = response.header().map_or(0, |header| header.revision());
            if response.canceled() || response.compact_revision() != 0 || revision + 1 < start {
                return Err(self.link.unreachable("the watch of a candidate broke".to_owned()));
            }
            if response.events().iter().any(|event| event.event_type() == EventType::Delete) {
                return Ok(());
            }
        }
    }

    /// Returns when its own key may be gone, whoever took it.
    async fn deposed(&self) -> String {
        let mut backoff = Backoff::default();
        loop {
            let options = GetOptions::new().with_keys_only();
            let watched = match self.link.get("read the candidate", &self.key, &options).await {
                Ok(found) if found.count() == 0 => return "its key was deleted".to_owned(),
                Ok(found) => self.removed(&self.key, found.header().map_or(0, |header| header.revision())).await,
                Err(error) => Err(error),
            };
            match watched {
                Ok(()) => return "its key was deleted".to_owned(),
                Err(error) => debug!("{}: it could not be watched: {error}", self.key),
            }
            sleep(backoff.next_delay().min(self.beat())).await;
        }
    }
}

#[async_trait]
impl Candidate for EtcdCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        self.entered = true;
        self.link.grant(self.lease, self.seconds()).await?;
        let Some(stream) = self.open(term).await? else {
            return Err(self.link.unreachable("a lease ended as it was granted".to_owned()));
        };
        // A key that is there keeps its create revision, and so its place.
        self.link.put(&self.key, &self.value, self.lease).await?;
        let revision = tokio::select! {
            reason = self.renew(term, Some(stream)) => return Err(self.link.unreachable(reason)),
            turn = self.turn() => turn?,
        };
        Ok(revision.unsigned_abs())
    }

    async fn held(&mut self, term: &Term) -> String {
        tokio::select! {
            reason = self.renew(term, None) => reason,
            reason = self.deposed() => reason,
        }
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        if self.entered {
            self.link.revoke(self.lease).await?;
        }
        Ok(())
    }
}
