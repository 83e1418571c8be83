use proptest::prelude::*;

use super::*;
use crate::state::{Refusal, Request, State};

const LONGEST: Duration = Duration::from_secs(10);
const START: u64 = 1_000;

fn goods() -> ServiceName {
    "goods".parse().unwrap()
}

fn seat(candidate: &str) -> Key {
    (goods(), candidate.to_owned())
}

fn record(port: u16) -> Record {
    let id = format!("10.0.0.1:{port}");
    Record { id, host: "10.0.0.1".into(), port, weight: 1.0, metadata: BTreeMap::new() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A node in made-up time.
struct Lab {
    state: State,
    now: Duration,
    /// Since the store is there.
    log: Vec<Change>,
}

impl Lab {
    /// A new store.
    fn new() -> Self {
        let mut state = State::replay(vec![], 7, Elections::new(LONGEST, START));
        let log = state.as_changes();
        assert!(state.take_changes().is_empty());
        Self { state, now: Duration::ZERO, log }
    }

    /// A lab whose store is open.
    fn open() -> Self {
        let mut lab = Self::new();
        lab.pass(LONGEST);
        assert!(lab.state.view().contests.open);
        lab
    }

    fn ask(&mut self, request: Request) -> Result<bool, Refusal> {
        let done = self.state.handle(request, self.now);
        self.log.extend(self.state.take_changes());
        done
    }

    /// As a running node sees it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + millis(250)).min(end);
            self.ask(Request::Tick).unwrap();
        }
    }

    fn stand_for(&mut self, candidate: &str, ttl: Duration) {
        self.ask(Request::Stand { seat: seat(candidate), record: record(1), ttl }).unwrap();
    }

    fn stand(&mut self, candidate: &str) {
        self.stand_for(candidate, LONGEST);
    }

    fn stay(&mut self, candidate: &str) -> Result<bool, Refusal> {
        self.ask(Request::Stay { seat: seat(candidate) })
    }

    fn withdraw(&mut self, candidate: &str) -> bool {
        self.ask(Request::Withdraw { seat: seat(candidate) }).unwrap()
    }

    /// All candidates in their order; leaders with their tokens.
    fn queue(&self) -> Vec<(String, Option<u64>)> {
        queue(&self.state)
    }

    fn master(&self) -> Option<(String, Record, u64)> {
        let view = self.state.view();
        let (seat, token) = view.contests.contest(&goods())?.master()?;
        Some((seat.candidate.clone(), seat.record.clone(), token))
    }

    fn turned(&mut self) -> Vec<String> {
        self.state.take_turned().into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// The node is killed and started again.
    fn restart(&mut self) {
        self.restart_at(START);
    }

    /// Restarts at another time of the day.
    fn restart_at(&mut self, time: u64) {
        self.state = State::replay(self.log.clone(), 1, Elections::new(LONGEST, time));
        self.now = Duration::ZERO;
        self.log = self.state.as_changes();
    }
}

fn queue(state: &State) -> Vec<(String, Option<u64>)> {
    let view = state.view();
    let seats = view.contests.contest(&goods()).map(|contest| contest.seats.clone()).unwrap_or_default();
    seats.into_iter().map(|seat| (seat.candidate, seat.token)).collect()
}

fn queued<'a>(first: (&'a str, u64), others: &[&'a str]) -> Vec<(String, Option<u64>)> {
    let others = others.iter().map(|other| ((*other).to_owned(), None));
    std::iter::once((first.0.to_owned(), Some(first.1))).chain(others).collect()
}

#[test]
fn the_first_leads_and_the_others_follow_in_their_order() {
    let mut lab = Lab::open();
    for candidate in ["a", "b", "c"] {
        lab.stand(candidate);
    }
    assert_eq!(lab.queue(), queued(("a", START + 1), &["b", "c"]));
    assert_eq!(lab.master(), Some(("a".to_owned(), record(1), START + 1)));
    assert!(lab.withdraw("a"));
    assert_eq!(lab.queue(), queued(("b", START + 2), &["c"]));
    lab.stand("a");
    assert!(lab.withdraw("c") && !lab.withdraw("c"), "who goes from the middle changes nothing for others");
    assert_eq!(lab.queue(), queued(("b", START + 2), &["a"]));
    assert!(lab.withdraw("b") && lab.withdraw("a"));
    assert_eq!(lab.queue(), []);
    lab.stand("d");
    assert_eq!(lab.queue(), queued(("d", START + 4), &[]), "no token comes twice");
}

#[test]
fn who_campaigns_again_keeps_its_place_and_its_term() {
    let mut lab = Lab::open();
    for candidate in ["a", "b", "c", "a", "b"] {
        lab.stand(candidate);
    }
    let before = (lab.queue(), lab.state.view().revision);
    assert_eq!(before.0, queued(("a", START + 1), &["b", "c"]));
    lab.stand("a");
    assert_eq!((lab.queue(), lab.state.view().revision), before);
    lab.ask(Request::Stand { seat: seat("a"), record: record(2), ttl: LONGEST }).unwrap();
    assert_eq!(lab.queue(), before.0);
    assert_eq!(lab.master(), Some(("a".to_owned(), record(2), START + 1)));
    let view = lab.state.view();
    assert_eq!(view.contests.modified(&goods()), view.revision, "who follows sees what it says of itself now");
}

#[test]
fn a_lease_ends_unless_it_is_renewed_and_no_wish_makes_it_longer_than_the_longest() {
    let mut lab = Lab::open();
    lab.stand_for("a", seconds(3_600));
    lab.stand_for("b", seconds(4));
    lab.stand_for("c", seconds(20));
    lab.pass(millis(3_999));
    lab.stay("c").unwrap();
    assert_eq!(lab.queue(), queued(("a", START + 1), &["b", "c"]));
    lab.pass(millis(1));
    assert_eq!(lab.queue(), queued(("a", START + 1), &["c"]), "b was never renewed");
    lab.pass(millis(5_999));
    assert_eq!(lab.queue(), queued(("a", START + 1), &["c"]));
    lab.pass(millis(1));
    assert_eq!(lab.queue(), queued(("c", START + 2), &[]));
    assert_eq!(lab.stay("a"), Err(Refusal::Gone("candidate")));
    lab.pass(millis(3_999));
    assert!(lab.queue().is_empty());
}

#[test]
fn a_pause_of_the_node_ends_no_term() {
    let mut lab = Lab::open();
    lab.stand("a");
    lab.stand("b");
    lab.now += seconds(3_600);
    lab.ask(Request::Tick).unwrap();
    assert_eq!(lab.queue(), queued(("a", START + 1), &["b"]), "one second was counted");
}

#[test]
fn a_new_store_elects_nobody_for_one_longest_lease() {
    let mut lab = Lab::new();
    lab.stand("a");
    lab.stand("b");
    for _ in 0..39 {
        lab.pass(millis(250));
        lab.stand("a");
        lab.stay("b").unwrap();
        assert!(!lab.state.view().contests.open);
        assert_eq!(lab.queue(), [("a".to_owned(), None), ("b".to_owned(), None)]);
    }
    // Started again, it has waited for nothing yet; and a pause counts as little as it does for leases.
    lab.restart();
    lab.now += seconds(3_600);
    lab.ask(Request::Tick).unwrap();
    lab.pass(millis(8_999));
    lab.stay("b").unwrap();
    assert_eq!(lab.queue().len(), 2);
    assert!(lab.queue().iter().all(|(_, token)| token.is_none()));
    lab.pass(millis(1));
    assert_eq!(lab.queue(), queued(("b", START + 1), &[]), "a has gone meanwhile: it did not renew");
    // The store waits only once.
    lab.restart();
    lab.stand("c");
    assert!(lab.withdraw("b"));
    assert_eq!(lab.queue(), queued(("c", START + 2), &[]));
}

#[test]
fn a_store_of_before_there_were_elections_is_new_to_them() {
    let changes = vec![Change::Store { store: 9, revision: 3 }];
    let mut state = State::replay(changes, 1, Elections::new(LONGEST, START));
    let stand = Request::Stand { seat: seat("a"), record: record(1), ttl: LONGEST };
    state.handle(stand, Duration::ZERO).unwrap();
    assert_eq!(queue(&state), [("a".to_owned(), None)]);
    assert_eq!((state.view().store, state.view().revision), (9, 4));
}

#[test]
fn a_restart_keeps_the_queue_and_the_tokens_and_begins_each_lease_anew() {
    let mut lab = Lab::open();
    for candidate in ["x", "a", "b", "c"] {
        lab.stand(candidate);
    }
    lab.withdraw("x");
    lab.withdraw("b");
    lab.pass(millis(9_999));
    let before = (lab.queue(), lab.state.view());
    lab.restart();
    assert_eq!(lab.queue(), before.0);
    let view = lab.state.view();
    assert_eq!((view.store, view.revision), (before.1.store, before.1.revision));
    assert_eq!(lab.turned(), [""; 0], "nothing has happened since");
    lab.pass(millis(9_999));
    assert_eq!(lab.queue(), before.0);
    lab.stay("c").unwrap();
    lab.pass(millis(1));
    assert_eq!(lab.queue(), queued(("c", START + 3), &[]));
    lab.withdraw("c");
    // Only the counter is left of all the terms.
    lab.restart();
    lab.restart_at(0);
    lab.stand("d");
    assert_eq!(lab.queue(), queued(("d", START + 4), &[]), "a clock that was set back takes nothing back");
    lab.withdraw("d");
    lab.restart_at(2 * START);
    lab.stand("e");
    assert_eq!(lab.queue(), queued(("e", 2 * START + 1), &[]), "as if the end of the log was lost");
}

/// A crash may leave a part of one write.
#[test]
fn a_term_whose_beginning_was_cut_off_begins_after_the_restart() {
    let mut lab = Lab::open();
    lab.stand("a");
    lab.stand("b");
    lab.withdraw("a");
    assert!(matches!(lab.log.pop(), Some(Change::Lead { .. })));
    lab.restart();
    assert_eq!(lab.queue(), [("b".to_owned(), None)]);
    lab.ask(Request::Tick).unwrap();
    assert_eq!(lab.queue(), queued(("b", START + 2), &[]));
}

#[test]
fn each_is_told_of_its_own_turn_alone() {
    let mut lab = Lab::open();
    for candidate in ["a", "b", "c", "d"] {
        lab.stand(candidate);
    }
    assert_eq!(lab.turned(), ["a"]);
    lab.stay("b").unwrap();
    lab.stand("a");
    assert_eq!(lab.turned(), [""; 0]);
    lab.withdraw("c");
    assert_eq!(lab.turned(), ["c"]);
    lab.withdraw("a");
    assert_eq!(lab.turned(), ["a", "b"]);
    assert!(lab.state.is_at(&seat("b"), Some(START + 2)) && lab.state.is_at(&seat("d"), None));
    assert!(!lab.state.is_at(&seat("b"), None) && !lab.state.is_at(&seat("a"), None));
}

#[test]
fn revisions_tell_when_who_leads_has_changed() {
    let mut lab = Lab::open();
    let modified = |lab: &Lab| lab.state.view().contests.modified(&goods());
    let nobody = modified(&lab);
    lab.stand("a");
    let first = modified(&lab);
    assert!(first > nobody);
    lab.stand("b");
    lab.stand("c");
    lab.withdraw("b");
    lab.ask(Request::Stand { seat: ("orders".parse().unwrap(), "o".into()), record: record(1), ttl: LONGEST }).unwrap();
    assert_eq!(modified(&lab), first, "who waits is nothing to those who follow");
    lab.withdraw("a");
    let second = modified(&lab);
    assert!(second > first);
    lab.withdraw("c");
    assert!(modified(&lab) > second, "the end of the last one is seen too");
}

#[test]
fn what_cannot_be_dialled_does_not_campaign() {
    let mut lab = Lab::open();
    let record = Record { host: "0.0.0.0".into(), ..record(1) };
    let refused = lab.ask(Request::Stand { seat: seat("a"), record, ttl: LONGEST });
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    assert!(lab.queue().is_empty());
}

/// Event of a simulation. Candidates are numbers below [`CANDIDATES`].
#[derive(Clone, Copy, Debug)]
enum Event {
    Stand(usize),
    Stay(usize),
    Withdraw(usize),
    Pass(u64),
    Pause(u64),
    Restart,
    /// The disk is lost.
    NewStore,
}

const CANDIDATES: usize = 5;
const NAMES: [&str; CANDIDATES] = ["a", "b", "c", "d", "e"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..CANDIDATES).prop_map(Event::Stand),
        6 => (0..CANDIDATES).prop_map(Event::Stay),
        2 => (0..CANDIDATES).prop_map(Event::Withdraw),
        6 => (1_u64..6_000).prop_map(Event::Pass),
        1 => (1_u64..60_000).prop_map(Event::Pause),
        1 => Just(Event::Restart),
        1 => Just(Event::NewStore),
    ]
}

proptest! {
    /// Each candidate believes in its term as a client does: for two thirds of its lease from when it asked. Time is that of the
    /// world: it goes on while the node is paused or down.
    #[test]
    fn never_do_two_believe_that_they_lead(events in prop::collection::vec(event(), 1..80)) {
        let mut lab = Lab::new();
        let mut world = Duration::ZERO;
        // Until when each of them believes, and by which token.
        let mut beliefs: [Option<(Duration, u64)>; CANDIDATES] = [None; CANDIDATES];
        let mut highest = 0;
        for event in events {
            match event {
                Event::Stand(index) => lab.stand(NAMES[index]),
                Event::Stay(index) => drop(lab.stay(NAMES[index])),
                Event::Withdraw(index) => {
                    beliefs[index] = None;
                    lab.withdraw(NAMES[index]);
                }
                Event::Pass(time) => {
                    lab.pass(millis(time));
                    world += millis(time);
                }
                Event::Pause(time) => {
                    lab.now += millis(time);
                    world += millis(time);
                    lab.ask(Request::Tick).unwrap();
                }
                Event::Restart => lab.restart(),
                Event::NewStore => {
                    let last = lab.state.as_changes().into_iter().find_map(|change| match change {
                        Change::Terms { token } => Some(token),
                        _ => None,
                    });
                    // The clock went on by more than one for each term.
                    lab = Lab::new();
                    lab.state = State::replay(vec![], 8, Elections::new(LONGEST, last.unwrap() + 1));
                    lab.log = lab.state.as_changes();
                }
            }
            let queue = lab.queue();
            prop_assert!(queue.iter().skip(1).all(|(_, token)| token.is_none()), "none but the first leads: {queue:?}");
            let open = lab.state.view().contests.open;
            prop_assert!(!open || queue.first().is_none_or(|(_, token)| token.is_some()) || matches!(event, Event::Restart));
            // The answer tells the candidate's place.
            if let Event::Stand(index) | Event::Stay(index) = event {
                let token = queue.iter().find(|(name, _)| name == NAMES[index]).and_then(|(_, token)| *token);
                beliefs[index] = token.map(|token| (world + LONGEST * 2 / 3, token));
                if let Some(token) = token {
                    highest = highest.max(token);
                    prop_assert_eq!(token, highest, "tokens grow with the terms");
                }
            }
            let believers: Vec<_> =
                NAMES.iter().zip(&beliefs).filter(|(_, belief)| belief.is_some_and(|(end, _)| world < end)).collect();
            prop_assert!(believers.len() <= 1, "{believers:?} at {world:?}");
        }
    }

    /// Wherever the log ends, what is read of it is a state that it had; and the same is written anew.
    #[test]
    fn a_log_leads_to_the_state_that_wrote_it(events in prop::collection::vec(event(), 1..24)) {
        let mut lab = Lab::new();
        let mut states = vec![(lab.log.len(), lab.queue(), 0)];
        for event in events {
            match event {
                Event::Stand(index) => lab.stand(NAMES[index]),
                Event::Stay(index) => drop(lab.stay(NAMES[index])),
                Event::Withdraw(index) => drop(lab.withdraw(NAMES[index])),
                Event::Pass(time) | Event::Pause(time) => lab.pass(millis(time)),
                Event::Restart | Event::NewStore => {}
            }
            states.push((lab.log.len(), lab.queue(), lab.state.view().revision));
        }
        for (length, queue, revision) in states {
            let read = State::replay(lab.log[..length].to_vec(), 1, Elections::new(LONGEST, 0));
            let again = State::replay(read.as_changes(), 1, Elections::new(LONGEST, 0));
            for state in [&read, &again] {
                prop_assert_eq!(self::queue(state), queue.clone());
                prop_assert_eq!((state.view().store, state.view().revision), (7, revision));
            }
            prop_assert_eq!(read.as_changes(), again.as_changes());
        }
    }
}
