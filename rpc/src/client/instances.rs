//! What a proxy knows of a service's instances at one moment. Shared, and never changed: a pick reads it without a lock.

use std::{sync::Arc, time::Duration};

use ms_register::{Freshness, Snapshot};
use tokio::time::Instant;

use super::{
    balance::Choices,
    endpoint::{Endpoint, Ready},
    request::not_sent,
};
use crate::{Code, Status};

#[derive(Debug)]
pub(crate) struct Instances {
    pub(crate) snapshot: Snapshot,
    /// Sorted by id.
    pub(crate) all: Vec<Arc<Endpoint>>,
    pub(crate) choices: Choices,
    /// Those of them with an open connection; without the ejected ones, unless there are no others.
    pub(crate) live: Choices,
    /// By place: the connections of an instance that has all of its own, to be used without a further look.
    pub(crate) ready: Vec<Option<Ready>>,
    /// How many are ejected.
    pub(crate) ejected: usize,
    /// When the first of them comes back.
    pub(crate) next_return: Option<Instant>,
}

impl Instances {
    pub(crate) fn new(snapshot: Snapshot, all: Vec<Arc<Endpoint>>) -> Self {
        let now = Instant::now();
        let ejections: Vec<_> = all.iter().map(|endpoint| endpoint.health().ejected_until(now)).collect();
        let choose = |wanted: &dyn Fn(usize) -> bool| {
            let chosen = all.iter().enumerate().filter(|(place, _)| wanted(*place));
            Choices::new(chosen.map(|(place, endpoint)| (place as u32, endpoint.instance().weight())))
        };
        let healthy = choose(&|place| all[place].is_live() && ejections[place].is_none());
        let live = if healthy.is_empty() { choose(&|place| all[place].is_live()) } else { healthy };
        Self {
            choices: choose(&|_| true),
            live,
            ready: all.iter().map(|endpoint| endpoint.ready()).collect(),
            ejected: ejections.iter().flatten().count(),
            next_return: ejections.iter().flatten().min().copied(),
            snapshot,
            all,
        }
    }

    /// The same with the connections and ejections as they are now.
    pub(crate) fn refreshed(&self) -> Self {
        Self::new(self.snapshot.clone(), self.all.clone())
    }

    /// How long looking at all of them takes, roughly.
    pub(crate) fn effort(&self) -> Duration {
        Duration::from_micros(self.all.len() as u64)
    }

    /// Why there is nothing to choose from; nothing as long as the registry has not answered: that is worth waiting for.
    pub(crate) fn nothing(&self, service: &str, registry: &str) -> Option<Status> {
        let state = self.snapshot.state(std::time::Instant::now());
        if !self.all.is_empty() {
            let message = format!("all {} instances of `{service}` in {registry} have weight 0", self.all.len());
            return Some(not_sent(Code::FailedPrecondition, message));
        }
        if self.snapshot.freshness() == Freshness::Never && !self.snapshot.is_failing() {
            return None;
        }
        let message = format!("no instance of `{service}`: the registry {registry} is {state} and lists none");
        Some(not_sent(Code::Unavailable, message))
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
