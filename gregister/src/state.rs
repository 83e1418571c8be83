//! State of a node, and how requests change it. Pure: time comes in as an argument.
//!
//! ```text
//! Put -> listed --(its lease ends | Remove)--> gone        a lease ends ttl after the last Put or Renew
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ms_register::ServiceName;

use crate::{
    elections::{Contests, Elections, Key},
    nodes::{self, MISSES, Shown},
    record::{Change, Joined, Record},
};

/// Request to a node.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Put {
        service: ServiceName,
        record: Record,
        lease: String,
        ttl: Duration,
        since: u64,
    },
    Renew {
        service: ServiceName,
        id: String,
        lease: String,
    },
    /// Removes an instance; without a lease, under any lease.
    Remove {
        service: ServiceName,
        id: String,
        lease: Option<String>,
    },
    /// The candidate campaigns: it comes, or lives on where it is.
    Stand {
        seat: Key,
        record: Record,
        ttl: Duration,
    },
    /// The candidate lives on.
    Stay {
        seat: Key,
    },
    /// The candidate goes.
    Withdraw {
        seat: Key,
    },
    Join(Joined),
    Reweigh {
        tcp_addr: String,
        weight: u32,
    },
    Leave {
        tcp_addr: String,
    },
    /// Results of the probes: each node with the address that was tried, and whether it answered.
    Probed(Vec<(u16, String, bool)>),
    /// Time passes.
    Tick,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is none of these.
    #[error("there is no such {0}")]
    Gone(&'static str),
    /// The input is wrong or taken, or there is no room.
    #[error("{0}")]
    Invalid(String),
}

/// One listed instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) lease: String,
    pub(crate) since: u64,
    ttl: Duration,
}

/// The instances of a service, which is never empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    pub(crate) entries: BTreeMap<String, Entry>,
    /// The revision of the last change.
    modified: u64,
}

/// View of readers: a state at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) store: u64,
    pub(crate) revision: u64,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(crate) joined: Arc<BTreeMap<u16, Joined>>,
    pub(crate) contests: Contests,
    /// The last change of all services that are gone.
    floor: u64,
}

impl View {
    /// The revision of the last change to a service.
    pub(crate) fn modified(&self, service: &ServiceName) -> u64 {
        self.services.get(service).map_or(self.floor, |service| service.modified)
    }

    pub(crate) fn entries(&self, service: &ServiceName) -> impl Iterator<Item = &Entry> {
        self.services.get(service).into_iter().flat_map(|service| service.entries.values())
    }

    /// Returns whether an instance is under this lease; `None` if it is not there.
    pub(crate) fn is_held(&self, service: &ServiceName, id: &str, lease: &str) -> Option<bool> {
        self.services.get(service)?.entries.get(id).map(|entry| entry.lease == lease)
    }

    /// All that is listed in the old form, by number.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<_> = self.joined.values().map(Shown::joined).collect();
        shown.extend(self.queue_nodes().filter_map(|entry| {
            let (record, since) = (&entry.record, crate::clock::date(entry.since));
            let number = nodes::number(&record.metadata)?;
            Some(Shown::numbered(number, nodes::address(record), record.weight, &record.metadata, since))
        }));
        shown.sort_by_key(|node| node.id);
        shown
    }

    /// Checks that a node may join.
    pub(crate) fn check_join(&self, node: &Joined) -> Result<(), Refusal> {
        let registered = self.queue_nodes().map(|entry| &entry.record);
        let reason = if !(1..=1023).contains(&node.id) {
            Some("node_id must be 1 to 1023.".to_owned())
        } else if node.weight == 0 {
            Some("weight must be greater than 0.".to_owned())
        } else {
            nodes::taken(node, self.joined.values(), registered)
        };
        reason.map_or(Ok(()), |reason| Err(Refusal::Invalid(reason)))
    }

    fn queue_nodes(&self) -> impl Iterator<Item = &Entry> {
        ServiceName::new(nodes::SERVICE)
            .into_iter()
            .flat_map(|name| self.services.get(&name).into_iter().flat_map(|service| service.entries.values()))
    }
}

#[derive(Debug)]
pub(crate) struct State {
    /// But for the contests.
    view: View,
    elections: Elections,
    instances: usize,
    /// When each lease ends, on the clock below.
    ends: HashMap<(ServiceName, String), Duration>,
    misses: HashMap<u16, u8>,
    /// How long leases have run: time in which the node did not run is not counted.
    clock: Duration,
    seen: Duration,
    changes: Vec<Change>,
}

impl State {
    pub(crate) const MOST_INSTANCES: usize = 100_000;
    /// Between two requests leases do not grow older than this: a node that was paused has heard no renewals.
    const LONGEST_STEP: Duration = Duration::from_secs(1);

    /// The state that these changes lead to; with a store of this id if they name none, and after elections in which nothing
    /// has happened yet. Every lease begins anew.
    pub(crate) fn replay(changes: Vec<Change>, store: u64, elections: Elections) -> Self {
        let (services, contests) = (BTreeMap::new(), Contests::default());
        let mut state = Self {
            view: View { store, revision: 0, services, joined: Arc::default(), contests, floor: 0 },
            elections,
            instances: 0,
            ends: HashMap::new(),
            misses: HashMap::new(),
            clock: Duration::ZERO,
            seen: Duration::ZERO,
            changes: Vec::new(),
        };
        for change in changes {
            state.apply(change);
        }
        state.view.floor = state.view.revision;
        state.elections.begin(state.view.revision);
        state
    }

    pub(crate) fn view(&self) -> View {
        View { contests: self.elections.contests().clone(), ..self.view.clone() }
    }

    /// Returns true if the candidate is in the queue with this token; `None` is the token of a candidate that does not lead.
    pub(crate) fn is_at(&self, (service, candidate): &Key, token: Option<u64>) -> bool {
        self.elections.contests().seat(service, candidate).is_some_and(|seat| seat.token == token)
    }

    /// The candidates whose place has changed since they were last taken: they lead, or are gone.
    pub(crate) fn take_turned(&mut self) -> Vec<Key> {
        self.elections.take_turned()
    }

    /// Returns true if anything has changed since the changes were last taken.
    pub(crate) fn is_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The changes since they were last taken.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The fewest changes that lead to this state.
    pub(crate) fn as_changes(&self) -> Vec<Change> {
        let view = &self.view;
        let mut changes = vec![Change::Store { store: view.store, revision: view.revision }];
        for (name, service) in &view.services {
            changes.extend(service.entries.values().map(|entry| Change::Put {
                revision: service.modified,
                service: name.to_string(),
                record: entry.record.clone(),
                lease: entry.lease.clone(),
                ttl_ms: crate::clock::millis(entry.ttl),
                since: entry.since,
            }));
        }
        changes.extend(view.joined.values().map(|node| Change::Join { revision: view.revision, node: node.clone() }));
        changes.extend(self.elections.as_changes(view.revision));
        changes
    }

    /// Does as asked at `now`, on a clock that only goes forward. True: done; false: somebody else has it.
    pub(crate) fn handle(&mut self, request: Request, now: Duration) -> Result<bool, Refusal> {
        self.advance(now);
        let done = self.act(request);
        while let Some((service, candidate, token)) = self.elections.due() {
            let (service, candidate) = (service.to_string(), candidate.to_owned());
            self.change(|revision| Change::Lead { revision, service, candidate, token });
        }
        done
    }

    fn act(&mut self, request: Request) -> Result<bool, Refusal> {
        match request {
            Request::Put { service, record, lease, ttl, since } => self.put(service, record, lease, ttl, since),
            Request::Renew { service, id, lease } => {
                let entry = self.view.services.get(&service).and_then(|service| service.entries.get(&id));
                let entry = entry.ok_or(Refusal::Gone("instance"))?;
                if entry.lease != lease {
                    return Ok(false);
                }
                self.ends.insert((service, id), self.clock + entry.ttl);
                Ok(true)
            }
            Request::Remove { service, id, lease } => {
                let held = |lease: String| self.view.is_held(&service, &id, &lease) == Some(true);
                let there = self.view.is_held(&service, &id, "").is_some();
                let removed = lease.map_or(there, held);
                if removed {
                    self.remove(&service, id);
                }
                Ok(removed)
            }
            Request::Stand { seat, record, ttl } => self.stand(seat, record, ttl),
            Request::Stay { seat } => {
                self.elections.renew(seat, self.clock).then_some(true).ok_or(Refusal::Gone("candidate"))
            }
            Request::Withdraw { seat: (service, candidate) } => {
                let is_there = self.elections.contests().seat(&service, &candidate).is_some();
                if is_there {
                    self.withdraw(&service, candidate);
                }
                Ok(is_there)
            }
            Request::Join(node) => self.join(node),
            Request::Reweigh { tcp_addr, weight } => {
                if weight == 0 {
                    return Err(Refusal::Invalid("weight must be greater than 0.".to_owned()));
                }
                let node = self.joined(&tcp_addr, "node is not exist")?;
                self.change(|revision| Change::Join { revision, node: Joined { weight, ..node } });
                Ok(true)
            }
            Request::Leave { tcp_addr } => {
                let node = self.joined(&tcp_addr, "addr is not exist")?;
                self.change(|revision| Change::Leave { revision, id: node.id });
                Ok(true)
            }
            Request::Probed(outcomes) => {
                self.probed(outcomes);
                Ok(true)
            }
            Request::Tick => Ok(true),
        }
    }

    fn advance(&mut self, now: Duration) {
        self.clock += now.saturating_sub(self.seen).min(Self::LONGEST_STEP);
        self.seen = self.seen.max(now);
        let over: Vec<_> =
            self.ends.iter().filter(|(_, end)| **end <= self.clock).map(|(entry, _)| entry.clone()).collect();
        for (service, id) in over {
            self.remove(&service, id);
        }
        for (service, candidate) in self.elections.over(self.clock) {
            self.withdraw(&service, candidate);
        }
        if self.elections.opens(self.clock) {
            self.change(|revision| Change::Open { revision });
        }
    }

    fn put(
        &mut self,
        service: ServiceName,
        record: Record,
        lease: String,
        ttl: Duration,
        since: u64,
    ) -> Result<bool, Refusal> {
        record.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let before = self.view.services.get(&service).and_then(|service| service.entries.get(&record.id));
        if before.is_none() && self.instances >= Self::MOST_INSTANCES {
            return Err(Refusal::Invalid(format!("there are {} instances already", Self::MOST_INSTANCES)));
        }
        // An instance that is written again unchanged has been listed all along.
        let since = before.map_or(since, |before| before.since);
        if before == Some(&Entry { record: record.clone(), lease: lease.clone(), since, ttl }) {
            self.ends.insert((service, record.id), self.clock + ttl);
            return Ok(true);
        }
        let ttl_ms = crate::clock::millis(ttl);
        self.change(|revision| Change::Put { revision, service: service.to_string(), record, lease, ttl_ms, since });
        Ok(true)
    }

    fn remove(&mut self, service: &ServiceName, id: String) {
        self.change(|revision| Change::Remove { revision, service: service.to_string(), id });
    }

    fn stand(&mut self, seat: Key, record: Record, ttl: Duration) -> Result<bool, Refusal> {
        record.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let changed = self.elections.stand(&seat, &record, ttl, self.clock).map_err(Refusal::Invalid)?;
        if let Some(ttl) = changed {
            let ((service, candidate), ttl_ms) = (seat, crate::clock::millis(ttl));
            let service = service.to_string();
            self.change(|revision| Change::Stand { revision, service, candidate, record, ttl_ms });
        }
        Ok(true)
    }

    fn withdraw(&mut self, service: &ServiceName, candidate: String) {
        self.change(|revision| Change::Withdraw { revision, service: service.to_string(), candidate });
    }

    fn join(&mut self, node: Joined) -> Result<bool, Refusal> {
        self.view.check_join(&node)?;
        self.change(|revision| Change::Join { revision, node });
        Ok(true)
    }

    fn joined(&self, tcp_addr: &str, otherwise: &str) -> Result<Joined, Refusal> {
        let found = self.view.joined.values().find(|node| nodes::normal(&node.tcp_addr) == tcp_addr);
        found.cloned().ok_or_else(|| Refusal::Invalid(otherwise.to_owned()))
    }

    fn probed(&mut self, outcomes: Vec<(u16, String, bool)>) {
        for (id, tcp_addr, answered) in outcomes {
            // Another one may have its number by now.
            if self.view.joined.get(&id).is_none_or(|node| node.tcp_addr != tcp_addr) {
                continue;
            }
            if answered {
                self.misses.remove(&id);
                continue;
            }
            let misses = self.misses.entry(id).or_default();
            *misses += 1;
            if *misses >= MISSES {
                self.change(|revision| Change::Leave { revision, id });
            }
        }
    }

    fn change(&mut self, change: impl FnOnce(u64) -> Change) {
        let change = change(self.view.revision + 1);
        self.changes.push(change.clone());
        self.apply(change);
    }

    fn apply(&mut self, change: Change) {
        self.elections.apply(&change, self.clock);
        match change {
            Change::Store { store, revision } => {
                self.view.store = store;
                self.view.revision = self.view.revision.max(revision);
            }
            Change::Put { revision, service, record, lease, ttl_ms, since } => {
                // A node writes legal names only.
                let Ok(name) = ServiceName::new(service) else { return };
                let ttl = Duration::from_millis(ttl_ms);
                self.ends.insert((name.clone(), record.id.clone()), self.clock + ttl);
                let service = Arc::make_mut(self.view.services.entry(name).or_default());
                let entry = Entry { lease, since, ttl, record };
                self.instances += usize::from(service.entries.insert(entry.record.id.clone(), entry).is_none());
                service.modified = service.modified.max(revision);
                self.view.revision = self.view.revision.max(revision);
            }
            Change::Remove { revision, service, id } => {
                let Ok(name) = ServiceName::new(service) else { return };
                if let Some(service) = self.view.services.get_mut(&name) {
                    let service = Arc::make_mut(service);
                    self.instances -= usize::from(service.entries.remove(&id).is_some());
                    service.modified = revision;
                    if service.entries.is_empty() {
                        self.view.services.remove(&name);
                        self.view.floor = revision;
                    }
                }
                self.ends.remove(&(name, id));
                self.view.revision = self.view.revision.max(revision);
            }
            Change::Join { revision, node } => {
                Arc::make_mut(&mut self.view.joined).insert(node.id, node);
                self.view.revision = self.view.revision.max(revision);
            }
            Change::Leave { revision, id } => {
                Arc::make_mut(&mut self.view.joined).remove(&id);
                self.misses.remove(&id);
                self.view.revision = self.view.revision.max(revision);
            }
            Change::Open { revision }
            | Change::Stand { revision, .. }
            | Change::Lead { revision, .. }
            | Change::Withdraw { revision, .. } => self.view.revision = self.view.revision.max(revision),
            Change::Terms { .. } => {}
        }
    }
}

mod restore;

#[cfg(test)]
mod tests;
