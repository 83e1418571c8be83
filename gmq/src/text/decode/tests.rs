use super::*;
use crate::limits::{BATCH, JSON};

fn push(topic: &str, route: &str, body: &[u8], delay_ms: u64) -> Push {
    let push = Push { delay_ms, ..Push::new(topic, body.to_vec()) };
    if route.is_empty() { push } else { push.to(route) }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// Events of an input that comes in pieces of this size.
fn events(input: &[u8], piece: usize) -> Vec<Result<Request, String>> {
    let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(event) = decoder.next(&mut buffer) {
            found.push(match event {
                Event::Request(request) => Ok(request),
                Event::Refused(Refusal { code, text }) => Err(format!("{code} - {text}")),
                Event::Fatal(Refusal { code, text }) => Err(format!("end: {code} - {text}")),
            });
        }
    }
    found
}

#[test]
fn bodies_follow_their_lines_in_pieces_of_any_size() {
    let older = [&5u32.to_be_bytes()[..], &with_length(b"a"), &0u32.to_be_bytes(), &with_length(b"")].concat();
    let json = [
        with_length(br#"{"delay":2,"body":"x","topic":"other","route_key":"k"}"#),
        with_length(br#" {"body":"\u0000\u00fc"}"#),
    ]
    .concat();
    let input = [
        b"pub t k 1\n".to_vec(),
        with_length(b"one\npop t\n"),
        b"pub t 0\r\n".to_vec(),
        with_length(b""),
        b"mpub t 2\n".to_vec(),
        older,
        b"mpub t 2\n".to_vec(),
        json,
        b"publish c\n".to_vec(),
        with_length(b"news"),
        b"publish c news at  once\nping x\n".to_vec(),
    ]
    .concat();
    let expected = [
        Request::Push(push("t", "k", b"one\npop t\n", 1000)),
        Request::Push(push("t", "", b"", 0)),
        Request::PushAll(vec![push("t", "", b"a", 5000), push("t", "", b"", 0)]),
        Request::PushAll(vec![push("t", "k", b"x", 2000), push("t", "", "\0\u{fc}".as_bytes(), 0)]),
        Request::Publish("c".to_owned(), b"news".to_vec()),
        Request::Line(Command::PublishLine("c".to_owned(), "news at  once".to_owned())),
        Request::Line(Command::Ping),
    ]
    .map(Ok);
    for piece in [1, 2, 3, 7, 64, input.len()] {
        assert_eq!(events(&input, piece), expected, "{piece}");
    }
}

#[test]
fn a_refused_body_is_read_and_dropped() {
    let large = vec![b'\n'; BODY + 1];
    for (before, error) in [
        ([&b"pub t k 259201\n"[..], &with_length(b"pop t k\n")].concat(), "E_INVALID_DELAY - "),
        ([&b"pub t k 0\n"[..], &with_length(&large)].concat(), "E_INVALID_READ - the body has 1048577 bytes"),
        ([&b"publish c\n"[..], &with_length(&large)].concat(), "E_INVALID_READ - the body has"),
        (
            [&b"mpub t 3\n"[..], &with_length(b"{}"), &with_length(b"no"), &with_length(b"pop t\n")].concat(),
            "E_INVALID_JSON - ",
        ),
        ([&b"mpub t 2\n"[..], &with_length(br#"{"delay":-1}"#), &with_length(b"{}")].concat(), "E_INVALID_DELAY - "),
        (
            [&b"mpub t 1\n"[..], &259_201u32.to_be_bytes(), &with_length(b"pop t\n")].concat(),
            "E_INVALID_DELAY - delay can't exceeding the maximum 259200",
        ),
        ([&b"mpub t 1\n"[..], &0u32.to_be_bytes(), &with_length(&large)].concat(), "E_INVALID_READ - the message"),
        ([&b"mpub t 1\n"[..], &with_length(&vec![b'{'; JSON + 1])].concat(), "E_INVALID_READ - the message"),
    ] {
        let input = [&before[..], b"ping x\n"].concat();
        let small = if input.len() > 1 << 16 { 4096 } else { 5 };
        for piece in [small, input.len()] {
            let found = events(&input, piece);
            assert_eq!(found.len(), 2, "{error}: {:?}", found.iter().map(Result::is_ok).collect::<Vec<_>>());
            assert!(found[0].as_ref().unwrap_err().starts_with(error), "{error}: {:?}", found[0]);
            assert_eq!(found[1], Ok(Request::Line(Command::Ping)), "{error}");
        }
    }
}

#[test]
fn a_batch_is_bounded_as_a_whole() {
    let one = [&0u32.to_be_bytes()[..], &with_length(&vec![0; BODY])].concat();
    let input = [&b"mpub t 4\n"[..], &one.repeat(4), b"ping x\n"].concat();
    let found = events(&input, 1 << 16);
    assert_eq!(found.len(), 2);
    assert!(found[0].as_ref().unwrap_err().starts_with("E_INVALID_READ - the batch has"), "{:?}", found[0]);
    let input = [&b"mpub t 3\n"[..], &one.repeat(3), b"ping x\n"].concat();
    assert!(matches!(&events(&input, 1 << 16)[0], Ok(Request::PushAll(pushes)) if pushes.len() == 3));
    assert_eq!(BATCH, 3 * BODY);
}

#[test]
fn what_cannot_be_followed_ends_the_connection() {
    let huge = |line: &[u8]| [line, &[0xff; 8], b"ping x\n"].concat();
    for (input, errors) in [
        (b"pop a b c\nping x\n".to_vec(), 1),
        (huge(b"pub t k 0\n"), 1),
        // The refusal of the delay comes before its length.
        (huge(b"pub t k 9999999\n"), 2),
        (huge(b"mpub t 1\n"), 1),
        (b"mpub t 1001\nping x\n".to_vec(), 1),
        (vec![b'x'; LINE + 2], 1),
        (vec![0; LINE + 2], 1),
    ] {
        let found = events(&input, 3);
        assert_eq!(found.len(), errors, "{found:?}");
        assert!(found[errors - 1].as_ref().unwrap_err().starts_with("end: "), "{found:?}");
    }
}
