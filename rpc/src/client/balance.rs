//! Pick of the instance for a call. Pure: no I/O, no lock, no allocation, and time is an argument.
//!
//! From the bottom up: `key`, `ring` and `estimate`; `candidates` with the trait [`Balance`]; the ten algorithms in `turns`,
//! `chance`, `least` and `hash`; `balancer` and `balancing`, the settings; `choices`, the factory and the pick.

mod balancer;
mod balancing;
mod candidates;
mod chance;
mod choices;
mod estimate;
mod hash;
mod key;
mod least;
mod ring;
mod turns;

pub use balancer::Balancer;
pub use balancing::Balancing;
pub(crate) use balancing::Policy;
pub(crate) use candidates::Listed;
pub use candidates::{Balance, Candidate, Candidates, PickContext};
pub(crate) use choices::Choices;
pub(crate) use estimate::{Clock, LoadEstimate, LoadEstimates};
pub(crate) use key::{CallKey, Key};

#[cfg(test)]
mod tests;
