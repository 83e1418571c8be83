//! Keeps one key in etcd, under a lease.

use async_trait::async_trait;

use super::{lease::Lease, stored::Form};
use crate::{Instance, LeaseKeeper, RegisterError};

/// One registration.
pub(super) struct EtcdKeeper {
    lease: Lease,
    key: String,
    value: Vec<u8>,
    form: Form,
}

impl EtcdKeeper {
    pub(super) fn new(lease: Lease, key: String, instance: &Instance, form: Form) -> Self {
        Self { lease, key, value: (form.encode)(instance), form }
    }
}

#[async_trait]
impl LeaseKeeper for EtcdKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        self.lease.grant().await?;
        // A key that is there already moves to this lease: watchers never see it missing.
        self.lease.link.put(&self.key, &self.value, self.lease.id).await
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.value = (self.form.encode)(instance);
        Ok(())
    }

    async fn held(&mut self) -> String {
        // A third of the lease: one renewal may be lost and the next one still comes in time.
        let beat = self.lease.ttl / 3;
        tokio::select! {
            reason = self.lease.renew(beat, None, |_, _| ()) => reason,
            reason = self.lease.removed(&self.key) => reason,
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        self.lease.end(&self.key).await
    }
}
