//! Keeps one key in etcd, under a lease.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{EventType, GetOptions, LeaseKeepAliveStream, LeaseKeeper, WatchFilterType, WatchOptions};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::link::Link;
use crate::{RegisterError, backoff::Backoff, owner::Tenant};

/// One registration.
pub(super) struct EtcdTenant {
    link: Link,
    key: String,
    value: Vec<u8>,
    ttl: Duration,
    /// The one lease that this registration ever writes under, chosen here and granted again when it has expired: a
    /// write whose answer was lost cannot leave the key behind under a lease that nobody knows.
    lease: i64,
}

impl EtcdTenant {
    pub(super) fn new(link: Link, key: String, value: Vec<u8>, ttl: Duration) -> Self {
        Self { link, key, value, ttl, lease: fastrand::i64(1..=i64::MAX) }
    }

    /// A third of the lease: one renewal may be lost and the next one still comes in time.
    fn beat(&self) -> Duration {
        self.ttl / 3
    }

    /// Renews the lease; returns when etcd does not know it any more.
    async fn renew(&self) -> String {
        let mut backoff = Backoff::default();
        loop {
            // The same lease again: over a short outage it lives on, and the key with it.
            match self.link.keep_alive(self.lease).await {
                Ok(None) => return "its lease has expired".to_owned(),
                Ok(Some((keeper, replies))) => {
                    backoff.reset();
                    if let Some(reason) = self.renew_on(keeper, replies).await {
                        return reason;
                    }
                }
                Err(error) => debug!("{}: its lease could not be renewed: {error}", self.key),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// `None`: the stream broke, which says nothing about the lease.
    async fn renew_on(&self, mut keeper: LeaseKeeper, mut replies: LeaseKeepAliveStream) -> Option<String> {
        loop {
            sleep(self.beat()).await;
            keeper.keep_alive().await.ok()?;
            let reply = timeout(self.beat(), replies.message()).await.ok()?.ok()??;
            if reply.ttl() <= 0 {
                return Some("its lease has expired".to_owned());
            }
        }
    }

    /// Returns when the key is gone, whoever took it.
    async fn removed(&self) -> String {
        let mut backoff = Backoff::default();
        loop {
            match self.watch_key().await {
                Ok(true) => return "its key was deleted".to_owned(),
                Ok(false) => {}
                Err(error) => debug!("{}: its key could not be watched: {error}", self.key),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// True: the key is gone. False: the watch ended without saying so.
    async fn watch_key(&self) -> Result<bool, RegisterError> {
        let found = self.link.get("read the instance", &self.key, &GetOptions::new().with_keys_only()).await?;
        if found.count() == 0 {
            return Ok(true);
        }
        let start = found.header().map_or(0, |header| header.revision()) + 1;
        let options = WatchOptions::new().with_start_revision(start).with_filters([WatchFilterType::NoPut]);
        let mut stream = self.link.watch(&self.key, &options).await?;
        loop {
            let message = stream.message().await.map_err(|error| self.link.named(&error))?;
            let Some(response) = message else { return Ok(false) };
            let revision = response.header().map_or(0, |header| header.revision());
            if response.canceled() || revision + 1 < start {
                return Ok(false);
            }
            if response.events().iter().any(|event| event.event_type() == EventType::Delete) {
                return Ok(true);
            }
        }
    }
}

#[async_trait]
impl Tenant for EtcdTenant {
    type Tenure = ();

    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let seconds = i64::try_from(self.ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        self.link.grant(self.lease, seconds).await?;
        // A key that is there already moves to this lease: watchers never see it missing.
        self.link.put(&self.key, &self.value, self.lease).await
    }

    async fn held(&mut self, (): &mut ()) -> String {
        tokio::select! {
            reason = self.renew() => reason,
            reason = self.removed() => reason,
        }
    }

    async fn release(&mut self, (): &mut ()) -> Result<(), RegisterError> {
        // Takes the key with it, unless another process has it under a lease of its own by now.
        self.link.revoke(self.lease).await
    }
}
