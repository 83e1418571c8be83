//! Frames of msgo's clients, and the requests in them.

use ms_msgo::internals;

use crate::memory::bounded;

/// A stream from a client of version 1.
pub fn msgo(input: &[u8]) {
    let Some(read) = bounded(input, || internals::read(input)) else { return };
    assert_eq!(read.written, input[..read.length]);
    for (argument, again) in read.arguments {
        assert!(again.is_none_or(|again| again == argument), "{argument}");
    }
}

pub(crate) mod seeds {
    pub(crate) fn msgo() -> Vec<Vec<u8>> {
        let ping = b"\x1d\x01\0\0\0\x11\x02\0\x01\0\0\0\0\0\0\0\x07";
        vec![ms_msgo::internals::request(), ping.to_vec()]
    }
}
