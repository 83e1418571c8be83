//! Keeps one instance listed, under a lease.

use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, body::Bytes};
use tokio::time::sleep;
use tracing::debug;

use super::{
    link::{Answer, Link},
    stored,
};
use crate::{Backoff, Instance, LeaseKeeper, RegisterError};

/// One registration.
pub(super) struct GregisterKeeper {
    link: Link,
    path: String,
    body: Bytes,
    ttl: Duration,
    /// The one lease that this registration ever writes under: so it never removes what another process wrote.
    lease: String,
}

impl GregisterKeeper {
    pub(super) fn new(link: Link, path: String, instance: &Instance, ttl: Duration) -> Self {
        let lease = format!("{:016x}", fastrand::u64(..));
        let body = stored::encode(instance, &lease, ttl).into();
        Self { link, path, body, ttl, lease }
    }

    /// A third of the lease: one renewal may be lost and the next one still comes in time.
    fn beat(&self) -> Duration {
        self.ttl / 3
    }

    /// One renewal: it takes as long as a beat, unless the instance is gone. False: it is.
    async fn renew(&self) -> Result<bool, RegisterError> {
        let wait = self.beat();
        let path = format!("{}/renew?lease={}&wait={}", self.path, self.lease, wait.as_secs_f64());
        let answer = self.link.ask("renew the lease", Method::POST, &path, Bytes::new(), wait).await?;
        Ok(!matches!(answer, Answer::Missing))
    }
}

#[async_trait]
impl LeaseKeeper for GregisterKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let written = self.link.ask("write the instance", Method::PUT, &self.path, self.body.clone(), Duration::ZERO);
        match written.await? {
            Answer::Body(_) => Ok(()),
            Answer::Same | Answer::Missing => Err(self.link.no_gregister()),
        }
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.body = stored::encode(instance, &self.lease, self.ttl).into();
        Ok(())
    }

    async fn held(&mut self) -> String {
        let mut backoff = Backoff::default();
        loop {
            let begin = tokio::time::Instant::now();
            match self.renew().await {
                Ok(false) => return "its lease has ended, or it was removed".to_owned(),
                Ok(true) => {
                    backoff.reset();
                    // Another process has the id, or keeps on taking it: the node answers at once.
                    let rest = self.beat().saturating_sub(begin.elapsed());
                    if rest > self.beat() / 2 {
                        sleep(rest).await;
                    }
                }
                Err(error) => {
                    debug!("{}: its lease could not be renewed: {error}", self.path);
                    sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        // Gone, or another process has it by now: done, too.
        let path = format!("{}?lease={}", self.path, self.lease);
        self.link.ask("remove the instance", Method::DELETE, &path, Bytes::new(), Duration::ZERO).await.map(drop)
    }
}
