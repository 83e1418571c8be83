//! Calls that are large, that block, that never rest, and more of them than there is room for.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use ms_rpc::{Blob, CallOptions, Client, Code, Context, Outcome, RunningServer, Server};
use tokio::sync::{Notify, Semaphore};

#[ms_rpc::service(name = "press")]
trait Press {
    /// A megabyte, after some time, made on the pool.
    #[compute]
    async fn megabyte(&self, after_ms: u64) -> Blob;
    /// Puts the thread to sleep, without a word of warning.
    async fn sleeps(&self, ms: u64) -> String;
    /// Blocks its thread until it may go on, as its definition says.
    #[blocking]
    async fn blocks(&self) -> String;
    /// The thread that it runs on.
    async fn quick(&self) -> String;
    /// Never done, and never waiting.
    async fn restless(&self);
    /// Waits for ever.
    async fn waits(&self, blob: Blob);
    /// Waits on a thread of the pool until it may go on.
    #[compute]
    async fn gated(&self) -> u32;
}

/// Counts calls that have begun.
#[derive(Clone)]
struct Begun(Arc<Semaphore>);

impl Default for Begun {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Begun {
    fn one(&self) {
        self.0.add_permits(1);
    }

    async fn next(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

#[derive(Clone, Default)]
struct Service {
    begun: Begun,
    gate: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
    undone: Arc<Notify>,
    undos: Arc<AtomicU32>,
}

fn thread() -> String {
    format!("{:?}", std::thread::current().id())
}

impl Press for Service {
    async fn megabyte(&self, after_ms: u64) -> Blob {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        vec![7; 1 << 20].into()
    }

    #[expect(clippy::disallowed_methods, reason = "a handler that blocks is what this is about")]
    async fn sleeps(&self, ms: u64) -> String {
        std::thread::sleep(Duration::from_millis(ms));
        thread()
    }

    async fn blocks(&self) -> String {
        let gate = self.gate.lock().unwrap().take().unwrap();
        self.begun.one();
        gate.recv().unwrap();
        thread()
    }

    async fn quick(&self) -> String {
        thread()
    }

    async fn restless(&self) {
        self.begun.one();
        loop {
            tokio::task::yield_now().await;
        }
    }

    async fn waits(&self, _: Blob) {
        self.begun.one();
        std::future::pending().await
    }

    async fn gated(&self) -> u32 {
        let (undos, undone) = (self.undos.clone(), self.undone.clone());
        Context::if_unanswered(move || {
            undos.fetch_add(1, Ordering::SeqCst);
            undone.notify_one();
        });
        let gate = self.gate.lock().unwrap().take().unwrap();
        self.begun.one();
        gate.recv().unwrap();
        7
    }
}

async fn start(server: impl FnOnce(Server) -> Server) -> (Service, RunningServer, PressClient) {
    let service = Service::default();
    let bound = Server::bind("127.0.0.1:0").await.unwrap().serve(PressServer::new(service.clone()));
    let server = server(bound).start().await.unwrap();
    let address = server.address().to_string();
    let client = Client::builder().deadline(Duration::from_secs(10)).connect(&address).await.unwrap();
    (service, server, PressClient::new(client))
}

#[tokio::test]
async fn a_large_answer_does_not_hold_the_next_one_up() {
    let (_, _server, press) = start(|server| server).await;
    let began = Instant::now();
    let (first, second) = tokio::join!(press.megabyte(100), press.megabyte(300));
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (1 << 20, 1 << 20));
    // The client's first ping comes after 2 s: nothing else may be needed to go on.
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cancelled_call_on_the_pool_is_settled_once_as_cancelled() {
    let (service, server, press) = start(|server| server).await;
    let (go, gate) = mpsc::channel();
    *service.gate.lock().unwrap() = Some(gate);
    tokio::select! {
        result = press.gated() => panic!("answered: {result:?}"),
        () = service.begun.next() => {}
    }
    // Its cancel has been read when a later call is answered.
    press.quick().await.unwrap();
    go.send(()).unwrap();
    service.undone.notified().await;
    press.quick().await.unwrap();
    server.shutdown().await;
    assert_eq!(service.undos.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_on_the_pool_is_overdue_once() {
    let (service, _server, press) = start(|server| server).await;
    let (go, gate) = mpsc::channel();
    *service.gate.lock().unwrap() = Some(gate);
    let late = press.with(CallOptions::new().deadline(Duration::from_millis(50))).gated().await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    go.send(()).unwrap();
    service.undone.notified().await;
    assert_eq!(service.undos.load(Ordering::SeqCst), 1);
    press.quick().await.unwrap();
}

#[tokio::test]
async fn a_method_that_blocks_moves_off_its_connection() {
    let (_, _server, press) = start(|server| server).await;
    let here = press.quick().await.unwrap();
    assert_eq!(press.sleeps(20).await.unwrap(), here, "nobody knows it yet");
    let slow = tokio::spawn({
        let press = press.clone();
        async move { press.sleeps(500).await.unwrap() }
    });
    for _ in 0..20 {
        press.quick().await.unwrap();
    }
    assert!(!slow.is_finished(), "the connection goes on meanwhile");
    assert_ne!(slow.await.unwrap(), here);
    // Many may sleep at once: these are not as many as there are cores.
    let began = Instant::now();
    let all: Vec<_> = (0..16).map(|_| press.sleeps(100)).collect();
    futures_util::future::join_all(all).await;
    assert!(began.elapsed() < Duration::from_millis(1000), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_method_that_is_said_to_block_delays_nothing_from_its_first_call_on() {
    let (service, _server, press) = start(|server| server).await;
    let (go, gate) = mpsc::channel();
    *service.gate.lock().unwrap() = Some(gate);
    let blocking = tokio::spawn({
        let press = press.clone();
        async move { press.blocks().await.unwrap() }
    });
    service.begun.next().await;
    let here = press.quick().await.unwrap();
    assert!(!blocking.is_finished());
    go.send(()).unwrap();
    assert_ne!(blocking.await.unwrap(), here);
}

#[tokio::test]
async fn calls_that_never_rest_leave_the_socket_its_turn() {
    let (service, _server, press) = start(|server| server).await;
    let restless: Vec<_> = (0..3)
        .map(|_| {
            let press = press.clone();
            tokio::spawn(async move { press.restless().await })
        })
        .collect();
    for _ in 0..3 {
        service.begun.next().await;
    }
    let quick = press.with(CallOptions::new().deadline(Duration::from_secs(2)));
    for _ in 0..10 {
        quick.quick().await.unwrap();
    }
    restless.into_iter().for_each(|call| call.abort());
}

#[tokio::test]
async fn the_bytes_of_requests_in_flight_are_bounded() {
    let (service, _server, press) = start(|server| {
        server.limits(|limits| {
            limits.max_request_bytes = 128 << 10;
            limits.max_request_bytes_total = 192 << 10;
        })
    })
    .await;
    let body = || Blob::from(vec![7; 50 << 10]);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let press = press.clone();
        waiting.push(tokio::spawn(async move { press.waits(body()).await }));
        service.begun.next().await;
    }
    let refused = press.waits(body()).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), (Code::Unavailable, Outcome::Refused));
    assert!(refused.message().contains("too many bytes") && refused.retry_after().is_some(), "{refused}");
    // Small calls go on, and another connection has the rest of the server's share.
    press.quick().await.unwrap();
    waiting.into_iter().for_each(|call| call.abort());
    let again = tokio::spawn(async move {
        loop {
            let short = press.with(CallOptions::new().deadline(Duration::from_millis(100)));
            let result = short.waits(body()).await.unwrap_err();
            if result.code() == Code::DeadlineExceeded {
                return;
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("what was cancelled counts no more").unwrap();
}
