//! What a peer says costs no more memory than what it sends. One test, so that nothing else in the process grows
//! meanwhile.
#![cfg(target_os = "linux")]
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod raw;
mod shop;

use std::{collections::HashSet, fs, sync::atomic::Ordering, time::Duration};

use flate2::{Compress, FlushCompress};
use ms_rpc::{Client, Code, RunningServer};
use raw::{CANCEL, PING, REQUEST, Raw, RawServer, Request, control};
use shop::{ShopClient, TestShop, client, server};
use tokio::time::timeout;

/// In KiB.
const ALLOWED: u64 = 16 << 10;

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The peak of the process's resident memory from here on, against now.
struct Growth {
    what: &'static str,
    before: u64,
}

impl Growth {
    fn of(what: &'static str) -> Self {
        // 5 resets the peak, see proc(5).
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Self { what, before: status("VmRSS:") }
    }

    fn assert_small(self) {
        let grown = status("VmHWM:").saturating_sub(self.before);
        println!("{}: {grown} KiB", self.what);
        assert!(grown <= ALLOWED, "{}: memory grew by {grown} KiB", self.what);
    }
}

/// A deflate stream of zeros without its end, 1 GiB of them in about 1 MiB.
fn zeros(format: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    compress.compress_vec(&[0; 1 << 20], &mut block, FlushCompress::Full).unwrap();
    assert_eq!(compress.total_in(), 1 << 20);
    // A block after a full flush stands for itself.
    [format, &block.repeat(1 << 10)].concat()
}

/// A zstd frame of zeros without its end, 1 GiB of them as 8,192 blocks of one repeated byte.
fn zstd_zeros() -> Vec<u8> {
    let block = ((128u32 << 10) << 3 | 1 << 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (21 - 10) << 3][..], &[block[0], block[1], block[2], 0].repeat(1 << 13)].concat()
}

async fn one_request_each(server: &RunningServer) {
    let mut raw = Raw::client(server.address()).await;
    let gzip = zeros(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    assert!((900_000..1_300_000).contains(&gzip.len()), "{} bytes", gzip.len());
    let zlib = zeros(&[0x78, 0x9c]);
    let (exhausted, invalid) = (Code::ResourceExhausted, Code::InvalidArgument);
    let huge = [&[253][..], &(1u64 << 60).to_le_bytes()].concat();
    // Under the codec's own limit, and far beyond the body.
    let large = [&[252][..], &(60u32 << 20).to_le_bytes()].concat();
    let bincode = |method, arguments: &Vec<u8>| Request::bincode(0, method, 1, arguments.clone());
    let message_pack =
        |method, arguments: &[u8]| Request { codec: 2, ..bincode(method, &[&[0x91], arguments].concat()) };
    let cases = [
        ("a gzip body of 1 GiB", exhausted, Request { compression: 1, ..bincode("echo", &gzip) }),
        ("a zlib body of 1 GiB", exhausted, Request { compression: 2, ..bincode("echo", &zlib) }),
        ("a zstd body of 1 GiB", exhausted, Request { compression: 3, ..bincode("echo", &zstd_zeros()) }),
        ("a MessagePack text of 4 GiB", invalid, message_pack("text", &[0xdb, 255, 255, 255, 255])),
        ("a MessagePack blob of 4 GiB", invalid, message_pack("echo", &[0xc6, 255, 255, 255, 255])),
        ("MessagePack nested 10^6 deep", invalid, message_pack("nested", &[0x91; 1_000_000])),
        ("a text of 2^60 bytes", invalid, bincode("text", &huge)),
        ("a blob of 2^60 bytes", invalid, bincode("echo", &huge)),
        ("a text of 60 MiB", invalid, bincode("text", &large)),
        ("a blob of 60 MiB", invalid, bincode("echo", &large)),
        ("bincode nested 10^6 deep", invalid, bincode("nested", &vec![1; 1_000_000])),
        ("JSON nested 10^6 deep", invalid, Request::json(0, "nested", 1, &"[".repeat(1_000_000))),
    ];
    for (id, (what, code, request)) in (1..).zip(cases) {
        let bytes = Request { id, ..request }.bytes();
        let growth = Growth::of(what);
        raw.send(&bytes).await;
        let answer = raw.frame().await.answer();
        assert_eq!((answer.id, answer.code), (id, code as u8), "{what}: {}", answer.message);
        growth.assert_small();
    }
}

async fn lengths_without_bytes(server: &RunningServer) {
    let growth = Growth::of("200 frames that are said to have 4 MiB");
    let mut all = Vec::new();
    for _ in 0..200 {
        let mut raw = Raw::client(server.address()).await;
        let mut frame = control(REQUEST, 1);
        frame[2..6].copy_from_slice(&(4u32 << 20).to_be_bytes());
        frame.resize(1000, 0);
        raw.send(&frame).await;
        all.push(raw);
    }
    let shop = ShopClient::new(client(server).await);
    for id in 0..100 {
        shop.find(id).await.unwrap();
    }
    growth.assert_small();
}

/// Writes until the other side takes no more.
async fn stuff(raw: &Raw, frames: &[u8], sent: &mut usize, at_most: usize) {
    let mut refused = 0;
    while *sent < at_most && refused < 5 {
        match timeout(Duration::from_millis(10), raw.stream.writable()).await {
            Ok(ready) => {
                ready.unwrap();
                if let Ok(taken) = raw.stream.try_write(&frames[*sent % frames.len()..]) {
                    *sent += taken;
                    refused = 0;
                }
            }
            // The other side runs in this process: it may only have been busy.
            Err(_) => refused += 1,
        }
    }
}

async fn answers_that_nobody_reads(server: &RunningServer) {
    let pings = control(PING, 1).repeat(10_000);
    let raw = Raw::client(server.address()).await;
    let growth = Growth::of("pings whose answers nobody reads");
    let mut sent = 0;
    stuff(&raw, &pings, &mut sent, 64 << 20).await;
    assert!(sent < 64 << 20, "the server reads on and on");
    growth.assert_small();
}

/// The client reads, but never as much as waits for it.
async fn answers_that_are_read_too_slowly(server: &RunningServer) {
    let mut raw = Raw::client_that_buffers_little(server.address()).await;
    let blob = [&[251][..], &50_000u16.to_le_bytes(), &vec![7; 50_000]].concat();
    let requests: Vec<u8> = (1..=800).flat_map(|id| Request::bincode(id, "echo", 1, blob.clone()).bytes()).collect();
    let growth = Growth::of("40 MB of answers, always a part of them unread");
    let (mut sent, mut answers) = (0, 0);
    while sent < requests.len() {
        stuff(&raw, &requests, &mut sent, requests.len()).await;
        for _ in 0..20 {
            answers += 1;
            assert_eq!(raw.frame().await.answer().id, answers);
        }
    }
    growth.assert_small();
}

/// 1,000 methods end at the same moment, and each has 50 kB to say.
async fn answers_that_come_all_at_once(shop: &TestShop, server: &RunningServer) {
    let mut raw = Raw::client_that_buffers_little(server.address()).await;
    let requests: Vec<u8> = (1..=1000).flat_map(|id| Request::json(id, "large", 1, "[50000]").bytes()).collect();
    raw.send(&requests).await;
    shop.probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1000).await;
    let growth = Growth::of("50 MB of answers that are ready at the same moment");
    shop.probe.go.notify_waiters();
    let mut answered = HashSet::new();
    for _ in 0..1000 {
        assert!(answered.insert(raw.frame().await.answer().id));
    }
    growth.assert_small();
}

async fn cancels_of_nothing(server: &RunningServer) {
    let mut raw = Raw::client(server.address()).await;
    let cancels = control(CANCEL, 12345).repeat(10_000);
    let growth = Growth::of("2 million cancels of calls that are not there");
    for _ in 0..200 {
        raw.send(&cancels).await;
    }
    assert_eq!(raw.call(&Request::json(1, "find", 1, "[5]")).await.code, 0);
    growth.assert_small();
}

async fn pings_to_a_client() {
    let server = RawServer::bind().await;
    let address = server.address().to_string();
    let (client, raw) = tokio::join!(Client::connect(&address), server.serve());
    let _client = client.unwrap();
    let pings = control(PING, 1).repeat(10_000);
    let growth = Growth::of("pings to a client whose answers nobody reads");
    let mut sent = 0;
    stuff(&raw, &pings, &mut sent, 64 << 20).await;
    assert!(sent >= 64 << 20, "a client always reads: its answers come among the pings");
    growth.assert_small();
}

#[tokio::test]
async fn what_a_peer_says_costs_no_more_memory_than_what_it_sends() {
    let shop_behind = TestShop::default();
    let server = server(shop_behind.clone()).await;
    // What a first call allocates for good is not its caller's doing.
    let shop = ShopClient::new(client(&server).await);
    shop.find(5).await.unwrap();
    one_request_each(&server).await;
    lengths_without_bytes(&server).await;
    cancels_of_nothing(&server).await;
    answers_that_nobody_reads(&server).await;
    answers_that_are_read_too_slowly(&server).await;
    answers_that_come_all_at_once(&shop_behind, &server).await;
    pings_to_a_client().await;
    shop.find(5).await.unwrap();
}
