//! What a proxy knows of a service's instances at one moment. Shared, and never changed: a pick reads it without a lock.

use std::{sync::Arc, time::Duration};

use ms_register::{Freshness, Snapshot};
use tokio::time::Instant;

use super::{
    balance::{Ask, Candidate, Choices, Listed, Loads, Policy},
    endpoint::{Endpoint, Ready},
    request::not_sent,
};
use crate::{Code, NoInstance, Status};

#[derive(Debug)]
pub(crate) struct Instances {
    policy: Arc<Policy>,
    pub(crate) snapshot: Snapshot,
    /// Sorted by id.
    pub(crate) all: Vec<Arc<Endpoint>>,
    /// Those that calls may go to, connected or not.
    pub(crate) listed: Arc<Listed>,
    /// Those of them in the zone that comes first.
    listed_near: Option<Arc<Listed>>,
    /// How many of them have an open connection, without the ejected ones unless there are no others.
    pub(crate) live: usize,
    /// A call has to dial one that is not connected, or to start the follower of the registry.
    pub(crate) unsettled: bool,
    /// Instances that may be connected.
    most: usize,
    /// All listed ones, connected or not, if there are more than may be connected and keys choose among all of them.
    all_keys: Option<Arc<Choices>>,
    /// These, or those of them in the zone that comes first.
    first: Choices,
    /// All of these, if they are not the first.
    then: Option<Choices>,
    /// By place: the connections of an instance that has all of its own, to be used without a further look.
    pub(crate) ready: Vec<Option<Ready>>,
    /// How many are ejected.
    pub(crate) ejected: usize,
    /// When the first of them comes back.
    pub(crate) next_return: Option<Instant>,
}

impl Instances {
    /// `before` is what this takes the place of.
    /// `chosen`: which of `all` are connected, and how many that may be.
    pub(crate) fn new(
        policy: Arc<Policy>,
        before: Option<&Self>,
        snapshot: Snapshot,
        all: Vec<Arc<Endpoint>>,
        (chosen, most): (&[bool], usize),
    ) -> Self {
        // A key belongs to one of all instances, whichever client asks: they are dialled when they are called.
        let hashes = policy.balancing.balancer().hashes();
        let listed = |before: Option<&Arc<Listed>>, is_wanted: &dyn Fn(&Endpoint) -> bool| {
            let wanted = all.iter().enumerate().filter(|(place, endpoint)| {
                (hashes || chosen[*place])
                    && endpoint.instance().weight() > 0.0
                    && policy.balancing.selects(endpoint.instance())
                    && is_wanted(endpoint)
            });
            let described = wanted.map(|(place, endpoint)| {
                let instance = endpoint.instance();
                (place as u32, instance.id(), instance.weight())
            });
            Arc::new(Listed::new(policy.balancing.balancer(), before.map(|before| &**before), described))
        };
        let is_near = |endpoint: &Endpoint| policy.balancing.is_near(endpoint.instance());
        let near_before = before.and_then(|before| before.listed_near.as_ref());
        let listed_near = policy.balancing.has_zone().then(|| listed(near_before, &is_near));
        let listed = listed(before.map(|before| &before.listed), &|_| true);
        let all_keys = (hashes && listed.places().len() > most).then(|| {
            let candidate = |place: &u32| Candidate::new(*place, all[*place as usize].instance().weight(), Loads::None);
            Arc::new(Choices::new(&policy, &listed, listed.places().iter().map(candidate)))
        });
        Self::of(policy, snapshot, all, (listed, listed_near), (most, all_keys))
    }

    /// The same with the connections and ejections as they are now.
    pub(crate) fn refreshed(&self) -> Self {
        let (policy, listed, near) = (self.policy.clone(), self.listed.clone(), self.listed_near.clone());
        let bound = (self.most, self.all_keys.clone());
        Self::of(policy, self.snapshot.clone(), self.all.clone(), (listed, near), bound)
    }

    fn of(
        policy: Arc<Policy>,
        snapshot: Snapshot,
        all: Vec<Arc<Endpoint>>,
        (listed, listed_near): (Arc<Listed>, Option<Arc<Listed>>),
        (most, all_keys): (usize, Option<Arc<Choices>>),
    ) -> Self {
        let now = Instant::now();
        let ejections: Vec<_> = all.iter().map(|endpoint| endpoint.health().ejected_until(now)).collect();
        let live: Vec<_> = all.iter().map(|endpoint| endpoint.is_live()).collect();
        let choose = |listed: &Arc<Listed>, is_wanted: &dyn Fn(usize) -> bool| {
            let wanted = listed.places().iter().filter(|place| is_wanted(**place as usize));
            Choices::new(&policy, listed, wanted.map(|place| candidate(&policy, *place, &all[*place as usize])))
        };
        let healthy = |listed| choose(listed, &|place| live[place] && ejections[place].is_none());
        let near = listed_near.as_ref().map(healthy).filter(|near| !near.is_empty());
        let mut choices = healthy(&listed);
        if choices.is_empty() {
            choices = choose(&listed, &|place| live[place]);
        }
        let live = choices.len();
        let (first, then) = match near {
            Some(near) => (near, Some(choices)),
            None => (choices, None),
        };
        Self {
            live,
            unsettled: live < listed.places().len().min(most),
            most,
            all_keys,
            first,
            then,
            ready: all.iter().map(|endpoint| endpoint.ready()).collect(),
            ejected: ejections.iter().flatten().count(),
            next_return: ejections.iter().flatten().min().copied(),
            policy,
            snapshot,
            all,
            listed,
            listed_near,
        }
    }

    /// The place of the instance with a connection, if there is one alone.
    #[inline]
    pub(crate) fn only(&self) -> Option<u32> {
        if self.then.is_none() { self.first.only() } else { None }
    }

    /// The place of an instance with a connection; those nearby first.
    #[inline]
    pub(crate) fn pick(&self, ask: &Ask<'_>) -> Option<u32> {
        self.first.pick(ask)
    }

    /// The place that a call belongs to, in a list too long to connect all of it.
    pub(crate) fn wanted(&self, ask: &Ask<'_>) -> Option<u32> {
        self.all_keys.as_ref()?.pick(ask)
    }

    /// Returns true if another instance may be connected.
    pub(crate) fn has_room(&self) -> bool {
        self.all.iter().filter(|endpoint| endpoint.is_live()).count() < self.most
    }

    /// The same, but none that is `avoided` if there is another: if need be one farther away.
    pub(crate) fn pick_other(&self, ask: &Ask<'_>, avoided: impl Fn(u32) -> bool) -> Option<u32> {
        let mut choices = [Some(&self.first), self.then.as_ref()].into_iter().flatten();
        choices.find_map(|choices| choices.pick_other(ask, &avoided)).or_else(|| self.pick(ask))
    }

    /// Those that the proxy has to do with, whatever their weight.
    pub(crate) fn selected(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.all.iter().filter(|endpoint| self.policy.balancing.selects(endpoint.instance()))
    }

    /// How long looking at all of them takes, roughly.
    pub(crate) fn effort(&self) -> Duration {
        Duration::from_micros(self.all.len() as u64)
    }

    /// Why there is nothing to choose from; none as long as the registry has not answered: that is worth waiting for.
    pub(crate) fn nothing(&self, service: &str, registry: &str) -> Option<Status> {
        let (count, wanted) = (self.all.len(), self.policy.balancing.wanted());
        let selected = self.selected().count();
        let (why, code, message) = if count == 0 {
            if self.snapshot.freshness() == Freshness::Never && !self.snapshot.is_failing() {
                return None;
            }
            let state = self.snapshot.state(std::time::Instant::now());
            let message = format!("no instance of `{service}`: the registry {registry} is {state} and lists none");
            (NoInstance::NoneListed, Code::Unavailable, message)
        } else if selected == 0 {
            let message = format!("none of the {count} instances of `{service}` in {registry} has {wanted}");
            (NoInstance::NoneSelected, Code::Unavailable, message)
        } else {
            let which = if wanted.is_empty() { wanted } else { format!(" with {wanted}") };
            let message = format!("all {selected} instances of `{service}`{which} in {registry} have weight 0");
            (NoInstance::AllWeightZero, Code::FailedPrecondition, message)
        };
        Some(not_sent(code, message).with_no_instance(why))
    }

    /// Why a call waited for a connection in vain.
    pub(crate) fn not_connected(&self, service: &str, registry: &str, last_error: Option<&Status>) -> Status {
        let message = match (last_error, self.all.len()) {
            (_, 0) => format!("the registry {registry} has not said yet who serves `{service}`"),
            (Some(error), n) => format!("none of the {n} instances of `{service}` is connected: {}", error.message()),
            (None, n) => format!("none of the {n} instances of `{service}` was connected in time"),
        };
        not_sent(Code::Unavailable, message)
    }
}

fn candidate(policy: &Policy, place: u32, endpoint: &Endpoint) -> Candidate {
    let loads = if policy.balancing.balancer().watches_load() { endpoint.loads() } else { Loads::None };
    Candidate::new(place, endpoint.instance().weight(), loads)
}
