//! One lease in etcd, and the key that is written under it: the same for a registration and a candidate.

use std::time::Duration;

use etcd_client::{EventType, GetOptions, LeaseKeepAliveStream, LeaseKeeper, WatchFilterType, WatchOptions};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::link::Link;
use crate::{Backoff, Moment, RegisterError};

/// A keep-alive stream.
type Stream = (LeaseKeeper, LeaseKeepAliveStream);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) link: Link,
    /// Chosen here, and known to nobody else: a write under it is this client's, whether the answer arrived or not, and a write
    /// whose answer was lost cannot leave a key behind under a lease that nobody knows. Granted again when it has expired.
    pub(super) id: i64,
    pub(super) ttl: Duration,
}

impl Lease {
    pub(super) fn new(link: Link, ttl: Duration) -> Self {
        Self { link, id: fastrand::i64(1..=i64::MAX), ttl }
    }

    /// Makes sure that etcd has the lease.
    pub(super) async fn grant(&self) -> Result<(), RegisterError> {
        let seconds = i64::try_from(self.ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        self.link.grant(self.id, seconds).await
    }

    /// Opens a stream, which renews the lease once. `None`: etcd does not know the lease.
    pub(super) async fn open(&self, confirm: &impl Fn(Moment, Duration)) -> Result<Option<Stream>, RegisterError> {
        let sent = Moment::now();
        let stream = self.link.keep_alive(self.id).await?;
        if stream.is_some() {
            // etcd grants what is asked for, or more.
            confirm(sent, self.ttl);
        }
        Ok(stream)
    }

    /// Renews the lease every `beat`, over whatever breaks, and reports every confirmation; returns when etcd does not know it any
    /// more.
    pub(super) async fn renew(
        &self,
        beat: Duration,
        mut stream: Option<Stream>,
        confirm: impl Fn(Moment, Duration),
    ) -> String {
        let mut backoff = Backoff::default();
        loop {
            if let Some(open) = stream.take() {
                backoff.reset();
                if let Some(reason) = self.renew_on(beat, open, &confirm).await {
                    return reason;
                }
            }
            // The same lease again: over a short outage it lives on, and the key with it.
            match self.open(&confirm).await {
                Ok(None) => return "its lease has expired".to_owned(),
                Ok(opened) => stream = opened,
                Err(error) => {
                    debug!("lease {:x} could not be renewed: {error}", self.id);
                    sleep(backoff.next_delay().min(beat)).await;
                }
            }
        }
    }

    /// `None`: the stream broke, which says nothing about the lease.
    async fn renew_on(
        &self,
        beat: Duration,
        (mut keeper, mut replies): Stream,
        confirm: &impl Fn(Moment, Duration),
    ) -> Option<String> {
        loop {
            sleep(beat).await;
            // One question at a time, so that an answer is to this one.
            let sent = Moment::now();
            keeper.keep_alive().await.ok()?;
            let reply = timeout(beat, replies.message()).await.ok()?.ok()??;
            let Some(granted) = u64::try_from(reply.ttl()).ok().filter(|seconds| *seconds > 0) else {
                return Some("its lease has expired".to_owned());
            };
            confirm(sent, Duration::from_secs(granted).min(self.ttl));
        }
    }

    /// Returns, with the reason, when the key is gone, whoever took it, or would outlive its writer: a write without a lease takes it
    /// out of this one.
    pub(super) async fn removed(&self, key: &str) -> String {
        let mut backoff = Backoff::default();
        loop {
            match self.watch_key(key).await {
                Ok(reason) => return reason.to_owned(),
                Err(error) => debug!("{key} could not be watched: {error}"),
            }
            sleep(backoff.next_delay().min(self.ttl / 5)).await;
        }
    }

    async fn watch_key(&self, key: &str) -> Result<&'static str, RegisterError> {
        let found = self.link.get("read the key", key, &GetOptions::new().with_keys_only()).await?;
        match found.kvs().first() {
            None => return Ok(DELETED),
            Some(pair) if pair.lease() == 0 => return Ok(UNLEASED),
            Some(_) => {}
        }
        let seen_at = found.header().map_or(0, |header| header.revision());
        let mut watch = self.link.watch(key, WatchOptions::new(), seen_at).await?;
        loop {
            for event in watch.next().await?.events() {
                match event.event_type() {
                    EventType::Delete => return Ok(DELETED),
                    EventType::Put if event.kv().is_some_and(|pair| pair.lease() == 0) => return Ok(UNLEASED),
                    // Another process has written it under a lease of its own: it is listed, and this one does not fight.
                    EventType::Put => {}
                }
            }
        }
    }

    /// Ends the lease and its key; a key without a lease too. One under another lease is another process's.
    pub(super) async fn end(&self, key: &str) -> Result<(), RegisterError> {
        self.link.revoke(self.id).await?;
        let left = self.link.get("read the key", key, &GetOptions::new().with_keys_only()).await?;
        match left.kvs().first() {
            Some(pair) if pair.lease() == 0 => self.link.delete(key).await,
            _ => Ok(()),
        }
    }
}

const DELETED: &str = "its key was deleted";
const UNLEASED: &str = "its key was written without a lease";

/// Returns when a key is gone that was there at this revision.
pub(super) async fn removed_since(link: &Link, key: &str, seen_at: i64) -> Result<(), RegisterError> {
    let options = WatchOptions::new().with_filters([WatchFilterType::NoPut]);
    let mut watch = link.watch(key, options, seen_at).await?;
    while !watch.next().await?.events().iter().any(|event| event.event_type() == EventType::Delete) {}
    Ok(())
}
