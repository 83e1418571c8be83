//! A whole server.

use std::collections::HashSet;

use ms_rpc::{RunningServer, Server};
use tokio::io::duplex;

use crate::{
    memory::bounded,
    pipe::{Peer, ends},
    reference::{End, GOAWAY, HELLO, PONG, REQUEST, RESPONSE, id, kind, split},
    script::Side,
    service::{FuzzServer, Methods},
    source::Source,
};

thread_local! {
    /// One for all inputs: what one connection does is nothing to the next.
    static SERVER: RunningServer = ends(start());
}

async fn start() -> RunningServer {
    let server = Server::bind("127.0.0.1:0").await.expect("a port is free");
    server
        .serve(FuzzServer::new(Methods))
        .limits(|limits| limits.max_in_flight = 4)
        .start()
        .await
        .expect("nothing is missing")
}

/// A client that says anything: the server answers in frames, no call twice and none that was not made, and it ends.
pub fn server(input: &[u8]) {
    let peer = Peer::new(&mut Source::new(input), Side::Client);
    let sent = peer.sent();
    SERVER.with(|server| {
        let heard = bounded(&sent, || {
            ends(async {
                let (near, far) = duplex(peer.pipe);
                server.serve_over(far, ms_rpc::Peer::new());
                peer.meet(near).await
            })
        });
        check(&sent, &heard);
    });
}

fn check(sent: &[u8], heard: &[u8]) {
    let (frames, end) = split(heard, 4 << 20);
    assert_eq!(end, End::Cut);
    let mut calls: HashSet<u64> =
        split(sent, 4 << 20).0.into_iter().filter(|frame| kind(frame) == REQUEST).map(id).collect();
    for (place, frame) in frames.into_iter().enumerate() {
        match kind(frame) {
            HELLO => assert_eq!(place, 0),
            RESPONSE => assert!(calls.remove(&id(frame)), "{:#x} was not asked, or is answered twice", id(frame)),
            PONG | GOAWAY => {}
            other => panic!("a server does not say {other}"),
        }
    }
}

pub(crate) mod seeds {
    use crate::script::{Side, seeds::script};

    pub(crate) fn server() -> Vec<Vec<u8>> {
        let forms = [0xe0, 0x21, 0x06, 0x83];
        script(Side::Client).iter().flat_map(|script| forms.map(|form| [&[form], &script[..]].concat())).collect()
    }
}
