//! Calls that a node makes when they are due.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use common::{Running, client, soon, start};
use ms_mq::{
    CALLS, Call, Caller, Change, Engine, Look, MessageId, MqClient, MqError, Pop, Push, QueueError, QueueName,
    Selection, Settings,
};
use ms_register::Memory;
use ms_rpc::{
    Answer, Blob, CallOptions, ClientProxy, Context, Invocation, Layer, Next, RunningServer, Server, ServiceError,
    Status,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("no")]
pub(crate) struct No;

impl ServiceError for No {}

#[ms_rpc::service(name = "done")]
trait Done {
    async fn once(&self, n: u32) -> Result<(), No>;
    #[idempotent]
    async fn again(&self, n: u32) -> Result<(), No>;
    /// Fails as often as the number says, and then succeeds.
    async fn fails(&self, n: u32) -> Result<(), No>;
    /// Waits until the test lets it go.
    async fn waits(&self, n: u32) -> Result<(), No>;
    async fn traced(&self) -> Result<(), No>;
}

/// Service that counts what it did, by method and number.
#[derive(Clone)]
struct Counting {
    done: Arc<Mutex<BTreeMap<(&'static str, u32), u32>>>,
    go: Arc<Semaphore>,
}

impl Counting {
    fn new() -> Self {
        Self { done: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn count(&self, method: &'static str, n: u32) -> u32 {
        let mut done = self.done.lock().unwrap();
        let count = done.entry((method, n)).or_default();
        *count += 1;
        *count
    }

    fn counted(&self, method: &'static str, n: u32) -> u32 {
        self.done.lock().unwrap().get(&(method, n)).copied().unwrap_or(0)
    }

    async fn serve(&self, registry: &Arc<Memory>) -> RunningServer {
        let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry.clone());
        server.serve(DoneServer::new(self.clone())).start().await.unwrap()
    }
}

impl Done for Counting {
    async fn once(&self, n: u32) -> Result<(), No> {
        self.count("once", n);
        Ok(())
    }

    async fn again(&self, n: u32) -> Result<(), No> {
        self.count("again", n);
        Ok(())
    }

    async fn fails(&self, n: u32) -> Result<(), No> {
        if self.count("fails", n) > n { Ok(()) } else { Err(No) }
    }

    async fn waits(&self, n: u32) -> Result<(), No> {
        self.count("waits", n);
        drop(self.go.acquire().await);
        Ok(())
    }

    async fn traced(&self) -> Result<(), No> {
        let traced = Context::current().is_some_and(|context| context.metadata("traceparent") == Some("00-1"));
        if traced { Ok(()) } else { Err(No) }
    }
}

fn calls() -> QueueName {
    QueueName::new(CALLS, "default")
}

async fn configure(node: &Running, settings: Settings) {
    node.node.change(Change::Configure(CALLS.to_owned(), settings)).await.unwrap();
}

/// Ready, delayed, held, leased and dead calls.
async fn standing(node: &Running) -> (u64, u64) {
    let look = Look::Stats { topic: Some(CALLS.to_owned()), after: None };
    let queue = node.node.look(look).await.unwrap().topics().0.remove(0).queues.remove(0);
    (queue.ready + queue.delayed + queue.held + queue.leased, queue.dead)
}

async fn until(node: &Running, wanted: (u64, u64)) {
    while standing(node).await != wanted {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn reasons(node: &Running) -> BTreeMap<MessageId, String> {
    let list = Look::List { queue: calls(), after: MessageId(0), most: 1000, dead: true };
    let dead = node.node.look(list).await.unwrap().messages();
    dead.into_iter().map(|message| (message.id, message.reason.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_due_at_once_are_made_though_an_instance_dies() {
    const COUNT: u32 = 10_000;
    let registry = Arc::new(Memory::new());
    let counting = Counting::new();
    let (one, two) = (counting.serve(&registry).await, counting.serve(&registry).await);
    let node = start(&registry, 1).await;
    let client = client(&registry);
    let due = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(2);
    let mut ids = BTreeMap::new();
    for batch in 0..COUNT / 500 {
        let numbers = batch * 500..(batch + 1) * 500;
        let push = |n: u32| match n % 2 {
            0 => Push::from(&Call::new("done", "once", json!([n]))),
            _ => Push::from(&Call::new("done", "again", json!([n])).idempotent()),
        };
        let pushes = numbers.clone().map(|n| push(n).with_due_ms(due.as_millis() as u64 + u64::from(n % 1000)));
        ids.extend(client.push_batch(pushes.collect()).await.unwrap().into_iter().zip(numbers));
    }
    let proxy = ClientProxy::builder(registry.clone()).build().unwrap();
    let caller = Caller::start(node.node.clone(), proxy, 256);
    let made = || counting.done.lock().unwrap().len();
    soon(async {
        while made() < COUNT as usize / 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Killed, not stopped: calls that are under way get no answer.
    drop(one);
    let ended = async {
        while standing(&node).await.0 > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("calls are left");
    let dead = reasons(&node).await;
    let unknown: BTreeSet<_> = dead.keys().map(|id| ids[id]).collect();
    for n in 0..COUNT {
        let (method, most) = if n % 2 == 0 { ("once", 1) } else { ("again", 7) };
        let count = counting.counted(method, n);
        // Without an answer nobody knows whether it was made: it is dead, and not made again.
        let is_unknown = most == 1 && unknown.contains(&n);
        assert!((1..=most).contains(&count) || count == 0 && is_unknown, "{method} {n} was made {count} times");
        assert!(is_unknown || !unknown.contains(&n), "{n} may be made twice, and is dead");
    }
    println!("{COUNT} calls: {} were cut off with the instance and are dead letters: {dead:?}", dead.len());
    assert!(dead.len() < 512, "{} calls were under way", dead.len());
    soon(caller.stop(Duration::from_secs(5))).await;
    drop(two);
}

#[tokio::test]
async fn failures_are_repeated_as_the_call_allows_and_then_dead() {
    let registry = Arc::new(Memory::new());
    let counting = Counting::new();
    let server = counting.serve(&registry).await;
    let node = start(&registry, 1).await;
    configure(&node, Settings { max_retries: Some(2), ..Settings::default() }).await;
    let client = client(&registry);
    let fails = |n: u32| Call::new("done", "fails", json!([n]));
    let once = client.call_later(&fails(1), Duration::ZERO).await.unwrap();
    let never = client.call_later(&fails(100).idempotent(), Duration::ZERO).await.unwrap();
    client.call_later(&fails(2).idempotent(), Duration::ZERO).await.unwrap();
    let traced = Push {
        headers: vec![("traceparent".to_owned(), Blob::from(b"00-1".to_vec()))],
        ..Push::from(&Call::new("done", "traced", json!([])))
    };
    client.push(traced).await.unwrap();
    let nobody = client.call_later(&Call::new("nobody", "x", json!([])), Duration::ZERO).await.unwrap();
    let none = client.push(Push::new(CALLS, b"no call".to_vec())).await.unwrap();
    let caller = Caller::start(node.node.clone(), ClientProxy::new(registry.clone()), 8);
    soon(until(&node, (0, 4))).await;
    let reasons = reasons(&node).await;
    assert!(reasons[&once].starts_with("delivered 1 times; the last time: done.fails: "), "{reasons:?}");
    assert!(reasons[&never].starts_with("delivered 3 times; the last time: done.fails: "), "{reasons:?}");
    // Made by nobody, so it does no harm to try again.
    assert!(reasons[&nobody].starts_with("delivered 3 times; the last time: nobody.x: "), "{reasons:?}");
    assert!(reasons[&none].contains("this is no call: "), "{reasons:?}");
    assert_eq!((counting.counted("fails", 1), counting.counted("fails", 100), counting.counted("fails", 2)), (1, 3, 3));
    let bad = client.call_later(&Call::new("", "x", json!([])), Duration::ZERO).await.unwrap_err();
    assert!(matches!(bad, QueueError::Service(MqError::Invalid(_))), "{bad}");
    soon(caller.stop(Duration::from_secs(5))).await;
    soon(server.shutdown()).await;
}

/// The caller, or the node, ends while calls are under way.
#[tokio::test]
async fn a_call_that_was_cut_off_is_made_again_only_if_that_does_no_harm() {
    let registry = Arc::new(Memory::new());
    let counting = Counting::new();
    let _server = counting.serve(&registry).await;
    let node = start(&registry, 1).await;
    let client = client(&registry);
    let waits = |n: u32| Call::new("done", "waits", json!([n])).deadline(Duration::from_millis(400));
    let again = client.call_later(&waits(1).idempotent(), Duration::ZERO).await.unwrap();
    let once = client.call_later(&waits(2), Duration::ZERO).await.unwrap();
    let proxy = || ClientProxy::new(registry.clone());
    let caller = Caller::start(node.node.clone(), proxy(), 8);
    soon(async {
        while counting.counted("waits", 1) == 0 || counting.counted("waits", 2) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    soon(caller.stop(Duration::ZERO)).await;
    let look = |id| node.node.look(Look::Get(calls(), id));
    assert_eq!(look(again).await.unwrap().messages()[0].state, "ready");
    assert_eq!(look(once).await.unwrap().messages()[0].state, "leased", "not to be made again");
    counting.go.add_permits(1000);
    let caller = Caller::start(node.node.clone(), proxy(), 8);
    // The lease of the other one is the call's deadline and 10 s.
    soon(until(&node, (0, 1))).await;
    let reasons = reasons(&node).await;
    assert!(reasons[&once].contains("after it was begun"), "{reasons:?}");
    assert_eq!(counting.counted("waits", 2), 1);
    drop(caller);
}

/// Notes the methods of calls.
#[derive(Clone, Debug)]
struct Noting(Arc<Mutex<BTreeSet<String>>>);

#[async_trait::async_trait]
impl Layer for Noting {
    async fn call(&self, call: &mut Invocation, next: Next<'_>) -> Result<Answer, Status> {
        self.0.lock().unwrap().insert(call.method().to_owned());
        next.run(call).await
    }
}

#[tokio::test]
async fn a_client_of_the_queue_is_made_over_a_given_proxy() {
    let registry = Arc::new(Memory::new());
    let _node = start(&registry, 1).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let client = MqClient::configured(registry, Selection::Random, |proxy| proxy.deadline(Duration::from_secs(3)));
    let client = client.unwrap().with(CallOptions::new().layer(Noting(seen.clone())));
    client.push(Push::new("t", b"job".to_vec())).await.unwrap();
    let delivery = client.pop(&Pop { wait_ms: 500, ..Pop::new("t", "default") }).await.unwrap().remove(0);
    client.ack(delivery.receipt.unwrap()).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(["push", "pop", "ack"].iter().all(|method| seen.contains(*method)), "{seen:?}");
}
