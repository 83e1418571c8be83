//! Which instance gets the next call. Pure: it never dials, and takes no lock.

use std::{fmt, str::FromStr};

use crate::shard::Cursor;

/// How a proxy spreads calls over the instances of a service. An instance of weight 0 gets none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balancer {
    /// One after the other, for each thread that calls.
    #[default]
    RoundRobin,
    /// Any, with equal chances.
    Random,
    /// Any, with chances in proportion to the weights.
    WeightedRandom,
}

impl Balancer {
    /// Every balancer.
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::Random, Self::WeightedRandom];

    /// One for a service: each has a state of its own.
    pub(crate) fn build(self) -> Box<dyn Balance> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::Random => Box::new(Random),
            Self::WeightedRandom => Box::new(WeightedRandom),
        }
    }
}

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::WeightedRandom => "weighted-random",
        })
    }
}

impl FromStr for Balancer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|balancer| balancer.to_string() == name)
            .ok_or_else(|| format!("balancer {name:?} is unknown: use round-robin, random or weighted-random"))
    }
}

/// Picks one of the choices.
pub(crate) trait Balance: fmt::Debug + Send + Sync {
    /// An index below `choices.len()`, which is not 0.
    fn pick(&self, choices: &Choices) -> usize;
}

/// The instances that may be picked: their places in the service's list, and their weights summed up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    places: Vec<u32>,
    cumulative: Vec<f64>,
}

impl Choices {
    /// Those with a weight above 0.
    pub(crate) fn new(weighted: impl Iterator<Item = (u32, f64)>) -> Self {
        let mut choices = Self::default();
        let mut sum = 0.0;
        for (place, weight) in weighted.filter(|(_, weight)| *weight > 0.0) {
            sum += weight;
            choices.places.push(place);
            choices.cumulative.push(sum);
        }
        choices
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn place(&self, index: usize) -> u32 {
        self.places[index]
    }

    /// The place of a choice that is not `avoided`, by `balance` as far as possible; any choice when all are avoided.
    pub(crate) fn pick(&self, balance: &dyn Balance, avoided: impl Fn(u32) -> bool) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let first = balance.pick(self);
        let place = self.place(first);
        if !avoided(place) {
            return Some(place);
        }
        let all = (first..self.len()).chain(0..first).map(|index| self.place(index));
        let mut kept = all.filter(|place| !avoided(*place));
        Some(kept.next().unwrap_or(place))
    }
}

#[derive(Debug, Default)]
struct RoundRobin {
    next: Cursor,
}

impl Balance for RoundRobin {
    fn pick(&self, choices: &Choices) -> usize {
        // There are fewer than 2^32; a division of 32 bits is the faster one.
        (self.next.advance() % choices.len() as u32) as usize
    }
}

#[derive(Debug)]
struct Random;

impl Balance for Random {
    fn pick(&self, choices: &Choices) -> usize {
        fastrand::usize(..choices.len())
    }
}

#[derive(Debug)]
struct WeightedRandom;

impl Balance for WeightedRandom {
    fn pick(&self, choices: &Choices) -> usize {
        let sum = choices.cumulative.last().copied().unwrap_or_default();
        let drawn = fastrand::f64() * sum;
        choices.cumulative.partition_point(|upto| *upto <= drawn).min(choices.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(balancer: Balancer, weights: &[f64], picks: usize) -> Vec<usize> {
        let choices = Choices::new(weights.iter().enumerate().map(|(at, weight)| (at as u32, *weight)));
        let balance = balancer.build();
        let mut shares = vec![0; weights.len()];
        for _ in 0..picks {
            shares[choices.pick(&*balance, |_| false).unwrap() as usize] += 1;
        }
        shares
    }

    #[test]
    fn round_robin_is_even_and_skips_weight_0() {
        assert_eq!(shares(Balancer::RoundRobin, &[1.0, 0.0, 5.0], 4000), [2000, 0, 2000]);
    }

    #[test]
    fn random_shares_are_within_3_sigma() {
        // sigma = sqrt(n p (1 - p))
        let even = shares(Balancer::Random, &[1.0, 3.0], 40_000);
        assert!(even[0].abs_diff(20_000) <= 300, "{even:?}");
        let weighted = shares(Balancer::WeightedRandom, &[1.0, 0.0, 3.0], 40_000);
        assert_eq!(weighted[1], 0);
        assert!(weighted[0].abs_diff(10_000) <= 260, "{weighted:?}");
    }

    #[test]
    fn what_is_avoided_is_picked_only_when_nothing_else_is_left() {
        let choices = Choices::new([(7, 1.0), (8, 1.0)].into_iter());
        for balancer in Balancer::ALL {
            let balance = balancer.build();
            for _ in 0..10 {
                assert_eq!(choices.pick(&*balance, |place| place == 7), Some(8));
                assert!(choices.pick(&*balance, |_| true).is_some());
            }
            assert_eq!(Choices::default().pick(&*balance, |_| false), None);
        }
    }

    #[test]
    fn names_parse() {
        for balancer in Balancer::ALL {
            assert_eq!(balancer.to_string().parse(), Ok(balancer));
        }
        assert!("best".parse::<Balancer>().unwrap_err().contains("round-robin"));
    }
}
