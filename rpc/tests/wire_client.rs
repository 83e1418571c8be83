//! A client against servers that do not keep to the protocol, or go away: each call ends with a status that says what
//! happened, and nothing hangs.
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod raw;
mod shop;

use std::{sync::Arc, time::Duration};

use ms_register::{Instance, Memory, MsRegister};
use ms_rpc::{CallError, CallOptions, Client, ClientProxy, Code, Codec, Compression, Outcome, Status};
use raw::{
    CANCEL, NOT_EXECUTED, PATIENCE, PING, PONG, REQUEST, Raw, RawServer, Response, control, frame, goaway, hello,
};
use shop::{ShopClient, registered};
use tokio::{task::JoinHandle, time::timeout};

/// A client and the other end of its connection.
async fn connected() -> (ShopClient, Client, Raw) {
    let server = RawServer::bind().await;
    let address = server.address().to_string();
    let builder = Client::builder().deadline(PATIENCE);
    let (client, raw) = tokio::join!(builder.connect(&address), server.serve());
    let client = client.unwrap();
    (ShopClient::new(client.clone()), client, raw)
}

/// Starts a call, and waits until its request has come.
async fn asked(shop: &ShopClient, raw: &mut Raw) -> (JoinHandle<Result<i64, Status>>, u64) {
    let shop = shop.clone();
    let call = tokio::spawn(async move { shop.add(1, 2).await });
    let request = raw.frame().await;
    assert_eq!((request.kind, request.names()), (REQUEST, ("shop".to_owned(), "add".to_owned())));
    (call, request.id)
}

async fn ended(call: JoinHandle<Result<i64, Status>>) -> Result<i64, Status> {
    timeout(PATIENCE, call).await.expect("the call hangs").unwrap()
}

/// bincode's zigzag.
fn number(n: u8) -> [u8; 1] {
    [2 * n]
}

#[tokio::test]
async fn what_is_no_server_is_said_to_be_none() {
    let limits_missing = hello(&[(2, &7u64.to_be_bytes())]);
    let cases: &[(&str, Vec<u8>)] = &[
        (
            "first byte of a frame is 0x48, not 0x1d: this is not the ms-rpc protocol",
            b"HTTP/1.1 400 Bad\r\n\r\n".to_vec(),
        ),
        ("protocol version 9", vec![0x1d, 9]),
        ("a frame of 3 bytes", vec![0x1d, 2, 0, 0, 0, 3, 9, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("it began with Response instead of HELLO", Response::ok(1, &[]).bytes()),
        ("it went away: full", goaway(0, "full")),
        ("it closed the connection", Vec::new()),
        ("it closed the connection", raw::server_hello()[..30].to_vec()),
        ("the server's limits are missing", limits_missing),
        ("a number in it has the wrong size", hello(&[(4, &[1])])),
    ];
    for (reason, bytes) in cases {
        let server = RawServer::bind().await;
        let address = server.address().to_string();
        let answers = async {
            let mut raw = server.accept().await;
            raw.send(bytes).await;
        };
        let (client, ()) = tokio::join!(timeout(PATIENCE, Client::connect(&address)), answers);
        let status = client.expect("it hangs").unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent), "{reason}");
        assert!(status.message().contains(reason), "{status} does not say {reason:?}");
        assert!(status.message().contains(&format!("{address} is no ms-rpc server")), "{status}");
    }
}

#[tokio::test]
async fn a_server_without_hello_is_given_up_in_the_connect_timeout() {
    let server = RawServer::bind().await;
    let builder = Client::builder().connect_timeout(Duration::from_millis(50));
    let status = timeout(PATIENCE, builder.connect(&server.address().to_string())).await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(status.message().contains("did not answer within 50ms"), "{status}");
}

#[tokio::test]
async fn an_answer_reaches_its_own_call_or_none() {
    let (shop, client, mut raw) = connected().await;
    let (first, id) = asked(&shop, &mut raw).await;
    let (second, other) = asked(&shop, &mut raw).await;
    assert!(other > id, "ids rise");
    // Unknown slots, and the call's own slot with another sequence.
    for unknown in [0, 1, id + 1000, id + (1 << 20), id ^ (1 << 63), u64::MAX] {
        raw.send(&Response::ok(unknown, &number(9)).bytes()).await;
    }
    raw.send(&[Response::ok(id, &number(3)).bytes(), Response::ok(id, &number(9)).bytes()].concat()).await;
    assert_eq!(ended(first).await.unwrap(), 3);
    // The slot is used again: what comes late for the first call is not for the third.
    let (third, again) = asked(&shop, &mut raw).await;
    assert_eq!(again & 0xf_ffff, id & 0xf_ffff, "the slot is used again");
    raw.send(&[Response::ok(id, &number(9)).bytes(), Response::ok(again, &number(5)).bytes()].concat()).await;
    assert_eq!(ended(third).await.unwrap(), 5);
    raw.send(&Response::ok(other, &number(4)).bytes()).await;
    assert_eq!(ended(second).await.unwrap(), 4);
    assert!(client.is_open());
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_its_own_call_only() {
    let (shop, client, mut raw) = connected().await;
    let good = |id| Response::ok(id, &number(3));
    let raw_response = |id, body: &[u8]| frame(raw::RESPONSE, 0, 0, id, body);
    type Make = Box<dyn Fn(u64) -> Vec<u8>>;
    let cases: Vec<(&str, Make)> = vec![
        ("codec 7 is unknown here", Box::new(move |id| Response { codec: 7, ..good(id) }.bytes())),
        ("compression 7 is unknown here", Box::new(move |id| Response { compression: 7, ..good(id) }.bytes())),
        ("the body is no gzip", Box::new(move |id| Response { compression: 1, ..good(id) }.bytes())),
        ("the head of the frame cannot be read: it is cut short", Box::new(move |id| raw_response(id, &[]))),
        ("it is cut short", Box::new(move |id| raw_response(id, &[0]))),
        ("it is cut short", Box::new(move |id| raw_response(id, &[0, 3, 5, 0, 0]))),
        ("it is longer than its frame", Box::new(move |id| raw_response(id, &[0, 200, 0]))),
        ("it is over 16 KiB", Box::new(move |id| raw_response(id, &[0x7f, 0xff, 0]))),
        ("the result of `add(a: i64, b: i64) -> i64` cannot be decoded", Box::new(|id| Response::ok(id, &[]).bytes())),
        ("trailing", Box::new(|id| Response::ok(id, &[6, 6]).bytes())),
    ];
    for (message, bytes) in cases {
        let (call, id) = asked(&shop, &mut raw).await;
        raw.send(&bytes(id)).await;
        let status = ended(call).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        assert!(status.message().contains(message), "{status} does not say {message:?}");
    }
    let (call, id) = asked(&shop, &mut raw).await;
    raw.send(&Response { code: 99, message: "from the future".to_owned(), ..good(id) }.bytes()).await;
    let status = ended(call).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "from the future"));
    let (call, id) = asked(&shop, &mut raw).await;
    raw.send(&Response { code: 14, flags: NOT_EXECUTED | 0xf0, codec: 7, ..good(id) }.bytes()).await;
    let status = ended(call).await.unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::Refused));

    let (call, id) = asked(&shop, &mut raw).await;
    raw.send(&good(id).bytes()).await;
    assert_eq!(ended(call).await.unwrap(), 3);
    assert!(client.is_open());
}

/// A server that lists no codecs and compressions knows bincode and JSON, gzip and zlib; one that lists some knows these.
#[tokio::test]
async fn what_the_server_did_not_list_is_not_sent() {
    let limits = [(4, &4096u32.to_be_bytes()[..]), (5, &8u32.to_be_bytes()[..])];
    let listed = [&limits[..], &[(6, &[1, 200]), (7, &[2])]].concat();
    let older = ["bincode, json", "none, gzip, zlib"];
    for (entries, codecs, compressions, [known, compressed]) in [
        (&limits[..], vec![Codec::Bincode, Codec::Json], vec![Compression::Gzip, Compression::Zlib], older),
        (&listed[..], vec![Codec::Json], vec![Compression::Zlib], ["json, 200", "none, zlib"]),
    ] {
        let server = RawServer::bind().await;
        let address = server.address().to_string();
        let builder = Client::builder().deadline(PATIENCE).codec(Codec::Json);
        let (client, mut raw) = tokio::join!(builder.connect(&address), async {
            let mut raw = server.accept().await;
            raw.send(&hello(entries)).await;
            raw.frame().await;
            raw
        });
        let client = client.unwrap();
        let call = |options: CallOptions| {
            let shop = ShopClient::new(client.with(options));
            tokio::spawn(async move { shop.add(1, 2).await })
        };
        let refused = async |options: CallOptions, wanted: String, known: &str| {
            let status = ended(call(options)).await.unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::InvalidArgument, Outcome::NotSent), "{status}");
            assert!(status.message().contains(&wanted), "{status}");
            assert!(status.message().ends_with(&format!("it knows {known}")), "{status}");
        };
        for codec in Codec::ALL {
            let options = CallOptions::new().codec(codec.clone());
            if codecs.contains(&codec) {
                // Nothing came of the calls before that were refused.
                let call = call(options);
                let request = raw.frame().await;
                let value: &[u8] = if codec == Codec::Json { b"3" } else { &[6] };
                raw.send(&Response { codec: request.codec, ..Response::ok(request.id, value) }.bytes()).await;
                assert_eq!(ended(call).await.unwrap(), 3);
            } else {
                refused(options, format!("codec `{codec}`"), known).await;
            }
        }
        for compression in Compression::ALL {
            let options = CallOptions::new().compression(compression.clone());
            if compression == Compression::None || compressions.contains(&compression) {
                let call = call(options);
                let request = raw.frame().await;
                raw.send(&Response { codec: request.codec, ..Response::ok(request.id, b"3") }.bytes()).await;
                assert_eq!(ended(call).await.unwrap(), 3);
            } else {
                refused(options, format!("compression `{compression}`"), compressed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_takes_the_calls_above_goaway_elsewhere() {
    let registry = Arc::new(Memory::new());
    let server = RawServer::bind().await;
    let as_trait: Arc<dyn MsRegister> = registry.clone();
    registry.insert(&"shop".parse().unwrap(), Instance::from_address(&server.address().to_string()).unwrap());
    let shop = ShopClient::new(ClientProxy::builder(as_trait).deadline(PATIENCE).build().unwrap());
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.add(1, 2).await })
        })
        .collect();
    let mut raw = server.serve().await;
    let ids = [raw.frame().await.id, raw.frame().await.id, raw.frame().await.id];
    let (_other, _) = registered(&registry, "other").await;
    raw.send(&goaway(ids[0], "the server is shutting down")).await;
    raw.send(&Response::ok(ids[0], &number(9)).bytes()).await;
    drop(server);
    let mut sums = Vec::new();
    for call in calls {
        sums.push(ended(call).await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, [3, 3, 9], "one from the server that goes, two from the other");
}

#[tokio::test]
async fn a_server_that_never_answers_costs_a_call_its_deadline_and_no_more() {
    let (shop, client, mut raw) = connected().await;
    let brief = shop.with(CallOptions::new().deadline(Duration::from_millis(30)));
    let (call, id) = asked(&brief, &mut raw).await;
    let status = ended(call).await.unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::DeadlineExceeded, Outcome::Unknown));
    let cancel = raw.frame().await;
    assert_eq!((cancel.kind, cancel.id), (4, id), "the server need not go on with it");
    raw.send(&Response::ok(id, &number(9)).bytes()).await;
    let (call, id) = asked(&shop, &mut raw).await;
    raw.send(&Response::ok(id, &number(3)).bytes()).await;
    assert_eq!(ended(call).await.unwrap(), 3);
    assert!(client.is_open());
}

#[tokio::test]
async fn a_service_error_that_cannot_be_decoded_is_a_status() {
    let (shop, _, mut raw) = connected().await;
    let call = tokio::spawn(async move { shop.find(5).await });
    let id = raw.frame().await.id;
    raw.send(&Response { code: 5, flags: raw::SERVICE_ERROR, ..Response::ok(id, &[99]) }.bytes()).await;
    let error = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap_err();
    let CallError::Status(status) = error else { panic!("{error:?}") };
    assert_eq!(status.code(), Code::NotFound, "the head's code is kept");
    assert!(status.message().contains("the error of `find(id: i64) -> Result<Item, ShopError>` cannot be decoded"));
    assert!(status.service_error::<u8>().unwrap().is_ok(), "the bytes are kept");
}

#[tokio::test]
async fn after_bytes_that_cannot_go_on_every_call_knows_why_it_ended() {
    let oversized = [&[0x1d, 2, 0x7f, 0xff, 0xff, 0xff, 1, 0, 0][..], &[0; 8]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a frame of 2147483647 bytes", oversized),
        ("not the ms-rpc protocol", b"HTTP/1.1 200 OK\r\n".to_vec()),
        ("frame kind 6 is unknown", control(6, 0)),
        ("frame kind Request does not belong here", control(REQUEST, 5)),
        ("frame kind Hello does not belong here", raw::server_hello()),
        ("the server closed it", Vec::new()),
        ("the server closed it", Response::ok(1, &[0; 100]).bytes()[..50].to_vec()),
    ];
    for (reason, bytes) in cases {
        let (shop, client, mut raw) = connected().await;
        let (answered, id) = asked(&shop, &mut raw).await;
        let (first, _) = asked(&shop, &mut raw).await;
        let (second, _) = asked(&shop, &mut raw).await;
        raw.send(&[Response::ok(id, &number(3)).bytes(), bytes.clone()].concat()).await;
        if reason.contains("closed") {
            drop(raw);
        }
        assert_eq!(ended(answered).await.unwrap(), 3, "what came before is not lost");
        for call in [first, second] {
            let status = ended(call).await.unwrap_err();
            assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::Unknown));
            assert!(status.message().contains(reason), "{status} does not say {reason:?}");
        }
        assert!(!client.is_open());
        let status = shop.add(1, 2).await.unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent));
        assert!(status.message().contains(reason), "{status} does not say {reason:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_after_goaway_is_still_cancelled() {
    let (shop, _, mut raw) = connected().await;
    let (kept, kept_id) = asked(&shop, &mut raw).await;
    let (call, id) = asked(&shop, &mut raw).await;
    let (refused, _) = asked(&shop, &mut raw).await;
    raw.send(&goaway(id, "the server is shutting down")).await;
    ended(refused).await.unwrap_err();
    call.abort();
    let cancel = raw.frame().await;
    assert_eq!((cancel.kind, cancel.id), (CANCEL, id), "the server finishes sooner when it knows");
    raw.send(&Response::ok(kept_id, &number(3)).bytes()).await;
    assert_eq!(ended(kept).await.unwrap(), 3);
}

#[tokio::test]
async fn goaway_parts_the_calls_in_flight_at_its_last_id() {
    let (shop, client, mut raw) = connected().await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(asked(&shop, &mut raw).await);
    }
    let taken = calls[1].1;
    raw.send(&goaway(taken, "the server is shutting down")).await;
    for (call, _) in calls.drain(2..) {
        let status = ended(call).await.unwrap_err();
        assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent));
        assert!(status.message().contains("goes away and did not take the request"), "{status}");
    }
    assert!(!client.is_open());
    let status = shop.add(1, 2).await.unwrap_err();
    assert_eq!(status.outcome(), Outcome::NotSent);
    assert!(status.message().contains("the server is shutting down"), "{status}");
    for (call, id) in calls {
        assert!(!call.is_finished());
        raw.send(&Response::ok(id, &number(3)).bytes()).await;
        assert_eq!(ended(call).await.unwrap(), 3);
    }
    assert_eq!(raw.next().await, None, "with nothing left to wait for, the client closes");
}

#[tokio::test]
async fn the_longest_timeouts_are_no_panic() {
    let (shop, _, mut raw) = connected().await;
    let patient = shop.with(CallOptions::new().deadline(Duration::MAX));
    let (call, id) = asked(&patient, &mut raw).await;
    raw.send(&Response::ok(id, &number(3)).bytes()).await;
    assert_eq!(ended(call).await.unwrap(), 3);
    let server = RawServer::bind().await;
    let address = server.address().to_string();
    let builder = Client::builder().connect_timeout(Duration::MAX);
    let (client, _) = tokio::join!(builder.connect(&address), server.serve());
    assert!(client.unwrap().is_open());
}

#[tokio::test]
async fn who_waits_for_a_place_is_served_before_who_comes_later() {
    let server = RawServer::bind().await;
    let address = server.address().to_string();
    let one_place = hello(&[(4, &4096u32.to_be_bytes()), (5, &1u32.to_be_bytes())]);
    let serve = tokio::spawn(async move {
        let mut raw = server.accept().await;
        raw.send(&one_place).await;
        raw.frame().await;
        while let Some(request) = raw.next_within().await {
            if request.kind == REQUEST {
                raw.send(&Response::ok(request.id, &number(3)).bytes()).await;
            }
        }
    });
    let client = Client::builder().deadline(PATIENCE).connect(&address).await.unwrap();
    let shop = ShopClient::new(client);
    let mut first = Box::pin(shop.add(1, 2));
    assert!(poll_once(first.as_mut()).await.is_none(), "it has the only place");
    let waits = tokio::spawn({
        let shop = shop.clone();
        async move { shop.add(1, 2).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(first.await.unwrap(), 3);
    // One call after the other, without a pause between them in which another could slip in.
    for _ in 0..100 {
        assert_eq!(shop.add(1, 2).await.unwrap(), 3);
        if waits.is_finished() {
            break;
        }
    }
    assert!(waits.is_finished(), "100 calls that came later were served before it");
    assert_eq!(waits.await.unwrap().unwrap(), 3);
    serve.abort();
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (_shop, _client, mut raw) = connected().await;
    raw.send(&control(PING, 7)).await;
    let pong = raw.frame().await;
    assert_eq!((pong.kind, pong.id), (PONG, 7));
    raw.send(&[control(200, 1), control(PONG, 1)].concat()).await;
    raw.send(&control(PING, 8)).await;
    assert_eq!(raw.frame().await.id, 8);
}

#[tokio::test]
async fn a_call_that_waits_for_a_connection_sleeps() {
    let registry = Arc::new(Memory::new());
    // It accepts, and says nothing: each dial takes its whole time.
    let silent = RawServer::bind().await;
    registry.insert(&"shop".parse().unwrap(), Instance::from_address(&silent.address().to_string()).unwrap());
    let builder = ClientProxy::builder(registry).connect_timeout(Duration::from_millis(500));
    let shop = ShopClient::new(builder.deadline(Duration::from_secs(2)).build().unwrap());
    let mut call = Box::pin(shop.add(1, 2));
    let mut polls = 0;
    let result = std::future::poll_fn(|cx| {
        polls += 1;
        assert!(polls < 1000, "it spins");
        call.as_mut().poll(cx)
    });
    let status = timeout(PATIENCE, result).await.expect("it hangs").unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::NotSent));
    assert!(status.message().contains("did not answer within 500ms"), "{status}");
}
