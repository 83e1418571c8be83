//! Factory of the balancers, and the pick among the candidates.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    balancer::Balancer,
    balancing::{Algorithm, Custom, Policy},
    candidates::{Balance, Candidate, Candidates, Listed, PickContext},
    chance::{Random, WeightedRandom},
    hash::{Bounded, Consistent, Modulo},
    least::{LeastConnections, P2c},
    turns::{RoundRobin, WeightedRoundRobin},
};
use crate::{Code, Outcome, Status};

/// Candidates, and the balancer that was made for them.
#[derive(Debug)]
pub(crate) struct Choices {
    candidates: Candidates,
    balance: Made,
}

#[derive(Debug)]
enum Made {
    BuiltIn(Box<dyn Balance>),
    Custom(Guarded),
}

impl Choices {
    /// `candidates` are sorted by slot, and among those `listed`.
    pub(crate) fn new(policy: &Policy, listed: &Arc<Listed>, candidates: impl Iterator<Item = Candidate>) -> Self {
        let candidates = Candidates::new(candidates);
        let balance = match policy.balancing.algorithm() {
            Algorithm::BuiltIn(balancer) => Made::BuiltIn(built_in(*balancer, policy, listed, &candidates)),
            Algorithm::Custom(custom) => Made::Custom(Guarded::new(custom, &candidates)),
        };
        Self { candidates, balance }
    }

    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slot of the only candidate.
    #[inline]
    pub(crate) fn only(&self) -> Option<u32> {
        match &*self.candidates {
            [only] => Some(only.slot),
            _ => None,
        }
    }

    /// Slot of the instance for the next call.
    ///
    /// # Errors
    /// `Internal`: a custom balancer failed.
    #[inline]
    pub(crate) fn pick(&self, call: &PickContext<'_>) -> Result<Option<u32>, Status> {
        Ok(self.pick_index(call)?.map(|index| self.candidates[index].slot))
    }

    /// The same without the avoided slots.
    pub(crate) fn pick_other(
        &self,
        call: &PickContext<'_>,
        avoided: impl Fn(u32) -> bool,
    ) -> Result<Option<u32>, Status> {
        let Some(first) = self.pick_index(call)? else { return Ok(None) };
        let from_there = (first..self.len()).chain(0..first);
        Ok(from_there.map(|index| self.candidates[index].slot).find(|slot| !avoided(*slot)))
    }

    #[inline]
    fn pick_index(&self, call: &PickContext<'_>) -> Result<Option<usize>, Status> {
        match (&*self.candidates, &self.balance) {
            ([], _) => Ok(None),
            ([_], _) => Ok(Some(0)),
            (_, Made::BuiltIn(balance)) => Ok(Some(balance.pick(&self.candidates, call))),
            (_, Made::Custom(guarded)) => guarded.pick(&self.candidates, call).map(Some),
        }
    }
}

fn built_in(balancer: Balancer, policy: &Policy, listed: &Arc<Listed>, candidates: &Candidates) -> Box<dyn Balance> {
    let (turns, listed) = (policy.turns.clone(), listed.clone());
    match balancer {
        Balancer::P2c => Box::new(P2c),
        Balancer::LeastConnections => Box::new(LeastConnections),
        Balancer::RoundRobin => Box::new(RoundRobin(turns)),
        Balancer::WeightedRoundRobin => Box::new(WeightedRoundRobin::new(turns, candidates)),
        Balancer::Random => Box::new(Random),
        Balancer::WeightedRandom => Box::new(WeightedRandom::new(candidates)),
        Balancer::IpHash | Balancer::KeyHash => Box::new(Modulo { turns, listed }),
        Balancer::ConsistentHash => Box::new(Consistent { turns, listed }),
        Balancer::BoundedHash(percent) => Box::new(Bounded::new(turns, listed, candidates, percent)),
    }
}

/// Custom balancer whose panics and wrong indices become errors of the call.
struct Guarded {
    name: Arc<str>,
    /// `None`: the factory panicked, or there is nothing to choose.
    balance: Option<Box<dyn Balance>>,
}

impl Guarded {
    fn new(custom: &Custom, candidates: &Candidates) -> Self {
        let make = || (custom.factory)(candidates);
        let made = (candidates.len() > 1).then(|| catch_unwind(AssertUnwindSafe(make)));
        Self { name: custom.name.clone(), balance: made.and_then(Result::ok) }
    }

    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> Result<usize, Status> {
        let Some(balance) = &self.balance else {
            return Err(self.fault("panicked when it was made: its factory must take any candidates"));
        };
        let count = candidates.len();
        match catch_unwind(AssertUnwindSafe(|| balance.pick(candidates, call))) {
            Ok(index) if index < count => Ok(index),
            Ok(index) => {
                Err(self.fault(&format!("returned index {index} of {count} candidates: use 0 to {}", count - 1)))
            }
            Err(_) => Err(self.fault("panicked during a pick")),
        }
    }

    #[cold]
    fn fault(&self, what: &str) -> Status {
        Status::new(Code::Internal, format!("balancer `{}` {what}", self.name)).with_outcome(Outcome::NotSent)
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("name", &self.name).finish_non_exhaustive()
    }
}
