//! List side of a resolver: what the registry lists, which instances are held, ejected and connected, turned into the
//! shared data that calls read.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use ms_register::{Instance, Snapshot};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Picked, Resolver, subset::subset};
use crate::{
    Outcome, Status,
    client::{
        connection::Closed,
        endpoint::{Endpoint, EndpointNumber},
        health::may_eject,
        hold::Hold,
        instances::Instances,
    },
    meter::{self, List},
};

/// Among more instances than this, finding those with a connection takes long enough to do it for many changes at once.
const MANY: usize = 256;

impl Resolver {
    /// An attempt failed: an instance that does not answer is ejected, so that calls leave it alone for a while.
    pub(crate) fn attempt_failed(&self, picked: &Picked, status: &Status) {
        match status.outcome() {
            Outcome::NotSent => {}
            Outcome::Refused | Outcome::Answered => picked.connection.health().answered(),
            Outcome::Unknown => {
                if picked.connection.health().unanswered() {
                    self.eject(picked.endpoint, status);
                }
            }
        }
    }

    pub(super) fn eject(&self, number: EndpointNumber, status: &Status) {
        let Some((endpoint, time)) = self.leave_out(number) else { return };
        let id = endpoint.instance().id();
        warn!(
            "`{}` {id} is not called for {time:?}: it left several calls in a row without an answer: {status}",
            self.service
        );
        meter::ejected(self.service(), id);
        self.follower.refresh_soon();
    }

    /// Ejects the instance, unless it is ejected already or too many others are; returns for how long.
    fn leave_out(&self, number: EndpointNumber) -> Option<(Arc<Endpoint>, Duration)> {
        let _turn = self.turn();
        let instances = self.instances.load();
        let endpoint = instances.all.iter().find(|endpoint| endpoint.number() == number)?;
        let now = Instant::now();
        let is_ejected = endpoint.health().ejected_until(now).is_some();
        if is_ejected || !may_eject(instances.ejected, instances.listed.places().len()) {
            return None;
        }
        let time = endpoint.health().eject(now);
        self.publish(instances.refreshed());
        Some((endpoint.clone(), time))
    }

    /// Takes a new snapshot of the registry.
    pub(super) fn snapshot_changed(&self, snapshot: Snapshot) {
        let mut hold = self.turn();
        let before = hold.held();
        hold.apply(&snapshot, Instant::now());
        let missing = hold.held();
        self.rebuild(snapshot, &hold);
        drop(hold);
        if missing > before {
            let url = self.registry.url();
            warn!("{url} does not list {missing} instances of `{}` any more: they are called on for now", self.service);
        }
        let (listed, most) = (self.instances.load().all.len(), self.config.discovery.instances_per_service);
        if listed > most && !self.warned_of_subset.swap(true, Ordering::Relaxed) {
            warn!(
                "`{}` has {listed} instances: this client connects {most} of them (`discovery.instances_per_service`)",
                self.service
            );
        }
        self.measure();
    }

    /// Makes the list of callers anew.
    fn rebuild(&self, snapshot: Snapshot, hold: &Hold) {
        let before = self.instances.load();
        let endpoint = |instance: Instance| {
            let known = before.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(instance.id()));
            match known.ok().map(|at| &before.all[at]) {
                Some(known) if *known.instance() == instance => known.clone(),
                Some(known) if known.same_address(&instance) => Arc::new(known.take_over(instance)),
                _ => {
                    let number = EndpointNumber(self.endpoints.fetch_add(1, Ordering::Relaxed));
                    Arc::new(Endpoint::new(number, instance, self.config.discovery.connections_per_instance))
                }
            }
        };
        let all: Vec<_> = hold.instances().into_iter().map(endpoint).collect();
        all.iter().for_each(|endpoint| endpoint.list_changed());
        let most = self.config.discovery.instances_per_service;
        let balancing = &self.policy.balancing;
        // Weight 0 and other versions get no calls: they take no place of those that do.
        let callable: Vec<_> = all
            .iter()
            .map(|endpoint| endpoint.instance().weight() > 0.0 && balancing.selects(endpoint.instance()))
            .collect();
        let ids = all.iter().zip(&callable).filter(|(_, callable)| **callable);
        let ids: Vec<_> =
            ids.map(|(endpoint, _)| (endpoint.instance().id(), balancing.is_near(endpoint.instance()))).collect();
        let mut chosen = subset(ids.into_iter(), most, self.client).into_iter();
        let chosen: Vec<_> = callable.iter().map(|callable| *callable && chosen.next() == Some(true)).collect();
        self.publish(Instances::new(self.policy.clone(), Some(&before), snapshot, all, (&chosen, most)));
        self.changed.notify_waiters();
    }

    /// Sets the service's gauges. The follower alone does so: two that measured at once could set the older values last.
    fn measure(&self) {
        let held = self.turn().held();
        let Instances { snapshot, all, live, ejected, .. } = &**self.instances.load();
        let list = List { snapshot, all: all.len(), live: *live, held, ejected: *ejected };
        meter::list(self.service(), &list);
    }

    /// The follower has ended with its runtime: the next call starts another.
    pub(super) fn follower_lost(&self) {
        let _turn = self.turn();
        self.publish(self.instances.load().refreshed());
    }

    fn publish(&self, mut instances: Instances) {
        instances.unsettled |= self.follower.is_lost();
        self.instances.store(Arc::new(instances));
    }

    /// Looks at all instances anew; returns how long to leave it at that.
    pub(super) fn refresh(&self) -> Duration {
        let mut hold = self.turn();
        let instances = self.instances.load();
        let expired = hold.expire(Instant::now());
        if expired {
            self.rebuild(instances.snapshot.clone(), &hold);
        } else {
            self.publish(instances.refreshed());
        }
        drop(hold);
        if expired {
            info!("the instances of `{}` that are not listed any more are left", self.service);
        }
        self.measure();
        if instances.all.len() > MANY { instances.effort() } else { Duration::ZERO }
    }

    /// When something changes by itself: a held instance is left, an ejected one comes back.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let expiry = self.turn().next_expiry();
        expiry.into_iter().chain(self.instances.load().next_return).min()
    }

    /// A connection came up, or failed to.
    pub(crate) fn dialled(&self, error: Option<Status>) {
        if error.is_some() {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
        self.connections_changed();
    }

    /// A connection takes no more calls.
    pub(crate) fn closed(&self, id: &str, why: Closed) {
        if why == Closed::WentAway {
            self.is_gone(id);
        }
        self.connections_changed();
    }

    /// A place of an instance lost its connection a while ago.
    pub(crate) fn dial(self: &Arc<Self>, id: &str, at: usize) {
        let instances = self.instances.load();
        let found = instances.all.binary_search_by(|endpoint| endpoint.instance().id().cmp(id));
        if let Ok(place) = found {
            instances.all[place].dial_again(at, self);
        }
    }

    /// Leaves a held instance that shows itself that it is gone: then the registry is believed.
    pub(crate) fn is_gone(&self, id: &str) {
        let mut hold = self.turn();
        let let_go = hold.let_go(id);
        if let_go {
            self.rebuild(self.instances.load().snapshot.clone(), &hold);
        }
        drop(hold);
        if let_go {
            info!("`{}` {id}, which is not listed any more, is gone", self.service);
            self.follower.refresh_soon();
        }
    }

    /// Publishes which instances are connected: at once among a few, else with what else changes meanwhile.
    fn connections_changed(&self) {
        let turn = self.turn();
        let instances = self.instances.load();
        if instances.all.len() <= MANY {
            self.publish(instances.refreshed());
        }
        drop(turn);
        self.follower.refresh_soon();
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Logs once that the registry cannot be read any more, and once that it is back. `was_lost`: the same, one snapshot ago.
    pub(super) fn log_registry(&self, snapshot: &Snapshot, was_lost: bool) {
        let (service, url) = (&self.service, self.registry.url());
        match (was_lost, snapshot.is_failing()) {
            (false, true) => warn!(
                "the registry {url} is {}: `{service}` is called by the last list, of {} instances",
                snapshot.state(std::time::Instant::now()),
                snapshot.instances().len()
            ),
            (true, false) => {
                info!("the registry {url} is back: it lists {} instances of `{service}`", snapshot.instances().len());
            }
            _ => {}
        }
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
