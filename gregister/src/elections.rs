//! Elections: the candidates of each service in their queue, and the leader. Pure: time comes in as an argument.
//!
//! ```text
//! Stand -> in the queue --first, and the store is open--> leads --(its lease ends | Withdraw)--> gone
//!              `--(its lease ends | Withdraw)--> gone
//! ```
//!
//! A new store is closed until one longest lease has passed: a candidate may still lead by the word of a lost store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ms_register::ServiceName;

use crate::record::{Change, Record};

/// A candidate of a service. Its name is made up by itself.
pub(crate) type Key = (ServiceName, String);

/// One candidate's place in the queue of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seat {
    pub(crate) candidate: String,
    pub(crate) record: Record,
    pub(crate) ttl: Duration,
    /// Token of its term, if it leads.
    pub(crate) token: Option<u64>,
}

/// The candidates of a service, in the order in which they came; there is at least one, and none but the first leads.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) seats: Vec<Seat>,
    /// The revision of the last change of leadership.
    modified: u64,
}

impl Contest {
    /// The leader, and its token.
    pub(crate) fn master(&self) -> Option<(&Seat, u64)> {
        let first = self.seats.first()?;
        Some((first, first.token?))
    }

    fn position(&self, candidate: &str) -> Option<usize> {
        self.seats.iter().position(|seat| seat.candidate == candidate)
    }
}

/// Elections as readers see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contests {
    by_service: BTreeMap<ServiceName, Arc<Contest>>,
    /// True if candidates are elected.
    pub(crate) open: bool,
    /// The last change of all contests that are gone.
    floor: u64,
}

impl Contests {
    pub(crate) fn contest(&self, service: &ServiceName) -> Option<&Contest> {
        self.by_service.get(service).map(Arc::as_ref)
    }

    pub(crate) fn seat(&self, service: &ServiceName, candidate: &str) -> Option<&Seat> {
        let contest = self.contest(service)?;
        contest.seats.get(contest.position(candidate)?)
    }

    /// The revision of the last change of leadership.
    pub(crate) fn modified(&self, service: &ServiceName) -> u64 {
        self.contest(service).map_or(self.floor, |contest| contest.modified)
    }
}

/// All elections of a node. Every change goes through [`apply`](Self::apply).
#[derive(Debug)]
pub(crate) struct Elections {
    contests: Contests,
    seats: usize,
    /// When each candidate's lease ends.
    ends: HashMap<Key, Duration>,
    /// Where the first one does not lead.
    vacant: BTreeSet<ServiceName>,
    /// The last token.
    last: u64,
    /// Upper bound of all leases.
    longest: Duration,
    /// Candidates whose rank has changed.
    turned: Vec<Key>,
}

impl Elections {
    pub(crate) const MOST_CANDIDATES: usize = 100_000;

    /// Nobody campaigns. Tokens follow `last`, or whatever the store has come to if that is more.
    pub(crate) fn new(longest: Duration, last: u64) -> Self {
        Self {
            contests: Contests::default(),
            seats: 0,
            ends: HashMap::new(),
            vacant: BTreeSet::new(),
            last,
            longest,
            turned: Vec::new(),
        }
    }

    pub(crate) fn contests(&self) -> &Contests {
        &self.contests
    }

    /// Candidates whose rank has changed since the last call: they lead, or are gone.
    pub(crate) fn take_turned(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.turned)
    }

    /// Marks all changes up to now as history that no waiter is told of.
    pub(crate) fn begin(&mut self, revision: u64) {
        self.contests.floor = revision;
        self.turned.clear();
    }

    /// Candidates whose leases have ended.
    pub(crate) fn over(&self, clock: Duration) -> Vec<Key> {
        self.ends.iter().filter(|(_, end)| **end <= clock).map(|(key, _)| key.clone()).collect()
    }

    /// Returns true if it is time to open.
    pub(crate) fn opens(&self, clock: Duration) -> bool {
        !self.contests.open && clock >= self.longest
    }

    /// The candidate that must lead now, and its token.
    pub(crate) fn due(&self) -> Option<(&ServiceName, &str, u64)> {
        let service = self.vacant.first().filter(|_| self.contests.open)?;
        let first = self.contests.contest(service)?.seats.first()?;
        Some((service, &first.candidate, self.last.checked_add(1)?))
    }

    /// The candidate lives on. If it is not there, or says something else of itself: for how long it must be written down.
    pub(crate) fn stand(
        &mut self,
        key: &Key,
        record: &Record,
        ttl: Duration,
        clock: Duration,
    ) -> Result<Option<Duration>, String> {
        let ttl = ttl.min(self.longest);
        match self.contests.seat(&key.0, &key.1) {
            None if self.seats >= Self::MOST_CANDIDATES => {
                Err(format!("there are {} candidates already", Self::MOST_CANDIDATES))
            }
            Some(seat) if seat.record == *record && seat.ttl == ttl => {
                self.ends.insert(key.clone(), clock + ttl);
                Ok(None)
            }
            _ => Ok(Some(ttl)),
        }
    }

    /// Its lease begins anew. False: it is gone.
    pub(crate) fn renew(&mut self, key: Key, clock: Duration) -> bool {
        let seat = self.contests.seat(&key.0, &key.1);
        seat.map(|seat| seat.ttl).map(|ttl| self.ends.insert(key, clock + ttl)).is_some()
    }

    /// The fewest changes that lead here.
    pub(crate) fn as_changes(&self, revision: u64) -> Vec<Change> {
        let mut changes = vec![Change::Terms { token: self.last }];
        changes.extend(self.contests.open.then_some(Change::Open { revision }));
        for (service, contest) in &self.contests.by_service {
            let revision = contest.modified;
            changes.extend(contest.seats.iter().map(|seat| Change::Stand {
                revision,
                service: service.to_string(),
                candidate: seat.candidate.clone(),
                record: seat.record.clone(),
                ttl_ms: crate::clock::millis(seat.ttl),
            }));
            changes.extend(contest.seats.iter().filter_map(|seat| {
                let (service, candidate) = (service.to_string(), seat.candidate.clone());
                seat.token.map(|token| Change::Lead { revision, service, candidate, token })
            }));
        }
        changes
    }

    /// Takes back whatever was done since these contests were seen, but for tokens. A lease that has ended meanwhile runs for
    /// its whole time again: its candidate stays where it is for as long as nobody can write that it does not.
    pub(crate) fn restore(&mut self, contests: &Contests, clock: Duration) {
        self.contests = contests.clone();
        self.turned.clear();
        self.seats = 0;
        self.vacant.clear();
        let mut before = std::mem::take(&mut self.ends);
        for (service, contest) in &contests.by_service {
            self.seats += contest.seats.len();
            if contest.master().is_none() {
                self.vacant.insert(service.clone());
            }
            for seat in &contest.seats {
                let key = (service.clone(), seat.candidate.clone());
                let end = before.remove(&key).unwrap_or(clock + seat.ttl);
                self.ends.insert(key, end);
            }
        }
    }

    /// Takes part in a change; of others it knows nothing.
    pub(crate) fn apply(&mut self, change: &Change, clock: Duration) {
        match change {
            Change::Terms { token } => self.last = self.last.max(*token),
            Change::Open { .. } => self.contests.open = true,
            Change::Stand { revision, service, candidate, record, ttl_ms } => {
                // A node writes legal names only.
                let Ok(service) = ServiceName::new(service) else { return };
                let ttl = Duration::from_millis(*ttl_ms);
                let key = (service, candidate.clone());
                self.take_seat(&key, *revision, record, ttl);
                self.ends.insert(key, clock + ttl);
            }
            Change::Lead { revision, service, candidate, token } => {
                self.last = self.last.max(*token);
                let Ok(service) = ServiceName::new(service) else { return };
                let Some(contest) = self.contests.by_service.get_mut(&service) else { return };
                let contest = Arc::make_mut(contest);
                if let Some(first) = contest.seats.first_mut().filter(|first| first.candidate == *candidate) {
                    first.token = Some(*token);
                    contest.modified = *revision;
                    self.vacant.remove(&service);
                    self.turned.push((service, candidate.clone()));
                }
            }
            Change::Withdraw { revision, service, candidate } => {
                let Ok(service) = ServiceName::new(service) else { return };
                self.leave_seat((service, candidate.clone()), *revision);
            }
            Change::Store { .. }
            | Change::Put { .. }
            | Change::Remove { .. }
            | Change::Join { .. }
            | Change::Leave { .. } => {}
        }
    }

    fn take_seat(&mut self, (service, candidate): &Key, revision: u64, record: &Record, ttl: Duration) {
        let empty = || Arc::new(Contest { seats: Vec::new(), modified: revision });
        let contest = Arc::make_mut(self.contests.by_service.entry(service.clone()).or_insert_with(empty));
        match contest.position(candidate).and_then(|index| contest.seats.get_mut(index)) {
            Some(seat) => {
                (seat.record, seat.ttl) = (record.clone(), ttl);
                if seat.token.is_some() {
                    contest.modified = revision;
                }
            }
            None => {
                let (candidate, record) = (candidate.clone(), record.clone());
                contest.seats.push(Seat { candidate, record, ttl, token: None });
                self.seats += 1;
                if contest.seats.len() == 1 {
                    self.vacant.insert(service.clone());
                }
            }
        }
    }

    fn leave_seat(&mut self, key: Key, revision: u64) {
        let (service, candidate) = &key;
        let Some(contest) = self.contests.by_service.get_mut(service) else { return };
        let Some(index) = contest.position(candidate) else { return };
        let contest = Arc::make_mut(contest);
        let left = contest.seats.remove(index);
        self.seats -= 1;
        if left.token.is_some() {
            contest.modified = revision;
            self.vacant.insert(service.clone());
        }
        if contest.seats.is_empty() {
            self.contests.by_service.remove(service);
            self.contests.floor = revision;
            self.vacant.remove(service);
        }
        self.ends.remove(&key);
        self.turned.push(key);
    }
}

#[cfg(test)]
mod tests;
