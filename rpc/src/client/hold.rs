//! Grace list: the instances that the registry lists, and those whose removal is held for a while.
//! Pure: time comes in as an argument.
//!
//! A registry that comes back after an outage lists little for a while: its leases have expired, or its data are gone, and
//! the owners have yet to write again. To believe it would take a healthy service down. So for one period
//! - an empty list after a list that was not empty is not believed, and
//! - nothing that is missing from the list of a registry that has just come back is believed to be gone.
//!
//! Holding an instance that is really gone does no harm: instances without a connection are not called, and an instance that
//! refuses a connection or says GOAWAY is released at once.

use std::{collections::BTreeMap, time::Duration};

use ms_register::{Freshness, Instance, Snapshot};
use tokio::time::Instant;

use super::config::HoldConfig;

#[derive(Debug)]
pub(crate) struct Hold {
    period: Duration,
    listed: BTreeMap<String, Instance>,
    /// Instances that the list misses and that are called all the same, each until its time.
    held: BTreeMap<String, (Instance, Instant)>,
    /// How often the registry had come back at the last snapshot.
    resyncs: u64,
    /// Until then the registry has just come back.
    doubtful_until: Option<Instant>,
    /// True if the registry itself has said what it lists. Before that a list of an earlier process counts, if one was kept.
    is_read: bool,
}

impl Hold {
    /// `expiry`: how long the registry lists an instance that died.
    pub(crate) fn new(expiry: Duration, config: &HoldConfig) -> Self {
        Self {
            period: expiry.saturating_mul(config.expiries).max(config.shortest),
            listed: BTreeMap::new(),
            held: BTreeMap::new(),
            resyncs: 0,
            doubtful_until: None,
            is_read: false,
        }
    }

    /// The registry says something new.
    pub(crate) fn apply(&mut self, snapshot: &Snapshot, now: Instant) {
        self.expire(now);
        let new = snapshot.instances().iter().map(|instance| (instance.id().to_owned(), instance.clone()));
        match snapshot.freshness() {
            Freshness::Live => self.is_read = true,
            Freshness::Stale if !self.is_read => {
                self.listed = new.collect();
                return;
            }
            Freshness::Never | Freshness::Stale => return,
        }
        if snapshot.resyncs() != self.resyncs {
            self.resyncs = snapshot.resyncs();
            self.doubtful_until = Some(now + self.period);
        }
        let before = std::mem::replace(&mut self.listed, new.collect());
        if self.listed.is_empty() || self.doubtful_until.is_some() {
            let until = now + self.period;
            self.held.extend(before.into_iter().map(|(id, instance)| (id, (instance, until))));
        }
        self.held.retain(|id, _| !self.listed.contains_key(id));
    }

    /// Releases instances whose time is over; returns true if there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.doubtful_until.take_if(|until| *until <= now);
        let before = self.held.len();
        self.held.retain(|_, (_, until)| *until > now);
        self.held.len() < before
    }

    /// The instance shows itself that it is gone; true if it was held.
    pub(crate) fn let_go(&mut self, id: &str) -> bool {
        self.held.remove(id).is_some()
    }

    /// When to [`expire`](Self::expire) next.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.held.values().map(|(_, until)| *until).min()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Instances that callers choose from, sorted by id.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        let held = self.held.values().map(|(instance, _)| instance);
        let mut all: Vec<_> = self.listed.values().chain(held).cloned().collect();
        all.sort_by(|a, b| a.id().cmp(b.id()));
        all
    }
}

#[cfg(test)]
mod tests;
