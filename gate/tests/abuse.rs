//! What clients must not do, and what others notice of it: nothing.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use ms_gate::{Gate, GateError, GateLimits, Routes, RunningGate};
use ms_rpc::{Blob, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use support::{Cluster, PATIENCE, Peer, Tlv};

async fn gate(cluster: &Cluster, change: impl FnOnce(&mut GateLimits)) -> RunningGate {
    cluster.start(cluster.gate().origin("https://chat.example.com").limits(change)).await
}

async fn client(gate: &RunningGate) -> Tlv {
    Tlv::connect(gate.tcp_address().unwrap()).await
}

/// Asserts that a client that does nothing wrong is served.
async fn serves(gate: &RunningGate) {
    assert_eq!(client(gate).await.ask(1, "good").await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_4_gib_ends_its_connection_with_a_reason() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |_| ()).await;
    let mut abuser = client(&gate).await;
    abuser.send(1, b"before").await;
    abuser.0.write_all(&[0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(abuser.text().await.0, 1, "what came before is answered");
    let refusal = abuser.refusal().await;
    assert_eq!((refusal.msg_id, refusal.code.as_ref()), (2, "resource_exhausted"), "{refusal:?}");
    assert!(refusal.message.contains("4294967295") && refusal.message.contains("65536"), "{refusal:?}");
    assert_eq!(abuser.next().await, None);
    // One byte more than may be, and exactly as many.
    let mut edge = client(&gate).await;
    edge.send(99_999, &vec![7; 65_536]).await;
    assert_eq!(edge.next().await.unwrap().1.len(), 65_536);
    edge.send(99_999, &vec![7; 65_537]).await;
    assert_eq!(edge.refusal().await.msg_id, 99_999);
    serves(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_byte_by_byte_is_a_frame() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |_| ()).await;
    let mut slow = client(&gate).await;
    slow.0.set_nodelay(true).unwrap();
    for byte in *b"\0\0\0\x01\0\0\0\x05bytes" {
        slow.0.write_all(&[byte]).await.unwrap();
        slow.0.flush().await.unwrap();
        // Each is read before the next one comes.
        serves(&gate).await;
    }
    assert!(slow.text().await.1.ends_with(" bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_half_a_handshake_are_given_up() {
    let cluster = Cluster::new();
    // Idle time is two minutes: what ends here ends for another reason.
    let gate = gate(&cluster, |limits| limits.frame_within = Duration::from_millis(300)).await;
    let mut half = client(&gate).await;
    half.0.write_all(b"\0\0\0\x01\0\0\0\x05by").await.unwrap();
    assert_eq!(half.next().await, None);
    let mut mute = TcpStream::connect(gate.web_socket_address().unwrap()).await.unwrap();
    mute.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    assert_eq!(timeout(PATIENCE, mute.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    serves(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_given_up_and_a_web_socket_is_asked_before() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |limits| limits.idle = Duration::from_secs(1)).await;
    let mut websocket = Peer::start("websocket.py", gate.web_socket_address().unwrap(), &[]);
    let (began, mut silent) = (Instant::now(), client(&gate).await);
    assert_eq!(websocket.ask(1, "x").await.0, 1);
    assert_eq!(silent.next().await, None);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // Its program answers pings.
    let (began, mut silent) = (Instant::now(), client(&gate).await);
    assert_eq!(silent.next().await, None);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(websocket.ask(1, "alive").await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_messages_than_a_second_may_have_are_refused_and_the_connection_lives() {
    let cluster = Cluster::new();
    let limits = |limits: &mut GateLimits| {
        limits.messages_per_second = 1;
        limits.burst = 3;
    };
    let gate = gate(&cluster, limits).await;
    let mut fast = client(&gate).await;
    for _ in 0..10 {
        fast.send(1, b"x").await;
    }
    let mut answered = 0;
    for _ in 0..10 {
        match fast.next().await.unwrap() {
            (1, _) => answered += 1,
            (0, refusal) => assert!(String::from_utf8(refusal).unwrap().contains("resource_exhausted")),
            (other, _) => panic!("message {other}"),
        }
    }
    assert!((3..=4).contains(&answered), "{answered}");
    // The bucket is the connection's.
    serves(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_that_are_refused_is_answered_to_the_last_one() {
    const MESSAGES: usize = 20_000;
    let cluster = Cluster::new();
    let gate = gate(&cluster, |limits| limits.messages_per_second = 0).await;
    let (mut reader, mut writer) = client(&gate).await.0.into_split();
    let flood = [0, 0, 0, 77, 0, 0, 0, 0].repeat(MESSAGES);
    let writing = tokio::spawn(async move {
        writer.write_all(&flood).await.unwrap();
        writer
    });
    let reading = async {
        for _ in 0..MESSAGES {
            assert_eq!(reader.read_u32().await.unwrap(), 0);
            let mut refusal = vec![0; reader.read_u32().await.unwrap() as usize];
            reader.read_exact(&mut refusal).await.unwrap();
        }
    };
    timeout(3 * PATIENCE, reading).await.unwrap();
    drop(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |limits| limits.max_per_address = 2).await;
    let (mut first, mut second) = (client(&gate).await, client(&gate).await);
    assert_eq!((first.ask(1, "").await.0, second.ask(1, "").await.0), (1, 1));
    let mut third = client(&gate).await;
    let refusal = third.refusal().await;
    assert_eq!((refusal.msg_id, refusal.code.as_ref()), (0, "resource_exhausted"), "{refusal:?}");
    assert_eq!(third.next().await, None);
    let mut websocket = Peer::start("websocket.py", gate.web_socket_address().unwrap(), &[]);
    assert_eq!(websocket.line().await, "refused 503");
    drop(first);
    timeout(PATIENCE, async {
        loop {
            let mut again = client(&gate).await;
            again.send(1, b"").await;
            if again.next().await.unwrap().0 == 1 {
                break;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_delays_nobody() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |limits| limits.queued_bytes = 64 << 10).await;
    let (mut stalled, mut reader) = (client(&gate).await, client(&gate).await);
    let (id_stalled, id_reader) = (stalled.id().await, reader.id().await);
    let pusher = cluster.client();
    let data = vec![7; 16 << 10];
    let (mut pushes, mut slowest) = (0, Duration::ZERO);
    // Until the socket's buffers and the queue are full.
    timeout(PATIENCE, async {
        loop {
            let began = Instant::now();
            let both = [id_stalled.clone(), id_reader.clone()];
            let pushed = pusher.push_many(&both, 50, data.clone()).await;
            assert_eq!(reader.next().await.unwrap().1.len(), data.len(), "the other one gets all of them");
            slowest = slowest.max(began.elapsed());
            pushes += 1;
            if pushed.missed.as_slice() == [id_stalled.clone()] {
                break;
            }
        }
    })
    .await
    .unwrap();
    assert!(pushes > 4, "what the queue takes is taken");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(!pusher.push(&id_stalled, 50, Blob::default()).await.unwrap(), "it is gone");
    // What it had not read is cut off.
    let read = async { while stalled.next().await.is_some() {} };
    timeout(PATIENCE, read).await.unwrap();
    serves(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_others_of_their_own_connection_alone() {
    let cluster = Cluster::new();
    let _ims = cluster.ims().await;
    let gate = gate(&cluster, |limits| limits.in_flight = 4).await;
    let (mut busy, mut other) = (client(&gate).await, client(&gate).await);
    // Message 5 is never answered by its back end.
    for _ in 0..8 {
        busy.send(5, b"").await;
    }
    busy.send(1, b"behind them").await;
    assert_eq!(other.ask(2, "x").await.0, 2);
    // Five of them must have ended before it is read.
    let mut answers = Vec::new();
    for _ in 0..9 {
        let (msg_id, said) = busy.text().await;
        assert!(msg_id == 1 || said.contains("deadline_exceeded"), "{said}");
        answers.push(msg_id);
    }
    assert!(answers.iter().position(|msg_id| *msg_id == 1).is_some_and(|at| at >= 5), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_carries_whole_frames_in_binary_messages_alone() {
    let cluster = Cluster::new();
    let _ims = cluster.ims().await;
    let gate = gate(&cluster, |_| ()).await;
    let start = |arguments: &[&str]| Peer::start("websocket.py", gate.web_socket_address().unwrap(), arguments);
    // Fragments are joined, within the limit.
    let mut good = start(&[]);
    good.say(&format!("fragments 3 1 {}", support::hex(b"in pieces"))).await;
    assert!(good.text().await.1.ends_with(" in pieces"));
    good.say(&format!("fragments 1000 1 {}", support::hex(&vec![b'x'; 65_536]))).await;
    assert_eq!(good.text().await.1.split(' ').next_back().unwrap().len(), 65_536);
    // Two frames in one message.
    good.say("raw 000000010000000161000000010000000162").await;
    assert!(good.text().await.1.ends_with(" a") && good.text().await.1.ends_with(" b"));
    for (line, code) in [
        ("text hello".to_owned(), 1003),
        ("raw 0000".to_owned(), 1007),
        ("raw 00000001000000056162".to_owned(), 1007),
        ("raw 00000001ffffffff".to_owned(), 1009),
        (format!("fragments 1000 1 {}", support::hex(&vec![b'x'; 65_537])), 1002),
    ] {
        let mut bad = start(&[]);
        bad.say(&line).await;
        let refusal = bad.refusal().await;
        assert!(["invalid_argument", "resource_exhausted"].contains(&refusal.code.as_ref()), "{refusal:?}");
        assert_eq!(bad.line().await, format!("closed {code}"), "{}", &line[..line.len().min(40)]);
    }
    // Of pages, only those of the list.
    assert_eq!(start(&["https://evil.example.com"]).line().await, "refused 403");
    assert_eq!(start(&["null"]).line().await, "refused 403");
    assert_eq!(start(&["https://chat.example.com"]).ask(1, "page").await.0, 1);
    serves(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_leave_the_gate_at_work() {
    let cluster = Cluster::new();
    let gate = gate(&cluster, |_| ()).await;
    for (seed, address) in [gate.tcp_address(), gate.web_socket_address()].into_iter().flatten().enumerate() {
        for round in 0..50_u64 {
            let mut abuser = TcpStream::connect(address).await.unwrap();
            let mut state = (seed as u64 + 1) * 1_000_003 + round;
            let bytes: Vec<u8> = (0..2_000)
                .map(|_| {
                    // Knuth's generator of numbers, the upper bits.
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            // It may be closed before all is sent.
            let _ = abuser.write_all(&bytes).await;
        }
        serves(&gate).await;
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_errors_of_the_start() {
    let cluster = Cluster::new();
    let server = async || Server::bind("127.0.0.1:0").await.unwrap();
    type Change = fn(&mut GateLimits);
    let small: Change = |limits| limits.max_frame = 1;
    let short: Change = |limits| limits.idle = Duration::ZERO;
    let none: Change = |limits| limits.in_flight = 0;
    for (change, words) in
        [(small, "max_frame is 1: give 64 to 2097152"), (short, "idle is 0ns"), (none, "in_flight is 0")]
    {
        let error = cluster.gate().limits(change).start(server().await).await.unwrap_err();
        assert!(matches!(error, GateError::Config(_)) && error.to_string().contains(words), "{error}");
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Gate::new(cluster.proxy()).tcp(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert!(Routes::new().add(2, "im").unwrap().add(2, "mail").unwrap_err().to_string().contains("two groups"));
}
