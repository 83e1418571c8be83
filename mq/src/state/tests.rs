//! Between a push and the moment when its record is in the log; and work on many messages.

use super::*;

use crate::{Mode, Push, Settings};

const DEFAULT_TTR: Millis = 30_000;

const NOW: Millis = 1_767_225_600_000;

fn state() -> State {
    State::new(
        NodeId::new(1).unwrap(),
        Limits { live: 100_000, dead: 100_000, dedup: 100, topics: 10, queues: 10, configuration: 10_000 },
    )
}

fn push(state: &mut State, push: Push, now: Millis, batch: &mut Batch) -> Pending {
    match state.push_one(push, now, batch).unwrap() {
        Pushed::New(pending) => pending,
        Pushed::Duplicate(id) => panic!("{id} is a duplicate"),
    }
}

/// The log says first that it was pushed, and then that the queue was purged: so must the memory.
#[test]
fn a_purge_takes_what_is_on_its_way() {
    let (mut state, mut batch) = (state(), Batch::default());
    let before = push(&mut state, Push::new("t", b"before".to_vec()), NOW, &mut batch);
    state.purge("t", "default", NOW, &mut batch).unwrap();
    let after = push(&mut state, Push::new("t", b"after".to_vec()), NOW, &mut batch);
    state.commit(&before, 1, 4096, NOW);
    state.commit(&after, 1, 4096, NOW);
    let number = state.queue_number("t", "default").unwrap();
    let handed = state.pop(number, 10, usize::MAX, NOW, &mut batch).unwrap();
    assert_eq!(handed.iter().map(|handed| handed.id).collect::<Vec<_>>(), [after.id]);
    assert_eq!((state.live(), state.queue(number).unwrap().length()), (1, 1));
}

/// A key may have expired, and be another message's, before its own is in the log.
#[test]
fn a_key_that_was_given_again_holds_no_segment() {
    let (mut state, mut batch) = (state(), Batch::default());
    let settings = Settings { dedup_window_ms: Some(0), ..Settings::default() };
    state.configure("t", &settings, NOW, &mut batch).unwrap();
    let keyed = || Push { dedup: Some("key".to_owned()), ..Push::new("t", b"job".to_vec()) };
    let first = push(&mut state, keyed(), NOW, &mut batch);
    let second = push(&mut state, keyed(), NOW, &mut batch);
    for (pending, segment) in [(&first, 1), (&second, 2)] {
        state.commit(pending, segment, 4096, NOW);
        let number = state.queue_number("t", "default").unwrap();
        state.finish(number, pending.id, &mut batch);
    }
    state.forget_dedup(NOW + 1);
    assert!(state.is_free(1) && state.is_free(2), "{:?}", state.needed);
}

/// A producer that tries again after its answer was lost must not hear that the queue is full: it is full of this very message.
#[test]
fn a_duplicate_is_taken_though_there_is_no_room() {
    let (mut state, mut batch) = (state(), Batch::default());
    let settings = Settings { max_length: Some(1), ..Settings::default() };
    state.configure("t", &settings, NOW, &mut batch).unwrap();
    let keyed = |key: &str| Push { dedup: Some(key.to_owned()), ..Push::new("t", b"job".to_vec()) };
    let first = push(&mut state, keyed("one"), NOW, &mut batch);
    for again in state.push_all(vec![keyed("one"), keyed("one")], NOW, &mut batch).unwrap() {
        assert!(matches!(again, Pushed::Duplicate(id) if id == first.id));
    }
    let full = MqError::Full { queue: "default".to_owned(), length: 1, most: 1 };
    assert_eq!(state.push_one(keyed("two"), NOW, &mut batch).unwrap_err(), full);

    // Nor may the queue that a push makes be longer than the topic allows.
    state.configure("new", &settings, NOW, &mut batch).unwrap();
    let two = vec![Push::new("new", b"1".to_vec()), Push::new("new", b"2".to_vec())];
    let full = MqError::Full { queue: "default".to_owned(), length: 0, most: 1 };
    assert_eq!(state.push_all(two, NOW, &mut batch).unwrap_err(), full);
}

/// A queue of delayed messages, all of them due at the same moment.
fn delayed(count: usize) -> (State, QueueNumber, Batch) {
    let (mut state, mut batch) = (state(), Batch::default());
    for n in 0..count {
        let job = Push { delay_ms: 1000, priority: (n % 3) as u8, ..Push::new("t", b"job".to_vec()) };
        let pending = push(&mut state, job, NOW, &mut batch);
        state.commit(&pending, 1, 4096, NOW);
    }
    let number = state.queue_number("t", "default").unwrap();
    (state, number, batch)
}

#[test]
fn many_that_are_due_at_once_are_moved_in_steps_before_the_first_is_handed_out() {
    let (mut state, number, mut batch) = delayed(2 * STEP + 5);
    let later = NOW + 1000;
    for moved in [STEP, 2 * STEP] {
        assert!(state.pop(number, 1, usize::MAX, later, &mut batch).is_none());
        assert_eq!(state.queue(number).unwrap().counts().ready, moved as u64);
    }
    let handed = state.pop(number, 3, usize::MAX, later, &mut batch).unwrap();
    assert_eq!(handed.len(), 3);
    let priorities = handed.iter().map(|handed| state.queue(number).unwrap().get(handed.id).unwrap().priority);
    assert!(priorities.eq([2; 3]), "by priority, among all that are due");
}

#[test]
fn many_leases_that_end_at_once_end_in_steps() {
    let (mut state, number, _) = delayed(2 * STEP + 5);
    let (later, mut batch) = (NOW + 1000, Batch::default());
    while !state.advance(number, later, &mut batch) {}
    assert_eq!(state.pop(number, usize::MAX, usize::MAX, later, &mut batch).unwrap().len(), 2 * STEP + 5);
    let (later, mut steps) = (later + DEFAULT_TTR, 0);
    while !state.advance(number, later, &mut Batch::default()) {
        steps += 1;
    }
    assert_eq!((steps, state.queue(number).unwrap().counts().ready), (2, 2 * STEP as u64 + 5));
}

#[test]
fn a_purge_of_many_is_released_in_steps_and_counts_at_once() {
    let (mut state, number, mut batch) = delayed(2 * STEP + 5);
    state.limits.live = 2 * STEP as u64 + 5;
    assert_eq!(state.purge("t", "default", NOW, &mut batch), Ok(2 * STEP as u64 + 5));
    assert_eq!(state.queue(number).unwrap().length(), 0);
    assert!(!state.is_free(1), "cleaning waits for it");
    push(&mut state, Push::new("t", b"more".to_vec()), NOW, &mut batch);
    for left in [STEP as u64 + 5, 5] {
        assert!(!state.release_some().1);
        assert_eq!(state.live(), left);
    }
    assert!(state.release_some().1);
    assert_eq!((state.live(), state.live_bytes(), state.is_free(1)), (0, 0, true));
}

#[test]
fn a_redrive_of_many_is_done_in_steps() {
    let (mut state, number, mut batch) = delayed(STEP + 5);
    let settings = Settings { max_retries: Some(0), ..Settings::default() };
    state.configure("t", &settings, NOW, &mut batch).unwrap();
    let mut later = NOW + 1000;
    while !state.advance(number, later, &mut batch) {}
    state.pop(number, usize::MAX, usize::MAX, later, &mut batch).unwrap();
    later += DEFAULT_TTR;
    while !state.advance(number, later, &mut Batch::default()) {}
    let letters: Vec<_> = state.queue(number).unwrap().free_letters().map(|(_, id)| id).collect();
    assert_eq!(letters.len(), STEP + 5);
    assert_eq!(state.redrive(number, Some(&letters[..3]), later, &mut batch), 3);
    assert_eq!(state.redrive(number, Some(&letters[..4]), later, &mut batch), 1, "the others are ready by now");
    assert_eq!(state.redrive(number, None, later, &mut batch), STEP as u64);
    assert_eq!(state.redrive(number, None, later, &mut batch), 1);
}

/// However many dead letters there are, their reasons take bounded memory.
#[test]
fn reasons_are_short_when_there_are_many() {
    let (mut state, number, mut batch) = delayed(3);
    let settings = Settings { max_retries: Some(0), ..Settings::default() };
    state.configure("t", &settings, NOW, &mut batch).unwrap();
    let later = NOW + 1000;
    while !state.advance(number, later, &mut batch) {}
    let reason = "x".repeat(5000);
    let mut lengths = Vec::new();
    for handed in state.pop(number, 3, usize::MAX, later, &mut batch).unwrap() {
        let leased = Leased { queue: number, id: handed.id, lease: handed.lease };
        state.nack(leased, 0, &reason, later, &mut batch).unwrap();
        lengths.push(state.queue(number).unwrap().dead_reason(handed.id).unwrap().len());
        state.totals.reasons += 40 << 20;
    }
    assert!(lengths[0] > 1024 && lengths[1] > 1024 && lengths[2] < 128, "{lengths:?}");
}

/// A pattern that the node has not compiled ahead is compiled; a known pattern is not.
#[test]
fn patterns_are_compiled_ahead() {
    let (mut state, mut batch) = (state(), Batch::default());
    let fuzzy = Settings { mode: Some(Mode::Fuzzy), ..Settings::default() };
    state.declare("t", "one", NOW, &mut batch).unwrap();
    let job = Push::new("t", b"job".to_vec()).to("o.e");
    assert!(state.uncompiled(std::slice::from_ref(&job)).is_empty(), "an exact key is no pattern");
    state.configure("t", &fuzzy, NOW, &mut batch).unwrap();
    assert_eq!(state.uncompiled(std::slice::from_ref(&job)), ["o.e"]);
    state.know(vec![("o.e".to_owned(), crate::route::compile("o.e"))]);
    assert!(state.uncompiled(std::slice::from_ref(&job)).is_empty());
    push(&mut state, job, NOW, &mut batch);
}
