use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Piece {
    Copied(Vec<u8>),
    Handed(Vec<u8>),
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![bytes().prop_map(Piece::Copied), bytes().prop_map(Piece::Handed)]
}

fn build(pieces: &[Piece]) -> (FrameBuf, Vec<u8>) {
    let (mut buffer, mut model) = (FrameBuf::default(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Copied(bytes) => {
                buffer.data().extend_from_slice(bytes);
                model.extend_from_slice(bytes);
            }
            Piece::Handed(bytes) => {
                buffer.hand_off(bytes.clone().into());
                model.extend_from_slice(bytes);
            }
        }
    }
    (buffer, model)
}

#[test]
fn many_copied_bytes_become_a_segment() {
    let (mut buffer, mut expected) = (FrameBuf::default(), Vec::new());
    for n in 0..20u8 {
        let piece = vec![n; 50_000];
        buffer.data().extend_from_slice(&piece);
        expected.extend_from_slice(&piece);
        if n == 15 {
            buffer.hand_off(vec![99; 10].into());
            expected.extend_from_slice(&[99; 10]);
        }
        buffer.seal();
        assert!(buffer.capacity() <= 2 * KEEP + 50_000 || n > 15);
    }
    assert_eq!(buffer.to_bytes(), expected);
}

proptest! {
    #[test]
    fn it_is_one_sequence_of_bytes(
        first in prop::collection::vec(piece(), 0..6),
        second in prop::collection::vec(piece(), 0..6),
        skip in 0usize..100,
        room in 1usize..8,
    ) {
        let (mut buffer, mut model) = build(&first);
        let mark = buffer.mark();
        let (mut other, tail) = build(&second);
        buffer.append(&mut other);
        model.extend_from_slice(&tail);
        prop_assert!(other.is_empty());
        prop_assert_eq!(buffer.len(), model.len());
        prop_assert_eq!(buffer.to_bytes(), model.clone());
        let mut slices = vec![IoSlice::new(&[]); room];
        let filled = buffer.slices(skip, &mut slices);
        let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        prop_assert!(model[skip.min(model.len())..].starts_with(&seen));
        prop_assert!(filled == room || seen.len() == model.len().saturating_sub(skip));
        let (mut rest, mut end) = build(&first);
        end.extend_from_slice(&tail);
        rest.append(&mut build(&second).0);
        let skip = skip.min(end.len());
        rest.advance(skip);
        prop_assert_eq!(rest.len(), end.len() - skip);
        prop_assert_eq!(rest.to_bytes(), &end[skip..]);
        if !first.is_empty() {
            prop_assert_eq!(buffer.since(mark), tail.len());
            buffer.truncate(mark);
            prop_assert_eq!(buffer.len(), model.len() - tail.len());
        }
    }
}

#[test]
fn what_does_not_go_out_is_heard_of() {
    use std::sync::{Arc, Mutex};
    let heard = Arc::new(Mutex::new(Vec::new()));
    let watched = |number: u32, length: usize| {
        let heard = heard.clone();
        let mut buffer = FrameBuf::default();
        buffer.data().resize(length, 0);
        buffer.watch(Unanswered::new(move || heard.lock().unwrap().push(number)));
        buffer
    };
    let take = || std::mem::take(&mut *heard.lock().unwrap());
    // Into an empty one, behind copied bytes, and as a segment.
    let mut all = FrameBuf::default();
    for (number, length) in [(1, 100), (2, 10), (3, HAND_OFF), (4, 10)] {
        let mut one = watched(number, length);
        all.append(&mut one);
        give_scratch(one);
    }
    assert!(take().is_empty());
    all.take_sent(99).for_each(Unanswered::answered);
    all.take_sent(105).for_each(Unanswered::answered);
    all.advance(105);
    let mark = all.mark();
    all.append(&mut watched(5, 20));
    all.truncate(mark);
    assert_eq!(take(), [5]);
    all.take_sent(5).for_each(Unanswered::answered);
    drop(all);
    assert_eq!(take(), [3, 4]);
    give_scratch(watched(6, 10));
    assert_eq!(take(), [6]);
}

#[test]
fn user_code_that_panics_leaves_nothing_to_the_next_request() {
    let panicked = std::panic::catch_unwind(|| {
        with_scratch(|buffer| {
            buffer.data().push(1);
            panic!("user code");
        });
    });
    assert!(panicked.is_err());
    with_scratch(|buffer| {
        assert!(buffer.is_empty());
        buffer.data().push(2);
        with_scratch(|within| assert!(within.is_empty(), "user code that encodes has a buffer of its own"));
    });
}

#[test]
fn a_large_piece_is_not_copied() {
    let mut buffer = FrameBuf::default();
    buffer.data().push(1);
    let mut large = FrameBuf::default();
    large.data().resize(HAND_OFF, 2);
    let place = large.data.as_ptr();
    buffer.append(&mut large);
    assert_eq!(buffer.segments[0].bytes.as_ptr(), place);
}
