//! `Context::if_unanswered`: a method hears of an answer that did not go out, and of no other.
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod raw;

use std::{future::pending, time::Duration};

use ms_rpc::{Blob, CallError, CallOptions, Client, Code, Context, Local, RunningServer, Server, ServiceError};
use raw::{Request, client_hello};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("sold out")]
struct SoldOut;

impl ServiceError for SoldOut {}

/// Hands numbers out, each in an answer of so many bytes.
#[ms_rpc::service(name = "vendor")]
trait Vendor {
    async fn take(&self, number: u32, size: u32, waits: bool) -> Result<Blob, SoldOut>;
    async fn fail(&self, number: u32, panics: bool) -> Result<Blob, SoldOut>;
    async fn hang(&self, number: u32) -> Result<Blob, SoldOut>;
    async fn take_twice(&self, first: u32, second: u32) -> Result<Blob, SoldOut>;
}

/// Notes what began and what came back.
struct Shelf {
    began: UnboundedSender<u32>,
    back: UnboundedSender<u32>,
}

impl Shelf {
    fn hand_out(&self, number: u32) {
        let back = self.back.clone();
        Context::if_unanswered(move || back.send(number).unwrap());
        self.began.send(number).unwrap();
    }
}

impl Vendor for Shelf {
    async fn take(&self, number: u32, size: u32, waits: bool) -> Result<Blob, SoldOut> {
        self.hand_out(number);
        if waits {
            tokio::task::yield_now().await;
        }
        Ok(vec![7; size as usize].into())
    }

    async fn fail(&self, number: u32, panics: bool) -> Result<Blob, SoldOut> {
        self.hand_out(number);
        assert!(!panics, "as it should");
        Err(SoldOut)
    }

    async fn hang(&self, number: u32) -> Result<Blob, SoldOut> {
        self.hand_out(number);
        pending().await
    }

    async fn take_twice(&self, first: u32, second: u32) -> Result<Blob, SoldOut> {
        self.hand_out(first);
        self.hand_out(second);
        tokio::task::yield_now().await;
        Err(SoldOut)
    }
}

struct Scene {
    server: RunningServer,
    began: UnboundedReceiver<u32>,
    back: UnboundedReceiver<u32>,
}

#[allow(clippy::disallowed_methods, reason = "a test notes a handful of numbers")]
fn shelf() -> (Shelf, UnboundedReceiver<u32>, UnboundedReceiver<u32>) {
    let ((began, beginning), (back, coming_back)) = (unbounded_channel(), unbounded_channel());
    (Shelf { began, back }, beginning, coming_back)
}

async fn start() -> Scene {
    let (shelf, began, back) = shelf();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(VendorServer::new(shelf)).start().await.unwrap();
    Scene { server, began, back }
}

async fn next(numbers: &mut UnboundedReceiver<u32>) -> u32 {
    timeout(Duration::from_secs(10), numbers.recv()).await.expect("nothing came").unwrap()
}

#[tokio::test]
async fn an_answer_that_goes_out_brings_nothing_back() {
    let Scene { server, began: _began, mut back } = start().await;
    let vendor = VendorClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    for (number, size) in [(1, 10), (2, 10_000), (3, 2 << 20)] {
        for waits in [false, true] {
            assert_eq!(vendor.take(number, size, waits).await.unwrap().len(), size as usize);
        }
    }
    drop(vendor);
    server.shutdown().await;
    // The service is gone with the server, and has said nothing.
    assert_eq!(back.recv().await, None);
}

#[tokio::test]
async fn what_the_peer_does_not_take_comes_back() {
    for (size, waits) in [(5_000, false), (5_000, true), (50_000, false), (50_000, true)] {
        let Scene { server, mut began, mut back } = start().await;
        let (near, mut far) = duplex(1_000);
        server.serve_over(near, ms_rpc::Peer::new());
        far.write_all(&client_hello()).await.unwrap();
        for number in 1..=3u64 {
            let arguments = format!("[{number},{size},{waits}]");
            let request = Request { service: b"vendor".to_vec(), ..Request::json(number, "take", 3, &arguments) };
            far.write_all(&request.bytes()).await.unwrap();
            assert_eq!(u64::from(next(&mut began).await), number);
        }
        // HELLO and the first answer to their ends; the second begins. A byte in JSON is "7,".
        let mut taken = vec![0; 2 * size + 2_500];
        far.read_exact(&mut taken).await.unwrap();
        assert!(back.try_recv().is_err());
        drop(far);
        let mut returned = [next(&mut back).await, next(&mut back).await];
        returned.sort_unstable();
        assert_eq!(returned, [2, 3], "{size} {waits}");
        server.shutdown().await;
        assert_eq!(back.recv().await, None, "{size} {waits}");
    }
}

#[tokio::test]
async fn a_call_without_a_result_brings_back() {
    let Scene { server, mut began, mut back } = start().await;
    let vendor = VendorClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    assert!(matches!(vendor.fail(1, false).await, Err(CallError::Service(SoldOut))));
    assert_eq!(next(&mut back).await, 1);
    let panicked = vendor.fail(2, true).await.unwrap_err();
    assert!(matches!(panicked, CallError::Status(status) if status.code() == Code::Internal));
    assert_eq!(next(&mut back).await, 2);
    // Only the last that it said counts.
    vendor.take_twice(3, 4).await.unwrap_err();
    assert_eq!(next(&mut back).await, 4);
    let late = vendor.with(CallOptions::new().deadline(Duration::from_millis(20))).hang(5).await.unwrap_err();
    assert!(matches!(late, CallError::Status(status) if status.code() == Code::DeadlineExceeded));
    assert_eq!(next(&mut back).await, 5);
    while next(&mut began).await != 5 {}
    let call =
        tokio::spawn(async move { vendor.with(CallOptions::new().deadline(Duration::from_secs(60))).hang(6).await });
    assert_eq!(next(&mut began).await, 6);
    call.abort();
    assert_eq!(next(&mut back).await, 6);
    // More than a frame may have: the caller gets an error instead.
    let vendor = VendorClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    vendor.take(7, 5 << 20, true).await.unwrap_err();
    assert_eq!(next(&mut back).await, 7);
}

#[tokio::test]
async fn within_the_process_an_answer_is_always_taken() {
    let (shelf, _began, mut back) = shelf();
    let vendor = VendorClient::new(Local::new(VendorServer::new(shelf)));
    vendor.take(1, 10, true).await.unwrap();
    vendor.fail(2, false).await.unwrap_err();
    assert_eq!(next(&mut back).await, 2);
    drop(vendor);
    assert_eq!(back.recv().await, None);
}

#[tokio::test]
async fn outside_of_a_call_nothing_is_heard() {
    let (shelf, _began, mut back) = shelf();
    shelf.hand_out(1);
    drop(shelf);
    assert_eq!(back.recv().await, None);
}
