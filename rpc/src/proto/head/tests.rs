use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn requests_round_trip(
        timeout_ms in 1u32..,
        service in "[a-z.]{1,128}",
        method in "[a-z_]{1,128}",
        argc: u8,
        pairs in prop::collection::vec((".{0,8}", ".{0,32}"), 0..5),
        value: Vec<u8>,
        said in prop::option::of((1u32.., any::<u32>())),
    ) {
        let (signature, shape) = said.unwrap_or_default();
        let mut raw = Vec::new();
        raw.push(0);
        pairs.iter().for_each(|(key, value)| append_pair(&mut raw, key, value.as_bytes()).unwrap());
        let head = RequestHead { timeout_ms, service: &service, method: &method, argc, pairs: &raw, signature, shape };
        let mut body = Vec::new();
        head.write(&mut body).unwrap();
        body.extend_from_slice(&value);
        let (parsed, end) = RequestHead::parse(&body).unwrap();
        prop_assert_eq!(parsed, head);
        prop_assert_eq!(&body[end..], &value[..]);
        let read: Vec<_> = read_pairs(parsed.pairs).map(|(k, v)| (k.to_owned(), String::from_utf8_lossy(v).into_owned())).collect();
        prop_assert_eq!(read, pairs);
        let known = KnownHead::new(&body[..end]);
        prop_assert_eq!((known.timeout_ms(&body), known.len()), (Some(timeout_ms), end));
        body[3..7].copy_from_slice(&9u32.to_be_bytes());
        prop_assert_eq!(known.timeout_ms(&body), Some(9));
        prop_assert_eq!(known.timeout_ms(&body[..end - 1]), None);
        body[end - 1] ^= 1;
        prop_assert_eq!(known.timeout_ms(&body), None);
    }

    #[test]
    fn responses_round_trip(code: u8, flags: u8, retry_after_ms: u32, message in ".{0,64}") {
        let head = ResponseHead { code, flags, retry_after_ms, message: &message, pairs: &[0] };
        let mut body = Vec::new();
        head.write(&mut body);
        prop_assert_eq!(ResponseHead::parse(&body), Ok((head, body.len())));
    }

    #[test]
    fn any_bytes_end_in_a_head_or_an_error(body: Vec<u8>) {
        if let Ok((_, end)) = RequestHead::parse(&body) {
            prop_assert!(end <= body.len());
        }
        if let Ok((_, end)) = ResponseHead::parse(&body) {
            prop_assert!(end <= body.len());
        }
    }
}

#[test]
fn the_short_form_of_a_good_response_is_what_write_writes() {
    let mut body = Vec::new();
    ResponseHead { code: 0, flags: 0, retry_after_ms: 0, message: "", pairs: &[0] }.write(&mut body);
    assert_eq!(body, ResponseHead::OK);
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    let head = RequestHead { timeout_ms: 5, service: "a", method: "b", argc: 0, pairs: &[0], signature: 0, shape: 0 };
    let mut body = Vec::new();
    head.write(&mut body).unwrap();
    body.extend_from_slice(&[9; 4]);
    body[1] += 4;
    assert_eq!(RequestHead::parse(&body), Ok((head, body.len())));
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(RequestHead::parse(&[0, 200, 1]), Err(BadHead("it is longer than its frame")));
    assert_eq!(RequestHead::parse(&[0, 5, 0, 0, 0, 0, 0]), Err(BadHead("its timeout is 0")));
    assert_eq!(RequestHead::parse(&[0]), Err(BadHead("it is cut short")));
    assert_eq!(RequestHead::parse(&[0x7f, 0xff]), Err(BadHead("it is over 16 KiB")));
    let long = "x".repeat(300);
    let head = RequestHead { timeout_ms: 5, service: &long, method: "b", argc: 0, pairs: &[0], signature: 0, shape: 0 };
    assert!(head.write(&mut Vec::new()).is_err());
}
