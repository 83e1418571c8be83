//! Writers of a roster's list: what the registry lists, which instances are held, ejected and connected, turned into the
//! shared data that calls read. Recorders of metrics and subscribers of logs never run under the writers' lock.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ms_register::{Instance, Snapshot};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Roster;
use crate::{
    client::{
        ejection::EjectionState,
        hold::Hold,
        instances::{Instances, Member},
    },
    meter::{self, List},
};

/// Instances above which refreshes are batched: each takes long enough to serve many changes.
const MANY: usize = 256;

impl<M: Member> Roster<M> {
    /// Records a call without an answer; an instance that leaves several in a row is ejected.
    pub(crate) fn unanswered(&self, state: &EjectionState, why: &dyn std::fmt::Display) {
        if state.unanswered(&self.ejection) {
            self.eject(state, why);
        }
    }

    pub(crate) fn eject(&self, state: &EjectionState, why: &dyn std::fmt::Display) {
        let Some((member, time)) = self.leave_out(state) else { return };
        let (service, id) = (self.service(), member.instance().id());
        warn!("`{service}` {id} is not called for {time:?}: it left several calls in a row without an answer: {why}");
        meter::ejected(service, id);
        self.follower.refresh_soon();
    }

    /// Ejects the instance, unless it is ejected already or too many others are; returns for how long.
    fn leave_out(&self, state: &EjectionState) -> Option<(Arc<M>, Duration)> {
        let _turn = self.turn();
        let instances = self.load();
        let member = instances.all.iter().find(|member| std::ptr::eq(member.ejection(), state))?;
        let now = Instant::now();
        let allowed = self.ejection.allows(instances.ejected, instances.listed.slots().len());
        if state.ejected_until(now).is_some() || !allowed {
            return None;
        }
        let time = state.eject(&self.ejection, now);
        self.publish(instances.refreshed());
        Some((member.clone(), time))
    }

    /// Applies the registry's new list.
    pub(super) fn snapshot_changed(&self, snapshot: Snapshot) {
        let mut hold = self.turn();
        let before = hold.held();
        hold.apply(&snapshot, Instant::now());
        let missing = hold.held();
        self.rebuild(snapshot, &hold);
        drop(hold);
        let service = &self.service;
        if missing > before {
            let url = self.registry.url();
            warn!("{url} does not list {missing} instances of `{service}` any more: they are called on for now");
        }
        if let Some((listed, most)) = self.load().beyond_bound()
            && !self.warned_of_bound.swap(true, Ordering::Relaxed)
        {
            warn!(
                "`{service}` has {listed} instances: this client connects {most} of them (`discovery.instances_per_service`, and at \
                 most half of the files that the process may open)"
            );
        }
        self.measure();
    }

    fn rebuild(&self, snapshot: Snapshot, hold: &Hold) {
        let before = self.load();
        let member = |instance: Instance| {
            let known = Self::find(&before, instance.id()).map(|at| &before.all[at]);
            match known {
                Some(known) if **known.instance() == instance => known.clone(),
                // A change of weight or metadata keeps the address, and with it connections and estimates.
                Some(known) if same_address(known.instance(), &instance) => {
                    Arc::new(known.with_instance(Arc::new(instance)))
                }
                _ => Arc::new((self.make)(instance, &self.clock)),
            }
        };
        let all: Vec<_> = hold.instances().into_iter().map(member).collect();
        all.iter().for_each(|member| member.list_changed());
        self.publish(Instances::new(self.policy.clone(), Some(&before), snapshot, all, before.bound));
        self.changed.notify_waiters();
    }

    /// Sets the service's gauges. The follower alone does so: two that measured at once could set the older values last.
    fn measure(&self) {
        let held = self.turn().held();
        let Instances { snapshot, all, live, ejected, .. } = &**self.load();
        let list = List { snapshot, all: all.len(), live: *live, held, ejected: *ejected };
        meter::list(self.service(), &list);
    }

    /// Makes the next call start a follower: the last one has ended with its runtime.
    pub(super) fn follower_lost(&self) {
        let _turn = self.turn();
        self.publish(self.load().refreshed());
    }

    fn publish(&self, mut instances: Instances<M>) {
        instances.unsettled |= self.follower.is_lost();
        self.instances.store(Arc::new(instances));
    }

    /// Looks at everything anew; returns the time to wait before the next refresh.
    pub(super) fn refresh(&self) -> Duration {
        let mut hold = self.turn();
        let instances = self.load();
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

    /// Time of the next change without an event: a held instance expires, or an ejection ends.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let expiry = self.turn().next_expiry();
        expiry.into_iter().chain(self.load().next_return).min()
    }

    /// An instance is known to be gone: if its removal is held, the registry is believed.
    pub(crate) fn is_gone(&self, id: &str) {
        let mut hold = self.turn();
        if !hold.let_go(id) {
            return;
        }
        self.rebuild(self.load().snapshot.clone(), &hold);
        drop(hold);
        info!("`{}` {id}, which is not listed any more, is gone", self.service);
        self.follower.refresh_soon();
    }

    /// Publishes which instances are connected: at once in a short list, else together with later changes.
    pub(crate) fn connections_changed(&self) {
        let turn = self.turn();
        let instances = self.load();
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
}

fn same_address(a: &Instance, b: &Instance) -> bool {
    a.host() == b.host() && a.port() == b.port()
}
