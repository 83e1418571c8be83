//! The layout of Go's msgo: the key of a service is its name, and the value its one address. Its own servers write without a lease.

use async_trait::async_trait;
use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions};
use tokio::time::{Instant, timeout_at};

use super::{lease::Lease, link::Link};
use crate::{Found, Instance, LeaseKeeper, RegisterError, ServiceName, Skipped, SnapshotCell, backoff::reread};

/// One registration, under a lease. The address of another is never replaced.
pub(super) struct MsgoKeeper {
    lease: Lease,
    key: String,
    address: String,
}

impl MsgoKeeper {
    pub(super) fn new(lease: Lease, service: &ServiceName, instance: &Instance) -> Self {
        Self { lease, key: service.to_string(), address: instance.address() }
    }
}

#[async_trait]
impl LeaseKeeper for MsgoKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        self.lease.grant().await?;
        let link = &self.lease.link;
        match link.put_unless_other(&self.key, self.address.as_bytes(), self.lease.id).await? {
            None => Ok(()),
            Some(other) => Err(link.about().rejected(format!(
                "`{}` is at {} already: layout=msgo has one address for a service",
                self.key,
                String::from_utf8_lossy(&other)
            ))),
        }
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        // An address does not change, and there is nothing else.
        self.address = instance.address();
        Ok(())
    }

    async fn held(&mut self) -> String {
        tokio::select! {
            reason = self.lease.renew(self.lease.ttl / 3, None, |_, _| ()) => reason,
            reason = self.lease.removed(&self.key) => reason,
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        self.lease.link.revoke(self.lease.id).await
    }
}

fn found(pair: &KeyValue) -> Found {
    let address = String::from_utf8_lossy(pair.value());
    Instance::from_address(&address).map_err(|_| {
        Skipped::new(String::from_utf8_lossy(pair.key()), format!("its value is {address:?}, not `host:port`"))
    })
}

pub(super) async fn list(link: &Link, service: &ServiceName) -> Result<(Vec<Found>, i64), RegisterError> {
    let answer = link.get("read the address", service.as_str(), &GetOptions::new()).await?;
    let revision = answer.header().map_or(0, |header| header.revision());
    Ok((answer.kvs().iter().map(found).collect(), revision))
}

/// One read, and a watch from there on.
pub(super) async fn follow(link: &Link, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
    let (listed, revision) = list(link, service).await?;
    cell.refresh(listed);
    let due = Instant::now() + reread();
    let mut watch = link.watch(service.as_str(), WatchOptions::new(), revision).await?;
    while let Ok(response) = timeout_at(due, watch.next()).await {
        let response = response?;
        let Some(last) = response.events().last() else { continue };
        cell.refresh(match (last.event_type(), last.kv()) {
            (EventType::Put, Some(pair)) => vec![found(pair)],
            _ => Vec::new(),
        });
    }
    Ok(())
}
