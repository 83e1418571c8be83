//! A server against clients that do not keep to the protocol: each gets an answer to its own id where that could be read,
//! GOAWAY otherwise, and nobody else notices.
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod raw;
mod shop;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ms_rpc::{Code, RunningServer, Server};
use raw::{
    BINCODE, CANCEL, HELLO, JSON, NO_VALUE, NOT_EXECUTED, PING, PONG, RESPONSE, Raw, Request, client_hello, control,
    frame, goaway, hello,
};
use shop::{Item, ShopClient, ShopServer, TestShop, client, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// A client that keeps to the protocol, and calls all the time on a connection of its own.
struct Bystander {
    enough: Arc<AtomicBool>,
    calls: JoinHandle<u64>,
}

impl Bystander {
    async fn start(server: &RunningServer) -> Self {
        let shop = ShopClient::new(client(server).await);
        let enough = Arc::new(AtomicBool::new(false));
        let calls = tokio::spawn({
            let enough = enough.clone();
            async move {
                let mut calls = 0;
                while !enough.load(Ordering::SeqCst) {
                    assert_eq!(shop.find(5).await.expect("a bystander's call failed"), Item::of(5));
                    calls += 1;
                }
                calls
            }
        });
        Self { enough, calls }
    }

    async fn was_not_disturbed(self) {
        self.enough.store(true, Ordering::SeqCst);
        assert!(self.calls.await.unwrap() > 0);
    }
}

fn find(id: u64) -> Request {
    Request::json(id, "find", 1, "[5]")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Overwrites bytes of a frame.
fn changed(mut bytes: Vec<u8>, at: usize, by: &[u8]) -> Vec<u8> {
    bytes[at..at + by.len()].copy_from_slice(by);
    bytes
}

#[tokio::test]
async fn what_cannot_go_on_gets_goaway_with_the_reason_and_a_half_close() {
    let server = server(TestShop::default()).await;
    let bystander = Bystander::start(&server).await;
    let good = control(PING, 9);
    let cases: &[(&str, Vec<u8>)] = &[
        ("a frame of 3 bytes: from 17 to 4194304", changed(good.clone(), 2, &[0, 0, 0, 3])),
        ("a frame of 16 bytes", changed(good.clone(), 2, &[0, 0, 0, 16])),
        ("a frame of 2147483647 bytes", changed(good.clone(), 2, &[0x7f, 0xff, 0xff, 0xff])),
        ("a frame of 4294967295 bytes", changed(good.clone(), 2, &[0xff; 4])),
        ("a frame of 4194305 bytes", changed(good.clone(), 2, &[0, 0x40, 0, 1])),
        ("not 0x1d: this is not the ms-rpc protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("first byte of a frame is 0x16", b"\x16\x03\x01\x02\x00\x01".to_vec()),
        ("protocol version 9 is not spoken here, only version 2", changed(good.clone(), 1, &[9])),
        ("protocol version 1 is not spoken", changed(good.clone(), 1, &[1])),
        ("frame kind 6 is unknown", changed(good.clone(), 6, &[6])),
        ("frame kind 10 is unknown", changed(good.clone(), 6, &[10])),
        ("frame kind 127 is unknown", changed(good.clone(), 6, &[127])),
        ("Response does not belong here", frame(RESPONSE, 0, BINCODE, 5, &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("Hello does not belong here", client_hello()),
        ("call id 0x5 does not rise above 0x5", find(5).bytes()),
        ("call id 0x4 does not rise above 0x5", find(4).bytes()),
        ("call id 0x0 does not rise above 0x5", find(0).bytes()),
    ];
    for (reason, bytes) in cases {
        let mut raw = Raw::client(server.address()).await;
        // The answer to what came before is not lost, and is the last that was taken.
        raw.send(&[&find(5).bytes()[..], bytes, &find(6).bytes()].concat()).await;
        assert_eq!(raw.frame().await.answer().id, 5, "{reason}");
        let (last_id, said) = raw.frame().await.goaway();
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(last_id, 5, "{reason}");
        assert_eq!(raw.next().await, None, "{reason}");
        // Half-closed: what comes meanwhile is read, not answered with a reset that would destroy the answers.
        raw.send(&find(7).bytes()).await;
        assert_eq!(raw.next().await, None, "{reason}");
    }
    bystander.was_not_disturbed().await;
}

#[tokio::test]
async fn the_first_frame_must_be_a_hello_that_can_be_read() {
    let server = server(TestShop::default()).await;
    let bystander = Bystander::start(&server).await;
    let cases: &[(&str, Vec<u8>)] = &[
        ("Request does not belong here", find(1).bytes()),
        ("Ping does not belong here", control(PING, 1)),
        ("Cancel does not belong here", control(CANCEL, 1)),
        ("GoAway does not belong here", goaway(0, "bye")),
        ("it is cut short", frame(HELLO, 0, NO_VALUE, 0, &[16, 0])),
        ("a value in it is cut short", frame(HELLO, 0, NO_VALUE, 0, &[16, 0, 5, b'x'])),
        ("a value in it is cut short", frame(HELLO, 0, NO_VALUE, 0, &[99, 0xff, 0xff])),
        ("a text in it is not UTF-8", hello(&[(16, &[0xff])])),
        ("this is not the ms-rpc protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ];
    for (reason, bytes) in cases {
        let mut raw = Raw::connect(server.address()).await;
        raw.send(bytes).await;
        assert_eq!(raw.frame().await.kind, HELLO);
        let (last_id, said) = raw.frame().await.goaway();
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(last_id, 0, "nothing was taken");
        assert_eq!(raw.next().await, None, "{reason}");
    }
    bystander.was_not_disturbed().await;
}

#[tokio::test]
async fn what_a_later_version_adds_is_passed_over() {
    let server = server(TestShop::default()).await;
    let mut raw = Raw::connect(server.address()).await;
    raw.send(&control(200, 3)).await;
    raw.send(&hello(&[(99, b"new"), (16, b"raw"), (0, b""), (255, &[7; 1000])])).await;
    assert_eq!(raw.frame().await.kind, HELLO);
    raw.send(&[control(128, 0), frame(255, 7, 7, 1, b"whatever")].concat()).await;
    let flagged = Request { flags: 0xff, ..find(1) };
    assert_eq!(raw.call(&flagged).await.code, 0);
    let longer = Request { extra: [vec![0; 8], vec![9; 100]].concat(), ..find(2) };
    assert_eq!(raw.call(&longer).await.code, 0);
    raw.send(&control(PING, 77)).await;
    assert_eq!(raw.frame().await, raw::Frame { kind: PONG, compression: 0, codec: NO_VALUE, id: 77, body: Vec::new() });
    // Late frames about calls that are over or never were.
    raw.send(&[control(CANCEL, 2), control(CANCEL, 12345), control(CANCEL, u64::MAX), control(PONG, 1)].concat()).await;
    assert_eq!(raw.call(&find(3)).await.code, 0);
}

/// 32-bit FNV-1a.
fn fnv(text: &str) -> [u8; 4] {
    text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).to_be_bytes()
}

const ADD: &str = "add(a: i64, b: i64) -> i64";
const ADD_SHAPE: &str = "a: i64\nb: i64\nthe result: i64\n";

#[tokio::test]
async fn a_typed_call_says_what_it_takes_its_method_for() {
    for (codec, shape, value) in [(BINCODE, fnv(ADD_SHAPE), &[2u8, 4][..]), (JSON, [0; 4], b"[1,2]")] {
        let server = raw::RawServer::bind().await;
        let codecs = [(BINCODE, ms_rpc::Codec::Bincode), (JSON, ms_rpc::Codec::Json)];
        let (_, named) = codecs.into_iter().find(|(number, _)| *number == codec).unwrap();
        let address = server.address().to_string();
        let (client, mut raw) = tokio::join!(
            ms_rpc::Client::builder().codec(named).deadline(Duration::from_millis(10_000)).connect(&address),
            server.serve()
        );
        let shop = ShopClient::new(client.unwrap());
        let call = tokio::spawn(async move { shop.add(1, 2).await });
        let frame = raw.frame().await;
        let head = [b"\x00\x00\x00\x27\x10\x04shop\x03add\x02\x00", &fnv(ADD)[..], &shape].concat();
        let length = (head.len() as u16).to_be_bytes();
        assert_eq!(frame.body, [&length[..], &head, value].concat());
        assert_eq!((frame.kind, frame.compression, frame.codec), (raw::REQUEST, 0, codec));
        call.abort();
    }
}

#[tokio::test]
async fn a_caller_with_another_definition_is_refused_before_the_method_runs() {
    let server = server(TestShop::default()).await;
    let mut raw = Raw::client(server.address()).await;
    let said = |signature: [u8; 4], shape: [u8; 4]| [signature, shape].concat();
    let other = said(fnv("add(a: i32, b: i32) -> i32"), [0; 4]);
    let good = Request::bincode(1, "add", 2, vec![2, 4]);
    let mut id = 0;
    let mut next = |extra: &[u8], request: &Request| {
        id += 1;
        Request { id, extra: extra.to_vec(), ..request.clone() }
    };
    let json = Request::json(1, "add", 2, "[1,2]");
    // Twice: the second one has a head that is known.
    for (extra, request) in [(&other, &good), (&other, &good), (&other, &json)] {
        let refused = raw.call(&next(extra, request)).await;
        assert_eq!((refused.code, refused.flags, refused.value.len()), (9, NOT_EXECUTED | 4, 0));
        assert!(refused.message.contains(&format!("the server has `{ADD}`")), "{}", refused.message);
    }
    let shape = said(fnv(ADD), fnv("a: u64\n"));
    for request in [&good, &json] {
        let refused = raw.call(&next(&shape, request)).await;
        assert_eq!((refused.code, refused.flags, refused.value), (9, NOT_EXECUTED | 4, ADD_SHAPE.as_bytes().to_vec()));
    }
    // Nothing said, and a part of a later version's field, are no differences.
    let signature = said(fnv(ADD), [0; 4]);
    let same = said(fnv(ADD), fnv(ADD_SHAPE));
    let cases = [(&signature[..], &json), (&same, &good), (&same, &good), (&[], &good), (&[9; 7], &good), (&[0; 8], &good)];
    for (extra, request) in cases {
        assert_eq!(raw.call(&next(extra, request)).await.code, 0, "{extra:?}");
    }
}

/// Each with what its answer's message says.
fn refusable() -> Vec<(&'static str, Code, Request)> {
    let invalid = Code::InvalidArgument;
    let pair = |key: &[u8], value: &[u8]| vec![(key.to_vec(), value.to_vec())];
    vec![
        ("it is longer than its frame", invalid, Request { head_length: Some(16_000), ..find(0) }),
        ("it is over 16 KiB", invalid, Request { pairs: pair(b"k", &[b'v'; 17_000]), ..find(0) }),
        ("it is over 16 KiB", invalid, Request { head_length: Some(0xffff), ..find(0) }),
        ("it is cut short", invalid, Request { head_length: Some(0), ..find(0) }),
        ("it is cut short", invalid, Request { head_length: Some(9), ..find(0) }),
        ("its timeout is 0", invalid, Request { timeout_ms: 0, ..find(0) }),
        ("a text in it is not UTF-8", invalid, Request { service: vec![0xff, 0xfe], ..find(0) }),
        ("a text in it is not UTF-8", invalid, Request { method: vec![b'f', 0xc0], ..find(0) }),
        ("a text in it is not UTF-8", invalid, Request { pairs: pair(&[0x80], b"v"), ..find(0) }),
        ("a text in it is not UTF-8", invalid, Request { pairs: pair(b"k", &[0x80]), ..find(0) }),
        ("service `` is not served here", Code::Unimplemented, Request { service: Vec::new(), ..find(0) }),
        ("service `shop` has no method ``", Code::Unimplemented, Request { method: Vec::new(), ..find(0) }),
        ("codec 7 is unknown here: use bincode, json, messagepack", invalid, Request { codec: 7, ..find(0) }),
        ("codec 255 is unknown here", invalid, Request { codec: NO_VALUE, ..find(0) }),
        ("compression 9 is unknown here: use none, gzip, zlib", invalid, Request { compression: 9, ..find(0) }),
        ("the body is no gzip", invalid, Request { compression: 1, ..find(0) }),
        ("the body is no gzip", invalid, Request { compression: 1, arguments: Vec::new(), ..find(0) }),
        ("the body is no gzip", invalid, {
            let whole = gzip(b"[5]");
            Request { compression: 1, arguments: whole[..whole.len() - 1].to_vec(), ..find(0) }
        }),
        ("the body is no gzip", invalid, {
            let trailing = [gzip(b"[5]"), b"more".to_vec()].concat();
            Request { compression: 1, arguments: trailing, ..find(0) }
        }),
        ("the body is no zlib", invalid, Request { compression: 2, ..find(0) }),
        ("the body is no zlib", invalid, {
            let whole = zlib(b"[5]");
            Request { compression: 2, arguments: whole[..whole.len() - 1].to_vec(), ..find(0) }
        }),
        ("the body is no zlib", invalid, {
            let trailing = [zlib(b"[5]"), b"more".to_vec()].concat();
            Request { compression: 2, arguments: trailing, ..find(0) }
        }),
    ]
}

/// Each was routed, and its arguments were looked at.
fn undecodable() -> Vec<(&'static str, Code, Request)> {
    let invalid = Code::InvalidArgument;
    let huge = [&[253][..], &(1u64 << 60).to_le_bytes()].concat();
    let text = |arguments: Vec<u8>| Request::bincode(0, "text", 1, arguments);
    vec![
        ("find takes 1 arguments (id), 2 were sent", invalid, Request { argc: 2, ..find(0) }),
        ("trailing", invalid, Request::json(0, "find", 1, "[5] 7")),
        ("2 trailing bytes", invalid, Request::bincode(0, "find", 1, vec![10, 1, 1])),
        ("EOF while parsing", invalid, Request::json(0, "find", 1, "[5")),
        ("cannot be decoded", invalid, Request::json(0, "find", 1, "")),
        ("cannot be decoded", invalid, Request::bincode(0, "find", 1, Vec::new())),
        ("cannot be decoded", invalid, Request::bincode(0, "find", 1, vec![252, 1])),
        ("cannot be decoded", invalid, text(huge.clone())),
        ("cannot be decoded", invalid, Request::bincode(0, "echo", 1, huge)),
        ("cannot be decoded", invalid, text(vec![255; 20])),
        ("cannot be decoded", invalid, text(vec![2, 0xc0, 0x80])),
        ("nested deeper than 128", invalid, Request::bincode(0, "nested", 1, vec![1; 1_000_000])),
        ("nested deeper than 128", invalid, Request::json(0, "nested", 1, &"[".repeat(1_000_000))),
        ("nested deeper than 128", invalid, Request::json(0, "nested", 1, "[5]")),
        ("expands beyond 4194304 bytes", Code::ResourceExhausted, {
            Request { compression: 1, ..Request::bincode(0, "echo", 1, gzip(&vec![0; 64 << 20])) }
        }),
        ("the method panicked", Code::Internal, Request::json(0, "panic", 0, "[]")),
    ]
}

#[tokio::test]
async fn a_bad_request_gets_an_answer_with_its_id_and_codec_and_the_connection_goes_on() {
    let server = server(TestShop::default()).await;
    let bystander = Bystander::start(&server).await;
    let mut raw = Raw::client(server.address()).await;
    let mut id = 0;
    for (message, code, request) in refusable().into_iter().chain(undecodable()) {
        id += 1;
        let answer = raw.call(&Request { id, ..request.clone() }).await;
        assert!(answer.message.contains(message), "{:?} does not say {message:?}", answer.message);
        assert_eq!((answer.code, answer.id, answer.codec), (code as u8, id, request.codec), "{message}");
        assert_eq!(answer.value, [0; 0], "a status has no value: {message}");
        id += 1;
        assert_eq!(raw.call(&find(id)).await.code, 0, "after {message}");
    }
    bystander.was_not_disturbed().await;
}

/// PROTOCOL.md, "Values": arguments by position and by name, none, results and errors, in every codec.
#[tokio::test]
async fn each_codec_has_its_form_of_arguments_and_answers() {
    let server = server(TestShop::default()).await;
    let mut raw = Raw::client(server.address()).await;
    let message_pack =
        |method, argc, arguments: &[u8]| Request { codec: 2, ..Request::bincode(0, method, argc, arguments.to_vec()) };
    let named = [&[0x82, 0xa1][..], b"b", &[3, 0xa1], b"a", &[2]].concat();
    let missing = [&[0x81, 0xa7][..], b"Missing", &[0xcd, 3, 0xe9]].concat();
    let cases: [(Request, &[u8]); 15] = [
        (Request::bincode(0, "add", 2, vec![4, 6]), &[10]),
        (Request::bincode(0, "find", 1, vec![251, 0xd2, 7]), &[0, 251, 0xd2, 7]),
        (Request::bincode(0, "who", 0, vec![]), &[0]),
        (Request::json(0, "add", 2, "[2,3]"), b"5"),
        (Request::json(0, "add", 255, r#"{"b":3,"a":2}"#), b"5"),
        (Request::json(0, "find", 1, "[1001]"), br#"{"Missing":1001}"#),
        (Request::json(0, "who", 0, "[]"), br#""""#),
        (Request::json(0, "who", 255, "{}"), br#""""#),
        (Request::json(0, "echo", 1, r#"["AQID"]"#), br#""AQID""#),
        (message_pack("add", 2, &[0x92, 2, 3]), &[5]),
        (message_pack("add", 255, &named), &[5]),
        (message_pack("find", 1, &[0x91, 0xcd, 3, 0xe9]), &missing),
        (message_pack("who", 0, &[0x90]), &[0xa0]),
        (message_pack("who", 255, &[0x80]), &[0xa0]),
        (message_pack("echo", 1, &[0x91, 0xc4, 3, 1, 2, 3]), &[0xc4, 3, 1, 2, 3]),
    ];
    for (id, (request, value)) in (1..).zip(cases) {
        let sent = Request { id, ..request };
        let answer = raw.call(&sent).await;
        assert_eq!((&answer.value[..], answer.codec), (value, sent.codec), "{sent:?}: {}", answer.message);
    }
    // An argument that nobody knows is an error by name, and so is one that is missing.
    for (id, arguments) in [(101, [&[0x83][..], &named[1..], &[0xa1, b'c', 4]].concat()), (102, vec![0x80])] {
        let answer = raw.call(&Request { id, ..message_pack("add", 255, &arguments) }).await;
        assert_eq!(answer.code, Code::InvalidArgument as u8, "{}", answer.message);
    }
}

#[tokio::test]
async fn what_no_method_saw_is_marked_as_not_executed() {
    let server = server(TestShop::default()).await;
    let mut raw = Raw::client(server.address()).await;
    for (id, (message, _, request)) in (1..).zip(refusable()) {
        let answer = raw.call(&Request { id, ..request }).await;
        assert_eq!(answer.flags, NOT_EXECUTED, "{message}");
    }
    let answer = raw.call(&Request::json(1000, "find", 1, "[1001]")).await;
    assert_eq!((answer.flags, answer.codec), (raw::SERVICE_ERROR, JSON));
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_a_frame_takes_its_calls_with_it() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = server(shop).await;
    let bystander = Bystander::start(&server).await;
    let whole = find(2).bytes();
    for (ended, cut) in [1, 2, 16, 17, 18, whole.len() - 1].into_iter().enumerate() {
        let mut raw = Raw::client(server.address()).await;
        raw.send(&Request::json(1, "wait", 0, "[]").bytes()).await;
        raw.send(&whole[..cut]).await;
        probe.until(|probe| probe.started.load(Ordering::SeqCst) > ended).await;
        drop(raw);
        probe.until(|probe| probe.dropped.load(Ordering::SeqCst) > ended).await;
    }
    bystander.was_not_disturbed().await;
}

#[tokio::test]
async fn bytes_that_drip_in_make_the_same_frames() {
    let server = server(TestShop::default()).await;
    let mut raw = Raw::client(server.address()).await;
    for byte in [find(1).bytes(), find(2).bytes()].concat() {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    for id in [1, 2] {
        assert_eq!(raw.frame().await.answer().id, id);
    }
}

/// Requests whose answers nobody reads, until the server takes no more.
async fn stop_reading(server: &RunningServer) -> Raw {
    let mut raw = Raw::client(server.address()).await;
    let blob = [&[251][..], &50_000u16.to_le_bytes(), &vec![7; 50_000]].concat();
    let mut id = 0;
    loop {
        id += 1;
        let request = Request::bincode(id, "echo", 1, blob.clone()).bytes();
        // A server that reads takes it within this time.
        if timeout(Duration::from_secs(1), raw.stream.write_all(&request)).await.is_err() {
            return raw;
        }
        assert!(id < 10_000, "the server reads on and on while its answers pile up");
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_only_itself() {
    let server = server(TestShop::default()).await;
    let bystander = Bystander::start(&server).await;
    let _raw = stop_reading(&server).await;
    let shop = ShopClient::new(client(&server).await);
    for id in 0..100 {
        assert_eq!(shop.find(id).await.unwrap(), Item::of(id));
    }
    bystander.was_not_disturbed().await;
}

/// With time that jumps when nothing happens.
async fn closed_by(raw: &mut Raw) -> Duration {
    let start = Instant::now();
    let mut sink = vec![0; 1 << 16];
    // Neither an end nor a reset: there is more to read.
    while matches!(timeout(Duration::from_secs(600), raw.stream.read(&mut sink)).await.expect("open for ever"), Ok(1..))
    {
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_says_no_hello_is_closed_in_its_time() {
    let server = server(TestShop::default()).await;
    let mut silent = Raw::connect(server.address()).await;
    assert_eq!(silent.frame().await.kind, HELLO);
    let took = closed_by(&mut silent).await;
    assert!((9..12).contains(&took.as_secs()), "{took:?}");

    let mut slow = Raw::connect(server.address()).await;
    slow.send(&client_hello()[..17]).await;
    let took = closed_by(&mut slow).await;
    assert!((9..12).contains(&took.as_secs()), "{took:?}");

    let mut open = Raw::client(server.address()).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(open.call(&find(1)).await.code, 0, "HELLO once is enough");
}

#[tokio::test]
async fn the_smallest_limit_still_lets_an_error_through() {
    let server = Server::bind("127.0.0.1:0")
        .await
        .unwrap()
        .limits(|limits| limits.max_frame = 1024)
        .serve(ShopServer::new(TestShop::default()));
    let server = server.start().await.unwrap();
    let mut raw = Raw::client(server.address()).await;
    // The message names the service, and all that is served: too long for the frame.
    let long = Request { service: vec![b's'; 250], method: vec![b'm'; 250], ..find(1) };
    assert_eq!(raw.call(&long).await.code, Code::Unimplemented as u8);
    let text = zlib(format!("[\"{}\"]", "x".repeat(1000)).as_bytes());
    let answer = raw.call(&Request { compression: 2, arguments: text, ..Request::json(2, "text", 1, "") }).await;
    assert_eq!((answer.id, answer.code), (2, Code::ResourceExhausted as u8));
    assert!(answer.message.contains("the answer has"), "{}", answer.message);
    assert_eq!(raw.call(&find(3)).await.code, 0);
}

#[tokio::test]
async fn an_interceptor_that_panics_costs_its_call_only() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().intercept(|incoming| {
        assert!(incoming.context.metadata("boom").is_none(), "as asked");
        Ok(())
    });
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let mut raw = Raw::client(server.address()).await;
    let answer = raw.call(&Request { pairs: vec![(b"boom".to_vec(), Vec::new())], ..find(1) }).await;
    assert_eq!((answer.id, answer.code), (1, Code::Internal as u8));
    assert!(answer.message.contains("interceptor panicked"), "{}", answer.message);
    assert_eq!(raw.call(&find(2)).await.code, 0);
}
