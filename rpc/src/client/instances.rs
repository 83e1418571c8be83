//! Instances of a service at one moment. Shared and immutable: a pick reads them without a lock.

mod subset;

use std::{fmt, sync::Arc, time::Duration};

use ms_register::{Freshness, Instance, Snapshot};
use tokio::time::Instant;

use super::{
    balance::{Balancing, Candidate, Choices, Listed, LoadEstimates, PickContext, Policy},
    ejection::EjectionState,
    request::not_sent,
};
use crate::{Code, NoInstance, Status};
use subset::subset;

/// One instance, and its state on this side: an endpoint with connections, or what a program reports of its own ones.
pub(crate) trait Member: fmt::Debug + Send + Sync + Sized + 'static {
    /// Connections of an instance that a call may use without a further look.
    type Ready: fmt::Debug + Send + Sync;

    fn instance(&self) -> &Arc<Instance>;

    /// The same state under a changed entry of the registry, whose address is the same.
    fn with_instance(&self, instance: Arc<Instance>) -> Self;

    fn ejection(&self) -> &EjectionState;

    fn loads(&self) -> LoadEstimates;

    /// Returns true if calls may be sent to it.
    fn is_connected(&self) -> bool;

    fn ready(&self) -> Option<Self::Ready>;

    /// The registry's list has changed.
    fn list_changed(&self) {}
}

/// Bound of the instances of one service that a client connects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) most: usize,
    /// Random number of the client: the clients of many processes choose different subsets of a long list.
    pub(crate) client: u64,
}

impl Bound {
    pub(crate) const NONE: Self = Self { most: usize::MAX, client: 0 };
}

/// Members of a service's list, the candidates among them, and the balancers over these.
#[derive(Debug)]
pub(crate) struct Instances<M: Member> {
    policy: Arc<Policy>,
    pub(crate) bound: Bound,
    pub(crate) snapshot: Snapshot,
    /// Sorted by id.
    pub(crate) all: Vec<Arc<M>>,
    /// Instances that calls may go to, connected or not.
    pub(crate) listed: Arc<Listed>,
    /// The listed ones in the zone that comes first.
    listed_near: Option<Arc<Listed>>,
    /// Number of candidates: connected, and not ejected unless all are.
    pub(crate) live: usize,
    /// A call has to dial an instance that is not connected, or to start the follower of the registry.
    pub(crate) unsettled: bool,
    /// Number of instances with a connection.
    connected: usize,
    /// All listed ones, connected or not, if there are more than may be connected and keys choose among all of them.
    all_keys: Option<Arc<Choices>>,
    /// Candidates in the zone that comes first; all, if there are none.
    first: Choices,
    /// All candidates, if `first` is a zone's.
    then: Option<Choices>,
    /// By slot: the connections of an instance that has all of its own.
    pub(crate) ready: Vec<Option<M::Ready>>,
    /// Number of ejected instances.
    pub(crate) ejected: usize,
    /// End of the ejection that ends first.
    pub(crate) next_return: Option<Instant>,
}

impl<M: Member> Instances<M> {
    /// `before` is the list that this one replaces.
    pub(crate) fn new(
        policy: Arc<Policy>,
        before: Option<&Self>,
        snapshot: Snapshot,
        all: Vec<Arc<M>>,
        bound: Bound,
    ) -> Self {
        // A key belongs to one of all instances, whichever client asks: those are dialled when they are called.
        let hashes = policy.balancing.hashes();
        let chosen = if hashes { None } else { chosen(&all, &policy.balancing, bound) };
        let listed = |before: Option<&Arc<Listed>>, is_wanted: &dyn Fn(&M) -> bool| {
            let wanted = all.iter().enumerate().filter(|(slot, member)| {
                chosen.as_ref().is_none_or(|chosen| chosen[*slot])
                    && is_callable(&policy.balancing, member.instance())
                    && is_wanted(member)
            });
            let described = wanted.map(|(slot, member)| {
                let instance = member.instance();
                (slot as u32, instance.id(), instance.weight())
            });
            Arc::new(Listed::new(policy.balancing.needs_ring(), before.map(|before| &**before), described))
        };
        let is_near = |member: &M| policy.balancing.is_near(member.instance());
        let near_before = before.and_then(|before| before.listed_near.as_ref());
        let listed_near = policy.balancing.has_zone().then(|| listed(near_before, &is_near));
        let listed = listed(before.map(|before| &before.listed), &|_| true);
        let all_keys = (hashes && listed.slots().len() > bound.most).then(|| {
            let candidate =
                |slot: &u32| Candidate::new(*slot, all[*slot as usize].instance().clone(), LoadEstimates::None);
            Arc::new(Choices::new(&policy, &listed, listed.slots().iter().map(candidate)))
        });
        Self::of(policy, snapshot, all, (listed, listed_near), (bound, all_keys))
    }

    /// The same with the connections and ejections as they are now.
    pub(crate) fn refreshed(&self) -> Self {
        let (policy, listed, near) = (self.policy.clone(), self.listed.clone(), self.listed_near.clone());
        let bound = (self.bound, self.all_keys.clone());
        Self::of(policy, self.snapshot.clone(), self.all.clone(), (listed, near), bound)
    }

    fn of(
        policy: Arc<Policy>,
        snapshot: Snapshot,
        all: Vec<Arc<M>>,
        (listed, listed_near): (Arc<Listed>, Option<Arc<Listed>>),
        (bound, all_keys): (Bound, Option<Arc<Choices>>),
    ) -> Self {
        let now = Instant::now();
        let ejections: Vec<_> = all.iter().map(|member| member.ejection().ejected_until(now)).collect();
        let live: Vec<_> = all.iter().map(|member| member.is_connected()).collect();
        let choose = |listed: &Arc<Listed>, is_wanted: &dyn Fn(usize) -> bool| {
            let wanted = listed.slots().iter().filter(|slot| is_wanted(**slot as usize));
            Choices::new(&policy, listed, wanted.map(|slot| candidate(&policy, *slot, &*all[*slot as usize])))
        };
        let healthy = |listed| choose(listed, &|slot| live[slot] && ejections[slot].is_none());
        let near = listed_near.as_ref().map(healthy).filter(|near| !near.is_empty());
        let mut choices = healthy(&listed);
        if choices.is_empty() {
            choices = choose(&listed, &|slot| live[slot]);
        }
        let (connected, live) = (live.iter().filter(|live| **live).count(), choices.len());
        let (first, then) = match near {
            Some(near) => (near, Some(choices)),
            None => (choices, None),
        };
        Self {
            live,
            unsettled: live < listed.slots().len().min(bound.most),
            connected,
            bound,
            all_keys,
            first,
            then,
            ready: all.iter().map(|member| member.ready()).collect(),
            ejected: ejections.iter().flatten().count(),
            next_return: ejections.iter().flatten().min().copied(),
            policy,
            snapshot,
            all,
            listed,
            listed_near,
        }
    }

    /// Slot of the instance with a connection, if there is one alone.
    #[inline]
    pub(crate) fn only(&self) -> Option<u32> {
        if self.then.is_none() { self.first.only() } else { None }
    }

    /// Slot of a connected instance; those nearby first.
    ///
    /// # Errors
    /// `Internal`: a custom balancer failed.
    #[inline]
    pub(crate) fn pick(&self, call: &PickContext<'_>) -> Result<Option<u32>, Status> {
        self.first.pick(call)
    }

    /// The same without the avoided slots, if there are others: if need be one farther away.
    pub(crate) fn pick_other(
        &self,
        call: &PickContext<'_>,
        avoided: impl Fn(u32) -> bool,
    ) -> Result<Option<u32>, Status> {
        for choices in [Some(&self.first), self.then.as_ref()].into_iter().flatten() {
            if let Some(other) = choices.pick_other(call, &avoided)? {
                return Ok(Some(other));
            }
        }
        self.pick(call)
    }

    /// Slot of the instance that a call's key belongs to, in a list too long to connect all of it.
    pub(crate) fn of_key(&self, call: &PickContext<'_>) -> Option<u32> {
        self.all_keys.as_ref()?.pick(call).ok().flatten()
    }

    /// Returns true if another instance may be connected.
    pub(crate) fn has_room(&self) -> bool {
        self.connected < self.bound.most
    }

    /// Number of callable instances and their bound, if there are more of them.
    pub(crate) fn beyond_bound(&self) -> Option<(usize, usize)> {
        let callable = self.all.iter().filter(|member| is_callable(&self.policy.balancing, member.instance()));
        let (count, most) = (callable.count(), self.bound.most);
        (count > most).then_some((count, most))
    }

    /// Members that the selector admits, whatever their weight.
    pub(crate) fn selected(&self) -> impl Iterator<Item = &Arc<M>> {
        self.all.iter().filter(|member| self.policy.balancing.selects(member.instance()))
    }

    /// Rough time of a refresh.
    pub(crate) fn effort(&self) -> Duration {
        Duration::from_micros(self.all.len() as u64)
    }

    /// Error for an empty list; `None` while the registry has not answered: that is worth waiting for.
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

    /// Error for a call that waited for a connection in vain.
    pub(crate) fn not_connected(&self, service: &str, registry: &str, last_error: Option<&Status>) -> Status {
        let message = match (last_error, self.all.len()) {
            (_, 0) => format!("the registry {registry} has not said yet who serves `{service}`"),
            (Some(error), n) => format!("none of the {n} instances of `{service}` is connected: {}", error.message()),
            (None, n) => format!("none of the {n} instances of `{service}` was connected in time"),
        };
        not_sent(Code::Unavailable, message)
    }
}

/// Returns false for instances that get no calls: those of weight 0, and those that the selector does not admit.
fn is_callable(balancing: &Balancing, instance: &Instance) -> bool {
    instance.weight() > 0.0 && balancing.selects(instance)
}

/// Marks the callable instances that this client connects; `None` if it connects all of them.
fn chosen<M: Member>(all: &[Arc<M>], balancing: &Balancing, bound: Bound) -> Option<Vec<bool>> {
    let callable: Vec<_> = all.iter().map(|member| is_callable(balancing, member.instance())).collect();
    let members = all.iter().zip(&callable).filter(|(_, callable)| **callable);
    let ranked: Vec<_> =
        members.map(|(member, _)| (member.instance().id(), balancing.is_near(member.instance()))).collect();
    let mut chosen = subset(ranked.into_iter(), bound.most, bound.client)?.into_iter();
    Some(callable.iter().map(|callable| *callable && chosen.next() == Some(true)).collect())
}

fn candidate<M: Member>(policy: &Policy, slot: u32, member: &M) -> Candidate {
    let loads = if policy.balancing.watches_load() { member.loads() } else { LoadEstimates::None };
    Candidate::new(slot, member.instance().clone(), loads)
}
