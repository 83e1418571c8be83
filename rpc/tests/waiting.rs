//! Methods that wait: all of a connection's are driven by its own task.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ms_rpc::{CallOptions, Client, Code, Server};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

#[ms_rpc::service(name = "waits")]
trait Waits {
    /// Waits until the number is called.
    async fn number(&self, number: u32) -> u32;
    /// Waits for a place.
    async fn place(&self) -> u32;
    /// Waits for ever, and panics when that ends.
    async fn falls(&self);
    /// Waits a little, and then computes; says on which thread that was.
    async fn computes(&self) -> String;
    /// Is never done, and never waits.
    async fn restless(&self);
    /// Says on which thread it is.
    async fn quick(&self) -> String;
}

struct Service {
    called: watch::Receiver<u32>,
    places: Arc<Semaphore>,
    begun: Arc<AtomicU32>,
}

struct Falls;

impl Drop for Falls {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as asked");
        }
    }
}

fn thread() -> String {
    format!("{:?}", std::thread::current().id())
}

impl Waits for Service {
    async fn number(&self, number: u32) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut called = self.called.clone();
        called.wait_for(|called| *called >= number).await.unwrap();
        number
    }

    async fn place(&self) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _place = self.places.acquire().await.unwrap();
        tokio::task::yield_now().await;
        self.begun.load(Ordering::SeqCst)
    }

    async fn falls(&self) {
        let _falls = Falls;
        self.begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn computes(&self) -> String {
        tokio::task::yield_now().await;
        // By count: what is left of a time on a busy machine may be nothing.
        (0..1_000_000).for_each(|_| std::hint::spin_loop());
        thread()
    }

    async fn restless(&self) {
        loop {
            tokio::task::yield_now().await;
        }
    }

    async fn quick(&self) -> String {
        thread()
    }
}

struct Scene {
    call: watch::Sender<u32>,
    places: Arc<Semaphore>,
    begun: Arc<AtomicU32>,
    client: Client,
    waits: WaitsClient,
    _server: ms_rpc::RunningServer,
}

async fn scene() -> Scene {
    let (call, called) = watch::channel(0);
    let places = Arc::new(Semaphore::new(0));
    let begun = Arc::new(AtomicU32::new(0));
    let service = Service { called, places: places.clone(), begun: begun.clone() };
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(WaitsServer::new(service)).start().await.unwrap();
    let client = Client::connect(&server.address().to_string()).await.unwrap();
    Scene { call, places, begun, waits: WaitsClient::new(client.clone()), client, _server: server }
}

impl Scene {
    /// Until so many methods have begun.
    async fn begun(&self, count: u32) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.begun.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < end, "{:?} of {count} methods have begun", self.begun);
            self.waits.quick().await.unwrap();
        }
    }
}

#[tokio::test]
async fn many_wait_and_each_gets_its_own_answer_in_any_order() {
    let scene = scene().await;
    for _ in 0..3 {
        let mut calls = JoinSet::new();
        for number in 1..=600 {
            let waits = scene.waits.clone();
            calls.spawn(async move { (number, waits.number(number).await.unwrap()) });
        }
        let mut given_up = JoinSet::new();
        for number in 601..=900 {
            let waits = scene.waits.clone();
            given_up.spawn(async move { waits.number(number).await });
        }
        scene.begun(900).await;
        given_up.shutdown().await;
        for called in [1, 10, 300, 600] {
            scene.call.send(called).unwrap();
        }
        let answers = calls.join_all().await;
        assert_eq!(answers.len(), 600);
        assert!(answers.iter().all(|(asked, answered)| asked == answered));
        scene.begun.store(0, Ordering::SeqCst);
        scene.call.send(0).unwrap();
    }
    // Who gave up is gone from the server too.
    let end = Instant::now() + Duration::from_secs(10);
    while scene.call.receiver_count() > 1 {
        assert!(Instant::now() < end, "{} wait", scene.call.receiver_count());
        scene.waits.quick().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_ends_lets_the_next_one_go_on() {
    let scene = scene().await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let waits = scene.waits.clone();
        calls.spawn(async move { waits.place().await.unwrap() });
    }
    scene.begun(200).await;
    // One place, handed on from call to call.
    scene.places.add_permits(1);
    assert_eq!(calls.join_all().await, [200; 200]);
}

#[tokio::test]
async fn a_method_that_panics_when_it_is_dropped_ends_nothing_else() {
    let scene = scene().await;
    let short = scene.waits.with(CallOptions::new().deadline(Duration::from_millis(30)));
    assert_eq!(short.falls().await.unwrap_err().code(), Code::DeadlineExceeded);
    let falls = tokio::spawn({
        let waits = scene.waits.clone();
        async move { waits.falls().await }
    });
    scene.begun(2).await;
    falls.abort();
    let beside = tokio::spawn({
        let waits = scene.waits.clone();
        async move { waits.number(5).await }
    });
    scene.begun(3).await;
    scene.call.send(5).unwrap();
    assert_eq!(beside.await.unwrap().unwrap(), 5);
    assert!(scene.client.is_open());
}

#[tokio::test]
async fn what_computes_after_it_waited_moves_to_other_threads() {
    let scene = scene().await;
    let mut elsewhere = 0;
    for _ in 0..20 {
        elsewhere += u32::from(scene.waits.computes().await.unwrap() != thread());
        assert_eq!(scene.waits.quick().await.unwrap(), thread());
    }
    assert!(elsewhere >= 10, "{elsewhere} of 20 were not on the connection's thread");
}

#[tokio::test]
async fn one_that_never_waits_holds_nobody_up_and_its_deadline_ends_it() {
    let scene = scene().await;
    let restless = tokio::spawn({
        let waits = scene.waits.with(CallOptions::new().deadline(Duration::from_millis(300)));
        async move { waits.restless().await }
    });
    let mut beside = 0;
    while !restless.is_finished() {
        scene.waits.quick().await.unwrap();
        beside += 1;
    }
    assert_eq!(restless.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(beside > 10, "{beside} calls beside it");
}
