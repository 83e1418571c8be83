//! What stands before the value of a request and a response.

use ms_rpc::internals::{self, Parsed};

use crate::memory::bounded;

/// The head of a request.
pub fn request_head(input: &[u8]) {
    if let Some(head) = bounded(input, || internals::request_head(input)) {
        assert!(head.length <= input.len());
        means_the_same(&head, internals::request_head);
    }
}

/// The head of a response.
pub fn response_head(input: &[u8]) {
    if let Some(head) = bounded(input, || internals::response_head(input)) {
        assert!(head.length <= input.len());
        // A message that leaves no room for anything else is cut.
        if head.length < 16_000 {
            means_the_same(&head, internals::response_head);
        }
    }
}

/// What was read and written again is read as the same.
pub(crate) fn means_the_same(parsed: &Parsed, parse: impl Fn(&[u8]) -> Option<Parsed>) {
    let written = parsed.written.as_deref().expect("what was read can be written");
    let again = parse(written).expect("what was written can be read");
    assert_eq!(again.text, parsed.text);
    assert_eq!((again.written.as_deref(), again.length), (Some(written), written.len()));
}

pub(crate) mod seeds {
    const REQUEST: &[u8] = b"\0\x24\0\0\0\x03\xe8\x05goods\x04find\x01\x02\x01a\0\x01b\x04zone\0\x02eu\x07later.\x01";

    pub(crate) fn request_head() -> Vec<Vec<u8>> {
        vec![REQUEST.to_vec(), b"\0\x0b\0\0\0\0\x01\x01a\x01b\xff\0value".to_vec()]
    }

    pub(crate) fn response_head() -> Vec<Vec<u8>> {
        vec![
            [&[0, 9][..], &[0; 9], b"value"].concat(),
            b"\0\x17\x08\x02\0\0\0\x64\0\x08too many\x01\x01k\0\x01v".to_vec(),
        ]
    }
}
