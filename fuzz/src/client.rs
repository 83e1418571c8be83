//! A whole client.

use std::time::Duration;

use ms_rpc::{Blob, Client, Compression};
use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, timeout},
};

use crate::{
    memory::bounded,
    pipe::{Peer, ends},
    reference::{End, HELLO, kind, split},
    script::Side,
    service::{FuzzClient, Nested},
    source::Source,
};

/// What each call has: until after a silent server is given up, or until before.
const DEADLINES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];

/// The clock's ticks.
const LATE: Duration = Duration::from_millis(10);

/// A server that says anything: every call ends in time, and the client speaks in frames.
pub fn client(input: &[u8]) {
    let mut source = Source::new(input);
    let form = usize::from(source.byte());
    let compression = Compression::ALL[form % Compression::ALL.len()].clone();
    let deadline = DEADLINES[form >> 4 & 1];
    let peer = Peer::new(&mut source, Side::Server);
    let heard = bounded(&peer.sent(), || {
        ends(async {
            let (near, far) = duplex(peer.pipe);
            tokio::join!(peer.meet(far), call(near, compression, deadline)).0
        })
    });
    let (frames, end) = split(&heard, 4 << 20);
    assert_eq!(end, End::Cut);
    assert!(frames.first().is_none_or(|first| kind(first) == HELLO));
}

/// Some calls at once: more than the server of the script takes.
async fn call(stream: DuplexStream, compression: Compression, deadline: Duration) {
    let builder = Client::builder().deadline(deadline).compression(compression).compress_above(64);
    let Ok(client) = builder.over(stream).await else { return };
    let fuzz = FuzzClient::new(client.clone());
    let began = Instant::now();
    let abandoned = timeout(Duration::from_millis(20), fuzz.wait(1));
    let arguments = serde_json::json!([7]);
    let _ = tokio::join!(
        fuzz.find(7),
        fuzz.text("text".repeat(50)),
        fuzz.echo(Blob::from(vec![7; 20_000])),
        abandoned,
        fuzz.nested(Nested(None)),
        client.call("fuzz", "wait", &arguments),
    );
    assert!(began.elapsed() <= deadline + LATE, "a call took {:?}", began.elapsed());
    let began = Instant::now();
    let _ = fuzz.sum(vec![1, 2], Some(0.5)).await;
    assert!(began.elapsed() <= deadline + LATE, "a call took {:?}", began.elapsed());
}

pub(crate) mod seeds {
    use crate::script::{Side, seeds::script};

    pub(crate) fn client() -> Vec<Vec<u8>> {
        let forms = [[0, 0xe0], [1, 0x21], [2, 0x06], [16, 0x82], [16, 0xe0]];
        let scripts = script(Side::Server);
        let mut seeds: Vec<_> =
            scripts.iter().flat_map(|script| forms.map(|form| [&form, &script[..]].concat())).collect();
        // It answers nothing, but lives: a pong each 1.6 s.
        seeds.push([&forms[0], &[5, 40, 1, 3, 0, 255, 0, 0].repeat(8)[..]].concat());
        seeds
    }
}
