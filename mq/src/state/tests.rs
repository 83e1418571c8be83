//! What happens between a push and the moment when its record is in the log.

use super::*;
use crate::Push;

const NOW: Millis = 1_767_225_600_000;

fn state() -> State {
    State::new(
        NodeId::new(1).unwrap(),
        Limits { live: 100, dead: 100, dedup: 100, topics: 10, queues: 10, configuration: 10_000 },
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
    state.copy_dedup(1, NOW + 1, &mut batch);
    assert!(state.is_free(1) && state.is_free(2), "{:?}", state.needed);
}

/// Who tries again after an answer that was lost must not hear that the queue is full: it is full of this very message.
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
