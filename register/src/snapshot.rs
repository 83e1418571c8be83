//! The instances of a service as they are known at one moment. Pure: time comes in as an argument.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::Instance;

/// Trust in a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The registry has not answered yet: the list is empty because nothing is known.
    Never,
    /// The list is what the registry said last, and the watch stands.
    Live,
    /// The registry cannot be read at the moment: the list is the last one known.
    Stale,
}

/// The full list of a service's instances at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    sequence: u64,
    freshness: Freshness,
    instances: Arc<[Instance]>,
    problem: Option<Problem>,
    resyncs: u64,
}

/// Reason why the registry cannot be read, and the time since then.
#[derive(Clone, Debug)]
struct Problem {
    reason: Arc<str>,
    since: Instant,
}

impl Snapshot {
    /// Nothing known yet.
    pub fn never() -> Self {
        Self { sequence: 0, freshness: Freshness::Never, instances: Arc::from([]), problem: None, resyncs: 0 }
    }

    /// Rises with every change that a watcher sees.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Trust in the list.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The instances, sorted by id, each id once.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Number of times that the registry has come back after it could not be read: a snapshot with another count than the one before
    /// is what it listed after its return, even if the outage itself went unseen.
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Age of the list: zero while it is [`Freshness::Live`], since the first failed read while it is
    /// [`Freshness::Stale`], and `None` when there has never been one.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        match (self.freshness, &self.problem) {
            (Freshness::Never, _) => None,
            (_, None) => Some(Duration::ZERO),
            (_, Some(problem)) => Some(now.saturating_duration_since(problem.since)),
        }
    }

    /// Returns true if the last read failed.
    pub fn is_failing(&self) -> bool {
        self.problem.is_some()
    }

    /// The registry's state in words, for an error message: `live`, `not read yet`, `not readable yet (..)` for a registry that has
    /// never been read, or what is wrong since when.
    pub fn state(&self, now: Instant) -> impl fmt::Display + use<> {
        State { freshness: self.freshness, problem: self.problem.clone(), now }
    }

    /// The snapshot after a successful read, sorted by id, or `None` if nothing changed.
    pub(crate) fn refreshed(&self, instances: Vec<Instance>) -> Option<Self> {
        if self.freshness == Freshness::Live && *self.instances == *instances {
            return None;
        }
        Some(Self {
            sequence: self.sequence + 1,
            freshness: Freshness::Live,
            instances: instances.into(),
            problem: None,
            resyncs: self.resyncs + u64::from(self.freshness == Freshness::Stale),
        })
    }

    /// The snapshot from a list that was kept elsewhere, `age` ago, or `None` if there is a better one.
    pub(crate) fn restored(&self, instances: Vec<Instance>, age: Duration, reason: &str, now: Instant) -> Option<Self> {
        if self.freshness != Freshness::Never || instances.is_empty() {
            return None;
        }
        let since = now.checked_sub(age).unwrap_or(now);
        Some(Self {
            sequence: self.sequence + 1,
            freshness: Freshness::Stale,
            instances: instances.into(),
            problem: Some(Problem { reason: reason.into(), since }),
            resyncs: self.resyncs,
        })
    }

    /// The snapshot after a failed read: the same list, marked with this reason since the first failure, or `None` if it is marked
    /// with this reason already.
    pub(crate) fn failed(&self, reason: &str, now: Instant) -> Option<Self> {
        let since = match &self.problem {
            Some(problem) if &*problem.reason == reason => return None,
            Some(problem) => problem.since,
            None => now,
        };
        let freshness = match self.freshness {
            Freshness::Never => Freshness::Never,
            Freshness::Live | Freshness::Stale => Freshness::Stale,
        };
        Some(Self {
            sequence: self.sequence + 1,
            freshness,
            instances: self.instances.clone(),
            problem: Some(Problem { reason: reason.into(), since }),
            resyncs: self.resyncs,
        })
    }
}

struct State {
    freshness: Freshness,
    problem: Option<Problem>,
    now: Instant,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.problem, self.freshness) {
            // The time of the first failure says nothing about how long there has been no list.
            (Some(problem), Freshness::Never) => write!(f, "not readable yet ({})", problem.reason),
            (Some(problem), _) => {
                let seconds = self.now.saturating_duration_since(problem.since).as_secs_f64();
                write!(f, "unreadable for {seconds:.1} s ({})", problem.reason)
            }
            (None, Freshness::Never) => f.write_str("not read yet"),
            (None, Freshness::Live | Freshness::Stale) => f.write_str("live"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(ports: &[u16]) -> Vec<Instance> {
        ports.iter().map(|port| Instance::new("h", *port)).collect()
    }

    #[test]
    fn a_failed_read_keeps_the_list() {
        let now = Instant::now();
        let live = Snapshot::never().refreshed(instances(&[1, 2])).unwrap();
        assert_eq!(live.freshness(), Freshness::Live);
        let stale = live.failed("connection refused", now).unwrap();
        assert_eq!(stale.freshness(), Freshness::Stale);
        assert_eq!(stale.instances(), live.instances());
        let later = now + Duration::from_secs(12);
        assert!(stale.failed("connection refused", later).is_none(), "nothing new");
        assert_eq!(stale.state(later).to_string(), "unreadable for 12.0 s (connection refused)");
        let refused = stale.failed("authentication failed", later).unwrap();
        assert_eq!(
            refused.state(later).to_string(),
            "unreadable for 12.0 s (authentication failed)",
            "the last reason"
        );

        let back = stale.refreshed(instances(&[1, 2])).unwrap();
        assert_eq!((back.freshness(), back.sequence()), (Freshness::Live, 3));
        assert!(back.refreshed(instances(&[1, 2])).is_none(), "nothing new");
        assert_eq!([&live, &stale, &back].map(Snapshot::resyncs), [0, 0, 1]);
        let ages =
            [&live, &stale, &back].map(|snapshot| snapshot.age(now + Duration::from_secs(12)).unwrap().as_secs());
        assert_eq!(ages, [0, 12, 0]);
    }

    #[test]
    fn a_kept_list_is_stale_with_its_age_and_gives_way_to_any_answer() {
        let (now, age) = (Instant::now(), Duration::from_secs(35));
        assert!(Snapshot::never().restored(Vec::new(), age, "kept", now).is_none(), "empty says nothing");
        let failed = Snapshot::never().failed("down", now).unwrap();
        let kept = failed.restored(instances(&[1]), age, "kept", now).unwrap();
        assert_eq!((kept.freshness(), kept.age(now).unwrap().as_secs()), (Freshness::Stale, 35));
        let later = kept.failed("down", now + age).unwrap();
        assert_eq!((later.age(now + age).unwrap().as_secs(), later.instances().len()), (70, 1));
        let live = later.refreshed(Vec::new()).unwrap();
        assert_eq!((live.freshness(), live.instances().len()), (Freshness::Live, 0));
        assert!(live.restored(instances(&[1]), age, "kept", now).is_none());
    }

    #[test]
    fn a_failure_before_the_first_read_is_not_an_empty_list() {
        let never = Snapshot::never().failed("down", Instant::now()).unwrap();
        assert_eq!(never.freshness(), Freshness::Never);
        assert_eq!(never.state(Instant::now()).to_string(), "not readable yet (down)");
        let empty = never.refreshed(vec![]).unwrap();
        assert_eq!((empty.freshness(), empty.instances().len()), (Freshness::Live, 0));
    }
}
