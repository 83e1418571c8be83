//! Back to what is on the disk.

use super::{State, View};

impl State {
    /// Takes back whatever was done since this view. A lease that has ended meanwhile runs for its whole time again: its
    /// instance is listed for as long as nobody can write that it is not.
    pub(crate) fn restore(&mut self, view: &View) {
        self.view = view.clone();
        self.changes.clear();
        let services = &self.view.services;
        self.instances = services.values().map(|service| service.entries.len()).sum();
        let is_listed =
            |(service, id): &(_, String)| services.get(service).is_some_and(|service| service.entries.contains_key(id));
        self.ends.retain(|entry, _| is_listed(entry));
        for (name, service) in services {
            for (id, entry) in &service.entries {
                self.ends.entry((name.clone(), id.clone())).or_insert(self.clock + entry.ttl);
            }
        }
        self.elections.restore(&self.view.contests, self.clock);
        self.misses.retain(|id, _| self.view.joined.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        elections::Elections,
        record::{Joined, Record},
        state::Request,
    };

    fn put(port: u16, lease: &str) -> Request {
        let record = Record {
            id: port.to_string(),
            host: "h".into(),
            port,
            weight: 1.0,
            metadata: std::collections::BTreeMap::new(),
        };
        let (service, lease) = ("goods".parse().unwrap(), lease.to_owned());
        Request::Put { service, record, lease, ttl: Duration::from_secs(10), since: 7 }
    }

    /// Listed instances, each with its lease.
    fn listed(state: &State) -> Vec<(String, String)> {
        let (view, goods) = (state.view(), "goods".parse().unwrap());
        let entries = view.entries(&goods);
        entries.map(|entry| (entry.record.id.clone(), entry.lease.clone())).collect()
    }

    #[test]
    fn what_could_not_be_written_is_as_if_it_had_not_been() {
        let mut state = State::replay(vec![], 1, Elections::new(Duration::from_secs(3600), 0));
        let node = Joined { id: 1, http_addr: String::new(), tcp_addr: "h:1".into(), since: 7, weight: 1 };
        for request in [put(1, "a"), put(2, "a"), Request::Join(node)] {
            state.handle(request, Duration::ZERO).unwrap();
        }
        state.take_changes();
        let (before, view) = (listed(&state), state.view());
        // Both leases end meanwhile, a second at a time.
        (1..=10).for_each(|second| _ = state.handle(Request::Tick, Duration::from_secs(second)));
        for request in [put(3, "a"), put(2, "b"), Request::Leave { tcp_addr: "h:1".into() }] {
            state.handle(request, Duration::from_secs(10)).unwrap();
        }
        assert!(state.is_changed() && listed(&state) != before);

        state.restore(&view);
        assert!(!state.is_changed());
        assert_eq!((listed(&state), state.view().revision, state.view().joined.len()), (before.clone(), 3, 1));
        assert_eq!(state.instances, 2);
        // The same request is a change again, and the leases run for their whole time.
        assert_eq!(state.handle(put(3, "a"), Duration::from_secs(10)), Ok(true));
        assert_eq!(state.take_changes().len(), 1);
        (11..20).for_each(|second| _ = state.handle(Request::Tick, Duration::from_secs(second)));
        assert_eq!(listed(&state).len(), 3);
        state.handle(Request::Tick, Duration::from_secs(20)).unwrap();
        assert_eq!(listed(&state), []);
    }

    #[test]
    fn a_term_whose_end_could_not_be_written_goes_on() {
        let mut state = State::replay(vec![], 1, Elections::new(Duration::from_secs(2), 100));
        let goods: ms_register::ServiceName = "goods".parse().unwrap();
        let mut second = 0;
        let mut pass = |state: &mut State, requests: Vec<Request>| {
            second += 1;
            for request in [vec![Request::Tick], requests].concat() {
                state.handle(request, Duration::from_secs(second)).unwrap();
            }
        };
        let master = |state: &State| {
            let view = state.view();
            let (seat, token) = view.contests.contest(&goods)?.master()?;
            Some((seat.candidate.clone(), token))
        };
        let Request::Put { record, .. } = put(1, "a") else { unreachable!() };
        let key = |name: &str| (goods.clone(), name.to_owned());
        let stand = |name| Request::Stand { seat: key(name), record: record.clone(), ttl: Duration::from_secs(2) };
        let stay = |name| Request::Stay { seat: key(name) };
        pass(&mut state, vec![stand("first"), stand("second")]);
        pass(&mut state, vec![stay("first"), stay("second")]);
        assert_eq!(master(&state), Some(("first".to_owned(), 101)));
        state.take_changes();
        state.take_turned();
        let view = state.view();
        // The first one falls silent, and nobody can write it down.
        pass(&mut state, vec![stay("second")]);
        pass(&mut state, vec![stay("second")]);
        assert_eq!(master(&state), Some(("second".to_owned(), 102)));
        state.restore(&view);
        assert_eq!((master(&state), state.take_turned().len()), (Some(("first".to_owned(), 101)), 0));
        // Its lease runs anew; when it ends again and that is written, the next one leads, by a token that nobody has seen.
        pass(&mut state, vec![stay("second")]);
        assert_eq!(master(&state), Some(("first".to_owned(), 101)));
        pass(&mut state, vec![stay("second")]);
        assert_eq!(master(&state), Some(("second".to_owned(), 103)));
        assert_eq!(state.take_turned(), [key("first"), key("second")]);
        // A queue that stood at the time stands again, in its order.
        pass(&mut state, vec![stand("third"), Request::Withdraw { seat: key("second") }]);
        state.restore(&view);
        assert_eq!(master(&state), Some(("first".to_owned(), 101)));
        pass(&mut state, vec![Request::Withdraw { seat: key("first") }]);
        assert_eq!(master(&state), Some(("second".to_owned(), 105)));
    }
}
