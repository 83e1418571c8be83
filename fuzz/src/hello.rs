//! The first words and the last.

use ms_rpc::internals;

use crate::{heads::means_the_same, memory::bounded};

/// The body of a HELLO, read as a client's and as a server's.
pub fn hello(input: &[u8]) {
    for parse in [internals::client_hello, internals::server_hello] {
        if let Some(hello) = bounded(input, || parse(input)) {
            means_the_same(&hello, parse);
        }
    }
}

/// The body of GOAWAY: whatever it is, it says that the peer goes.
pub fn goaway(input: &[u8]) {
    let parse = |body: &[u8]| Some(internals::goaway(body));
    let mut goaway = bounded(input, || internals::goaway(input));
    if input.len() > 300 {
        // A long reason is cut, and so may grow where it is no UTF-8.
        goaway = internals::goaway(&goaway.written.expect("any can be written"));
    }
    means_the_same(&goaway, parse);
}

pub(crate) mod seeds {
    use crate::{
        reference::HEADER,
        script::{self, Side},
    };

    pub(crate) fn hello() -> Vec<Vec<u8>> {
        let scopes = b"\x01\0\x03a:1\x03\0\x06etcd/a\x03\0\x06etcd/b\x04\0\x04\0\0\xff\xff\x05\0\x04\0\0\0\x01";
        let [client, server] = [Side::Client, Side::Server].map(script::hello);
        vec![client[HEADER..].to_vec(), server[HEADER..].to_vec(), scopes.to_vec()]
    }

    pub(crate) fn goaway() -> Vec<Vec<u8>> {
        vec![b"\0\0\0\0\0\0\0\x07\0\x08draining".to_vec(), b"\0\0\0\0\0\0\0\x07\0\x02\xc3\xa9\xff".to_vec(), vec![7; 4]]
    }
}
