use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;

fn insert(table: &mut InFlight<u64>, ms: u64) -> u64 {
    table.insert(Duration::from_millis(ms), Waker::noop().clone())
}

fn poll(table: &mut InFlight<u64>, id: u64) -> Poll<Settled<u64>> {
    table.poll(id, Waker::noop()).map(|(settled, _)| settled)
}

fn deadline(table: &InFlight<u64>, id: u64) -> Option<Instant> {
    table.times(id).map(|times| times.deadline)
}

#[test]
fn a_late_answer_never_reaches_the_next_call() {
    let mut table = InFlight::default();
    let first = insert(&mut table, 1);
    assert!(table.remove(first));
    let second = insert(&mut table, 1);
    assert_eq!(index(first), index(second), "the slot is used again");
    assert!(second > first);
    assert!(table.complete(first, 1).is_none());
    assert!(poll(&mut table, second).is_pending());
    assert!(table.complete(second, 2).is_some());
    assert!(table.complete(second, 3).is_none(), "the first answer counts");
    assert_eq!(poll(&mut table, second), Poll::Ready(Settled::Answer(2)));
    assert!(table.is_empty());
}

#[test]
fn deadlines_are_found_and_settled() {
    let (mut table, start) = (InFlight::default(), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    let (late, soon) = (insert(&mut table, 20), insert(&mut table, 10));
    assert!(table.expire(at(50)).0.is_empty(), "their time has not begun");
    assert_eq!((table.earliest(), deadline(&table, soon), table.has_new()), (None, None, true));
    table.begin(start);
    table.begin(at(5));
    assert_eq!((deadline(&table, soon), deadline(&table, late), table.has_new()), (Some(at(10)), Some(at(20)), false));
    assert_eq!(table.earliest(), Some(at(10)));
    assert_eq!((table.expire(at(10)).0.len(), table.expire(at(10)).1), (1, None));
    assert_eq!(poll(&mut table, soon), Poll::Ready(Settled::Overdue));
    assert!(poll(&mut table, late).is_pending());
    assert_eq!(table.earliest(), Some(at(20)));
    let (woken, oldest) = table.expire(at(30));
    assert_eq!((woken.len(), oldest), (1, Some(start)));
    assert_eq!(table.earliest(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Answer(prop::sample::Index),
    AnswerAgain(prop::sample::Index),
    Take(prop::sample::Index),
    Remove(prop::sample::Index),
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        4 => Just(Step::Insert),
        3 => index().prop_map(Step::Answer),
        2 => index().prop_map(Step::AnswerAgain),
        4 => index().prop_map(Step::Take),
        2 => index().prop_map(Step::Remove),
        1 => Just(Step::Lose),
    ]
}

proptest! {
    /// Against a model that never uses an id twice: every call gets its own answer or none.
    #[test]
    fn answers_reach_their_own_call(steps in prop::collection::vec(step(), 1..200)) {
        let mut table = InFlight::default();
        let mut model: HashMap<u64, Option<Settled<u64>>> = HashMap::new();
        let mut all = Vec::new();
        for step in steps {
            match step {
                Step::Insert => {
                    let id = insert(&mut table, 1);
                    prop_assert!(all.last().is_none_or(|last| *last < id), "ids rise");
                    prop_assert!(model.insert(id, None).is_none());
                    all.push(id);
                }
                Step::Answer(at) | Step::AnswerAgain(at) if !all.is_empty() => {
                    let id = *at.get(&all);
                    let expected = matches!(model.get(&id), Some(None));
                    prop_assert_eq!(table.complete(id, id).is_some(), expected);
                    if expected {
                        model.insert(id, Some(Settled::Answer(id)));
                    }
                }
                Step::Take(at) if !model.is_empty() => {
                    let mut ids: Vec<_> = model.keys().copied().collect();
                    ids.sort_unstable();
                    let id = *at.get(&ids);
                    match poll(&mut table, id) {
                        Poll::Pending => prop_assert!(model[&id].is_none()),
                        Poll::Ready(settled) => prop_assert_eq!(model.remove(&id).unwrap(), Some(settled)),
                    }
                }
                Step::Remove(at) if !all.is_empty() => {
                    let id = *at.get(&all);
                    prop_assert_eq!(table.remove(id), matches!(model.remove(&id), Some(None)));
                }
                Step::Lose => {
                    let waiting = model.values().filter(|state| state.is_none()).count();
                    let woken = table.settle_all(|id| Some(Settled::Lost { sent: id % 2 == 0 }));
                    prop_assert_eq!(woken.len(), waiting);
                    for (id, state) in model.iter_mut().filter(|(_, state)| state.is_none()) {
                        *state = Some(Settled::Lost { sent: id % 2 == 0 });
                    }
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
