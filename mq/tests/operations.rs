//! Every operation of a node, over RPC, and the errors as they arrive there.

#![allow(clippy::unwrap_used)]

mod looks;

use std::sync::Arc;

use looks::topics;
use ms_mq::{
    Delivery, Durability, Extensions, MessageId, MessageInfo, Mode, MqError, MqNodeClient, MqNodeServer, Node,
    NodeConfig, NodeId, Pop, Push, QueueError, Receipt, Settings, TopicStats,
};
use ms_register::{Instance, Static};
use ms_rpc::{CallError, CallOptions, ClientProxy, Code, RunningServer, Server, ServiceError};
use tempfile::TempDir;

struct Running {
    _directory: TempDir,
    node: Node,
    _server: RunningServer,
    mq: MqNodeClient,
}

async fn start(settings: impl FnOnce(&mut NodeConfig)) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let mut config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(7).unwrap()) };
    settings(&mut config);
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(MqNodeServer::new(node.clone()));
    let server = server.start().await.unwrap();
    let instance = Instance::from_address(&server.address().to_string()).unwrap();
    let proxy = ClientProxy::builder(Arc::new(Static::new(vec![instance]))).build().unwrap();
    let mq = MqNodeClient::new(&proxy).with(CallOptions::new().deadline(std::time::Duration::from_secs(20)));
    Running { _directory: directory, node, _server: server, mq }
}

fn none() -> Extensions {
    Extensions::default()
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// The service's own error, and not one of the call.
fn refused<T: std::fmt::Debug>(result: Result<T, QueueError>) -> MqError {
    match result {
        Err(CallError::Service(error)) => error,
        other => panic!("{other:?}"),
    }
}

impl Running {
    async fn push(&self, push: Push) -> MessageId {
        self.mq.push(push).await.unwrap().value
    }

    async fn pop(&self, wish: Pop) -> Vec<Delivery> {
        self.mq.pop(wish).await.unwrap().value
    }

    async fn pop_one(&self) -> (MessageId, Receipt) {
        let delivery = self.pop(Pop::new("t", "default")).await.remove(0);
        (delivery.id, delivery.receipt.unwrap())
    }

    async fn nack(&self, receipt: Receipt, delay_ms: u64) {
        self.mq.nack(receipt, delay_ms, text("no"), none()).await.unwrap();
    }

    async fn get(&self, id: MessageId) -> MessageInfo {
        self.mq.get(text("t"), text("default"), id, none()).await.unwrap().value
    }

    async fn list(&self, after: MessageId, most: u32, dead: bool) -> Vec<MessageId> {
        let page = self.mq.list(text("t"), text("default"), after, most, dead, none()).await.unwrap().value;
        page.iter().map(|info| info.id).collect()
    }

    async fn stats(&self) -> TopicStats {
        self.mq.stats(Some(text("t")), none()).await.unwrap().value.remove(0)
    }
}

#[tokio::test]
async fn topics_are_made_changed_looked_at_and_deleted() {
    let run = start(|_| {}).await;
    run.mq.declare(text("t"), text("red"), none()).await.unwrap();
    run.mq.declare(text("t"), text("green"), none()).await.unwrap();
    let settings = Settings { mode: Some(Mode::Fuzzy), auto_ack: Some(true), ..Settings::default() };
    run.mq.configure(text("t"), settings).await.unwrap();
    let ids =
        [run.push(Push::new("t", b"a".to_vec()).to("r")).await, run.push(Push::new("t", b"b".to_vec()).to("^r")).await];
    let stats = run.stats().await;
    assert_eq!((stats.mode, stats.auto_ack, stats.topic.as_str()), (Mode::Fuzzy, true, "t"));
    let ready: Vec<_> = stats.queues.iter().map(|queue| (queue.queue.as_str(), queue.ready, queue.pushed)).collect();
    assert_eq!(ready, [("green", 1, 1), ("red", 2, 2)]);
    run.mq.pause(text("t"), text("red"), true, none()).await.unwrap();
    assert!(run.pop(Pop::new("t", "red")).await.is_empty());
    assert!(run.stats().await.queues[1].paused);
    run.mq.pause(text("t"), text("red"), false, none()).await.unwrap();
    // It acks by itself: there is nothing to give back.
    let delivery = run.pop(Pop::new("t", "red")).await.remove(0);
    assert_eq!((delivery.id, delivery.receipt), (ids[0], None));
    assert_eq!(run.mq.purge(text("t"), text("red"), none()).await.unwrap().value, 1);
    run.mq.delete(text("t"), Some(text("red")), none()).await.unwrap();
    assert_eq!(run.stats().await.queues.len(), 1);
    assert_eq!(run.mq.stats(None, none()).await.unwrap().value.len(), 1);
    run.mq.delete(text("t"), None, none()).await.unwrap();
    assert!(run.mq.stats(None, none()).await.unwrap().value.is_empty());
}

#[tokio::test]
async fn a_push_carries_what_it_is_given() {
    let run = start(|_| {}).await;
    let headers = vec![(text("traceparent"), b"00-1-2-01".to_vec().into())];
    let plain = || Push { headers: headers.clone(), ttr_ms: Some(60_000), ..Push::new("t", b"plain".to_vec()) };
    let first = run.push(Push { dedup: Some(text("k")), ..plain() }).await;
    assert_eq!(run.push(Push { dedup: Some(text("k")), ..plain() }).await, first);
    let urgent = run.push(Push { priority: 9, durability: Durability::Written, ..plain() }).await;
    let delayed = run.push(Push { delay_ms: 60_000, durability: Durability::Queued, ..plain() }).await;
    let batch = vec![plain(), Push { priority: 1, ..plain() }];
    let batch = run.mq.push_batch(batch, none()).await.unwrap().value;
    assert_eq!(batch.len(), 2);
    let wish = Pop { max_messages: 3, wait_ms: 1000, ..Pop::new("t", "default") };
    let popped = run.pop(wish).await;
    let order: Vec<_> = popped.iter().map(|delivery| delivery.id).collect();
    assert_eq!(order, [urgent, batch[1], first]);
    assert_eq!((&popped[0].headers, &popped[0].body[..], popped[0].retries), (&headers, &b"plain"[..], 0));
    assert_eq!(popped[0].id.node().get(), 7);
    // The fourth is ready, the delayed one is not.
    assert_eq!(run.pop(Pop { max_messages: 5, ..Pop::new("t", "default") }).await.len(), 1);
    assert_eq!(run.get(delayed).await.state, "delayed");
}

#[tokio::test]
async fn a_pop_waits_and_keeps_to_its_bytes() {
    let run = start(|_| {}).await;
    run.mq.declare(text("t"), text("default"), none()).await.unwrap();
    let waiting = run.pop(Pop { wait_ms: 15_000, max_messages: 10, ..Pop::new("t", "default") });
    let (popped, id) = tokio::join!(waiting, run.push(Push::new("t", b"late".to_vec())));
    assert_eq!(popped.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [id]);
    for _ in 0..4 {
        run.push(Push::new("t", vec![7; 1000])).await;
    }
    let wish = Pop { max_messages: 10, max_bytes: 2500, ..Pop::new("t", "default") };
    assert_eq!(run.pop(wish.clone()).await.len(), 2);
    assert_eq!(run.pop(Pop { max_bytes: 1, ..wish }).await.len(), 1);
}

#[tokio::test]
async fn deliveries_end_by_ack_nack_or_cancel() {
    let run = start(|_| {}).await;
    for n in 0..6 {
        run.push(Push::new("t", vec![n + 1])).await;
    }
    let (one, receipt) = run.pop_one().await;
    run.mq.ack(receipt, none()).await.unwrap();
    assert_eq!(refused(run.mq.ack(receipt, none()).await), MqError::NotLeased(one.0));
    assert_eq!(refused(run.mq.touch(receipt, None, none()).await), MqError::NotLeased(one.0));
    let late = run.mq.nack(receipt, 0, text("late"), none()).await;
    assert_eq!(refused(late), MqError::NotLeased(one.0));

    let ((two, second), (_, third)) = (run.pop_one().await, run.pop_one().await);
    let results = run.mq.ack_batch(vec![third, receipt], none()).await.unwrap().value;
    assert_eq!(results, [Ok(()), Err(MqError::NotLeased(one.0))]);
    let given = run.pop(Pop::new("t", "default")).await.remove(0);
    assert_eq!(given.lease(), Some(std::time::Duration::from_secs(30)));
    run.mq.give_back(vec![given.receipt.unwrap(), receipt], none()).await.unwrap();
    assert_eq!((run.get(given.id).await.state.as_str(), run.get(given.id).await.retries), ("ready", 0));
    run.mq.touch(second, Some(90_000), none()).await.unwrap();
    run.nack(second, 60_000).await;
    let info = run.get(two).await;
    assert_eq!((info.state.as_str(), info.retries, &info.body.unwrap()[..]), ("delayed", 1, &[2][..]));

    let peeked = run.mq.peek(text("t"), text("default"), 2, none()).await.unwrap().value;
    assert_eq!(peeked.iter().map(|info| info.body.as_ref().unwrap()[0]).collect::<Vec<_>>(), [4, 5]);
    run.mq.cancel(text("t"), text("default"), peeked[0].id, none()).await.unwrap();
    let gone = MqError::NoMessage(peeked[0].id.0);
    assert_eq!(refused(run.mq.get(text("t"), text("default"), peeked[0].id, none()).await), gone);
    assert_eq!(refused(run.mq.cancel(text("t"), text("default"), peeked[0].id, none()).await), gone);

    // Two pages of the three that are left.
    let first = run.list(MessageId(0), 2, false).await;
    let second = run.list(first[1], 2, false).await;
    assert_eq!((first[0], first.len(), second.len()), (two, 2, 1));
    assert!(run.list(second[0], 2, false).await.is_empty());
}

#[tokio::test]
async fn dead_letters_are_listed_taken_and_redriven() {
    let run = start(|_| {}).await;
    run.mq.configure(text("t"), Settings { max_retries: Some(1), ..Settings::default() }).await.unwrap();
    let ids = [run.push(Push::new("t", b"a".to_vec())).await, run.push(Push::new("t", b"b".to_vec())).await];
    for _ in 0..4 {
        let (_, receipt) = run.pop_one().await;
        run.nack(receipt, 0).await;
    }
    assert!(run.pop(Pop::new("t", "default")).await.is_empty());
    assert_eq!(run.list(MessageId(0), 10, true).await, ids);
    assert_eq!(run.list(ids[0], 10, true).await, ids[1..]);
    let redriven = run.mq.redrive(text("t"), text("default"), Some(vec![ids[1]]), none()).await.unwrap().value;
    let (id, receipt) = run.pop_one().await;
    assert_eq!((redriven, id), (1, ids[1]));
    run.mq.ack(receipt, none()).await.unwrap();
    let taken = run.mq.pop_dead(Pop::new("t", "default")).await.unwrap().value;
    assert_eq!((taken.len(), taken[0].id, &taken[0].body[..]), (1, ids[0], &b"a"[..]));
    assert_eq!(taken[0].reason(), Some("delivered 2 times; the last time: no"));
    assert_eq!(run.stats().await.queues[0].dead, 1, "it stays until it is acked");
    run.mq.ack(taken[0].receipt.unwrap(), none()).await.unwrap();
    assert_eq!(run.mq.redrive(text("t"), text("default"), None, none()).await.unwrap().value, 0);
    assert_eq!(run.stats().await.queues[0].dead, 0);
}

#[tokio::test]
async fn a_dead_letter_is_taken_once_by_whoever_asks() {
    let run = start(|_| {}).await;
    run.mq.configure(text("t"), Settings { max_retries: Some(0), ..Settings::default() }).await.unwrap();
    for _ in 0..50 {
        run.push(Push::new("t", b"a".to_vec())).await;
        let (_, receipt) = run.pop_one().await;
        run.nack(receipt, 0).await;
    }
    let wish = Pop { max_messages: 50, ..Pop::new("t", "default") };
    let take = || async { run.mq.pop_dead(wish.clone()).await.unwrap().value.len() };
    let (one, two, three) = tokio::join!(take(), take(), take());
    assert_eq!(one + two + three, 50);
    assert_eq!(run.mq.purge_dead(text("t"), text("default"), none()).await.unwrap().value, 0, "they are leased");
}

#[tokio::test]
async fn messages_are_scheduled_outlived_and_changed_by_id() {
    const DAY: u64 = 24 * 3600 * 1000;
    let run = start(|_| {}).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let job = || Push::new("t", b"job".to_vec());
    let (past, year) =
        (run.push(job().with_due_ms(now - DAY)).await, run.push(job().with_due_ms(now + 365 * DAY)).await);
    let delayed = run.push(Push { delay_ms: 365 * DAY, ..job() }).await;
    assert_eq!((run.get(past).await.state.as_str(), run.get(year).await.due_ms), ("ready", now + 365 * DAY));
    let century = refused(run.mq.push(job().with_due_ms(now + 36_500 * DAY)).await).to_string();
    assert!(century.starts_with("the message is due in ") && century.ends_with("(366 days) are taken"), "{century}");
    let never = refused(run.mq.push(job().with_ttl_ms(0)).await).to_string();
    assert_eq!(never, "the time to live is 0: the message could not be delivered");

    let reschedule = |id, due| run.mq.reschedule(text("t"), text("default"), id, due, none());
    reschedule(delayed, 0).await.unwrap();
    run.mq.reprioritize(text("t"), text("default"), delayed, 9, none()).await.unwrap();
    assert_eq!(refused(reschedule(MessageId(1), 0).await), MqError::NoMessage(1));
    let (first, receipt) = run.pop_one().await;
    assert_eq!(first, delayed, "by its new priority");
    let leased = refused(reschedule(first, 0).await).to_string();
    assert_eq!(leased, format!("message {first} is leased: it is scheduled by how its lease ends"));
    run.mq.ack(receipt, none()).await.unwrap();
    reschedule(past, now + DAY).await.unwrap();
    assert_eq!(run.get(past).await.state, "delayed");

    let short = run.push(job().with_ttl_ms(1)).await;
    while run.get(short).await.state != "dead" {
        tokio::task::yield_now().await;
    }
    assert_eq!(run.get(short).await.reason.as_deref(), Some("its time to live ended before it was handled"));
    let stats = run.stats().await;
    let queue = &stats.queues[0];
    assert_eq!((queue.acked, queue.died, queue.outlived, queue.dead, queue.delayed), (1, 1, 1, 1, 2));
    assert!(queue.oldest_ms.is_some_and(|age| age < 60_000), "{queue:?}");
    assert_eq!((stats.settings.max_dead, stats.settings.ttl_ms), (Some(100_000), None));
}

#[tokio::test]
async fn errors_arrive_with_their_types_and_texts() {
    let run = start(|config| config.max_live_messages = 3).await;
    run.mq.declare(text("t"), text("default"), none()).await.unwrap();
    let job = || Push::new("t", b"x".to_vec());
    let (_, receipt) = {
        run.push(job()).await;
        run.pop_one().await
    };
    let stranger: Receipt = receipt.to_string().replacen("7-", "8-", 1).parse().unwrap();
    let store = receipt.to_string().split('-').nth(1).unwrap().to_owned();
    let invalid = |text: &str| MqError::Invalid(text.to_owned());
    let pop = |topic: &str, queue: &str| run.mq.pop(Pop::new(topic, queue));
    let cases = [
        (refused(run.mq.declare(text("t"), text("default"), none()).await), MqError::QueueExists(text("default"))),
        (refused(pop("", "default").await), invalid("topic is empty")),
        (refused(pop("t", "").await), invalid("bindKey is empty")),
        (refused(pop("nope", "default").await), MqError::NoTopic(text("nope"))),
        (refused(pop("t", "zzz").await), MqError::NoQueue(text("zzz"))),
        (refused(run.mq.push(job().to("zzz")).await), MqError::NoQueue(text("zzz"))),
        (refused(run.mq.push(Push::new("t", Vec::new())).await), invalid("data is empty")),
        (refused(run.mq.get(text("t"), text("default"), MessageId(1), none()).await), MqError::NoMessage(1)),
        (refused(run.mq.ack(stranger, none()).await), MqError::OtherNode { node: 8, store }),
        (
            refused(run.mq.configure(text("t"), Settings { ttr_ms: Some(0), ..Settings::default() }).await),
            invalid("msgTTR is 0: a delivery takes longer than that"),
        ),
        (
            refused(run.mq.push_batch(vec![job(); 1001], none()).await),
            invalid("a batch of 1001 messages: at most 1000 are taken at once"),
        ),
        (
            refused(run.mq.push_batch(vec![job(), job(), job()], none()).await),
            MqError::NodeFull(text("it keeps at most 3 messages in memory")),
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
        assert_eq!(found.to_string(), expected.to_string());
    }
    let settings = Settings { max_length: Some(1), ..Settings::default() };
    run.mq.configure(text("t"), settings).await.unwrap();
    let full = refused(run.mq.push(job()).await);
    assert_eq!(full, MqError::Full { queue: text("default"), length: 1, most: 1 });
    assert_eq!(full.code(), Code::ResourceExhausted);
    for (name, of) in [("a/b", "topic \"a/b\""), ("../x", "topic \"../x\""), (&"n".repeat(300), "topic \"nnn")] {
        let error = refused(run.mq.declare(text(name), text("q"), none()).await).to_string();
        assert!(error.starts_with(of), "{error}");
    }
    let texts = [
        (MqError::NoTopic(text("t")), "topic is not exist"),
        (MqError::NoQueue(text("zzz")), "bindKey:zzz can't match queue"),
        (MqError::QueueExists(text("X")), "bindKey X has exist."),
        (MqError::NoMessage(1), "msgId:1 is not exist."),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
    // Nothing of all that was left behind.
    assert_eq!(topics(&run.node, None).await.len(), 1);
}
