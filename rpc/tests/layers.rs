//! Layers on both sides, and channels of the user's own.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ms_rpc::{
    Answer, CallInfo, CallOptions, Channel, Client, Code, Context, Invocation, Layer, Local, Next, Outcome, Peer,
    Server, Status,
    layers::{ConcurrencyLimit, Retry, Timeout},
};
use shop::{ShopClient, ShopServer, TestShop};

#[ms_rpc::service(name = "seen")]
trait Seen {
    /// The tenant that a layer found, and a value that it attached.
    async fn tenant(&self, ctx: Context) -> (Option<String>, Option<u32>);
    #[idempotent]
    async fn waits(&self);
}

struct Service;

impl Seen for Service {
    async fn tenant(&self, ctx: Context) -> (Option<String>, Option<u32>) {
        Context::respond_with("cache", "miss").unwrap();
        (ctx.metadata("tenant").map(str::to_owned), ctx.extensions().get::<u32>().copied())
    }

    async fn waits(&self) {
        std::future::pending().await
    }
}

/// Notes what it sees on its way in and out.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Debug)]
struct Noting {
    name: &'static str,
    notes: Notes,
}

#[async_trait::async_trait]
impl Layer for Noting {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        let (name, peer) = (self.name, call.context().peer().name().to_owned());
        self.notes.note(format!("{name} in: {}.{} of {peer:?}", call.service(), call.method()));
        call.context_mut().metadata_mut().insert("tenant", name)?;
        call.context_mut().metadata_mut().insert_bytes("raw-bin", &[0xff])?;
        call.context_mut().extensions_mut().insert(7u32);
        let mut result = next.run(call).await;
        match &mut result {
            Ok(answer) => {
                let said = answer.metadata().and_then(|metadata| metadata.get("cache")).map(str::to_owned);
                self.notes.note(format!("{name} out: {:?} {said:?}", answer.code()));
                answer.metadata_mut().insert("by", name)?;
            }
            Err(status) => self.notes.note(format!("{name} out: {:?}", status.code())),
        }
        result
    }
}

fn noting(name: &'static str, notes: &Notes) -> Noting {
    Noting { name, notes: notes.clone() }
}

async fn served(server: impl FnOnce(Server) -> Server) -> (ms_rpc::RunningServer, Client) {
    let bound = Server::bind("127.0.0.1:0").await.unwrap().serve(SeenServer::new(Service));
    let server = server(bound.serve(ShopServer::new(TestShop::default()))).start().await.unwrap();
    let client = Client::builder().name("tester").connect(&server.address().to_string()).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn a_layer_sees_and_changes_both_directions_on_both_sides() {
    let notes = Notes::default();
    let (_server, client) = served(|server| server.layer(noting("outer", &notes)).layer(noting("inner", &notes))).await;
    let info = CallInfo::default();
    let seen = SeenClient::new(client.with(CallOptions::new().layer(noting("client", &notes)).info(&info)));
    assert_eq!(seen.tenant().await.unwrap(), (Some("client".to_owned()), Some(7)));
    assert_eq!(
        notes.take(),
        [
            "client in: seen.tenant of \"\"",
            "outer in: seen.tenant of \"tester\"",
            "inner in: seen.tenant of \"tester\"",
            "inner out: Ok Some(\"miss\")",
            "outer out: Ok Some(\"miss\")",
            "client out: Ok Some(\"miss\")",
        ]
    );
    assert_eq!((info.metadata("cache").as_deref(), info.metadata("by").as_deref()), (Some("miss"), Some("inner")));
    // The framework's own services are outside of it.
    ms_rpc::HealthClient::new(client).services().await.unwrap();
    assert!(notes.take().is_empty());
}

/// Never answers, and never lets a call through.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl Layer for Silent {
    async fn call(&self, _: &mut Invocation, _: Next<'_>) -> Result<Answer, Status> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_deadline_holds_whatever_a_layer_does() {
    let (server, client) = served(|server| server.layer(Silent)).await;
    let short = CallOptions::new().deadline(Duration::from_millis(100));
    let seen = SeenClient::new(client.with(short.clone()));
    assert_eq!(seen.tenant().await.unwrap_err().code(), Code::DeadlineExceeded);
    server.shutdown().await;
    let local = Local::new(SeenServer::new(Service)).with(short.layer(Silent));
    assert_eq!(SeenClient::new(local).tenant().await.unwrap_err().code(), Code::DeadlineExceeded);
}

/// Lets one caller in, and tells others when to come back.
#[derive(Debug)]
struct Guard;

#[async_trait::async_trait]
impl Layer for Guard {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        if call.context().peer().name() == "friend" {
            return next.run(call).await;
        }
        let refusal = Status::new(Code::Unavailable, "come back later").with_retry_after(Duration::from_millis(30));
        Err(refusal.not_executed())
    }
}

#[tokio::test]
async fn a_refusal_says_that_nothing_was_executed_and_when_to_come_back() {
    let (_server, client) = served(|server| server.layer(Guard)).await;
    let error = SeenClient::new(client.clone()).tenant().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::Unavailable, Outcome::Refused));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(30)));
    let local = Server::without_listener(([127, 0, 0, 1], 9).into()).serve(SeenServer::new(Service)).layer(Guard);
    let friend = local.into_local().unwrap().with_peer(Peer::new().with_name("friend"));
    SeenClient::new(friend).tenant().await.unwrap();
}

/// Fails so many times before it answers; counts all calls.
#[derive(Debug, Default)]
struct Flaky {
    calls: AtomicU32,
    failures: u32,
    outcome_unknown: bool,
}

#[async_trait::async_trait]
impl Channel for Flaky {
    async fn invoke(&self, call: &mut Invocation) -> Result<Answer, Status> {
        if self.calls.fetch_add(1, Ordering::SeqCst) >= self.failures {
            let (a, b): (i64, i64) = call.arguments()?;
            return Answer::value(call.codec(), &(a + b));
        }
        let status = Status::new(Code::Unavailable, "not now");
        Err(if self.outcome_unknown { status } else { status.not_executed() })
    }
}

#[tokio::test]
async fn a_retry_layer_repeats_what_may_be_repeated() {
    let retry = || CallOptions::new().layer(Retry::new(3, Duration::from_millis(1)));
    for (failures, outcome_unknown, calls, answered) in
        [(0, false, 1, true), (2, false, 3, true), (3, false, 3, false), (1, true, 1, false)]
    {
        let flaky = Arc::new(Flaky { failures, outcome_unknown, ..Flaky::default() });
        let shop = ShopClient::new(flaky.clone()).with(retry());
        assert_eq!(shop.add(3, 4).await.ok(), answered.then_some(7));
        assert_eq!(flaky.calls.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_layer_shortens_and_a_concurrency_limit_makes_wait() {
    let seen = SeenClient::new(Local::new(SeenServer::new(Service)));
    let seen = seen.with(CallOptions::new().deadline(Duration::from_secs(10)));
    let began = tokio::time::Instant::now();
    let late = seen.with(CallOptions::new().layer(Timeout::new(Duration::from_secs(2)))).waits().await.unwrap_err();
    assert_eq!((late.code(), began.elapsed().as_secs()), (Code::DeadlineExceeded, 2));

    let limited = seen.with(CallOptions::new().layer(ConcurrencyLimit::new(1)));
    let (first, second) = tokio::join!(limited.waits(), async {
        tokio::task::yield_now().await;
        limited.with(CallOptions::new().deadline(Duration::from_secs(3))).tenant().await
    });
    assert_eq!(first.unwrap_err().code(), Code::DeadlineExceeded);
    let second = second.unwrap_err();
    assert!(second.message().contains("waited in vain"), "{second}");
    limited.tenant().await.unwrap();
}

#[tokio::test]
async fn layers_carry_errors_compensations_and_large_bodies() {
    let (_server, client) = served(|server| server.layer(noting("outer", &Notes::default()))).await;
    let shop = ShopClient::new(client);
    assert!(matches!(shop.find(1001).await, Err(ms_rpc::CallError::Service(_))));
    assert_eq!(shop.panic().await.unwrap_err().code(), Code::Internal);
    let blob = ms_rpc::Blob::from(vec![7; 100_000]);
    let began = Instant::now();
    assert_eq!(shop.echo(blob.clone()).await.unwrap(), blob);
    assert!(began.elapsed() < Duration::from_secs(1));
}
