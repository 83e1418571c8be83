//! Queue nodes as processes: what they hold to when they are killed, stopped, doubled, or lose their disk.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ms_mq::{DEFAULT_QUEUE, Extensions, MqClient, MqNodeClient, Pop, Push, SERVICE};
use ms_rpc::{CallOptions, Client};
use ms_tests::{QueueNode, Server, killed_under_load};

/// The command `ms`.
const MS: &str = env!("CARGO_BIN_EXE_ms-in-tests");

async fn client(node: &QueueNode) -> MqNodeClient {
    let client = Client::connect(&node.address().to_string()).await.unwrap();
    MqNodeClient::new(client).with(CallOptions::new().deadline(Duration::from_secs(20)))
}

async fn killed(times: usize) {
    let survived = killed_under_load(QueueNode::new(MS, &[]).unwrap(), times).await.unwrap();
    println!("{survived}");
    assert!(survived.lost.is_empty(), "pushes are lost: {survived}");
    assert!(survived.again.is_empty(), "delivered after their acks: {survived}");
    assert!(survived.altered.is_empty(), "altered: {survived}");
    assert!(survived.errors.is_empty(), "{survived}");
    assert!(survived.pushed > 10 * times && survived.acked > 5 * times, "too little to tell: {survived}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_node_is_killed() {
    killed(12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and more: the same at full length"]
async fn nothing_is_lost_when_a_node_is_killed_200_times() {
    killed(200).await;
}

#[tokio::test]
async fn a_second_process_over_a_directory_is_refused() {
    let mut node = QueueNode::new(MS, &[]).unwrap();
    node.start().await.unwrap();
    let mut twin = node.twin(&[]).unwrap();
    let status = twin.refused().await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(twin.log().contains("another process has this queue open"), "{}", twin.log());
    let id = client(&node).await.push(Push::new("t", b"x".to_vec())).await.unwrap().value;
    // Killed, it holds nobody back.
    node.kill().await.unwrap();
    twin.start().await.unwrap();
    let popped = client(&twin).await.pop(Pop::new("t", DEFAULT_QUEUE)).await.unwrap().value;
    assert_eq!(popped[0].id, id);
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way() {
    let mut node = QueueNode::new(MS, &[]).unwrap();
    node.start().await.unwrap();
    let mq = client(&node).await;
    mq.declare("t".to_owned(), DEFAULT_QUEUE.to_owned(), Extensions::default()).await.unwrap();
    let pop = Pop { wait_ms: 1000, ..Pop::new("t", DEFAULT_QUEUE) };
    let waiting = tokio::spawn({
        let (mq, pop) = (mq.clone(), pop.clone());
        async move { mq.pop(pop).await }
    });
    let pushes: Vec<_> = (0..200u8)
        .map(|n| {
            let mq = mq.clone();
            tokio::spawn(async move { mq.push(Push::new("t", vec![n])).await })
        })
        .collect();
    // One is answered, the others are on their way.
    assert_eq!(waiting.await.unwrap().unwrap().value.len(), 1);
    let stopped = tokio::spawn(async move {
        let status = node.stop().await.unwrap();
        (node, status)
    });
    let mut taken = 0;
    for push in pushes {
        match push.await.unwrap() {
            Ok(_) => taken += 1,
            Err(ms_mq::QueueError::Status(status)) => assert_eq!(status.code(), ms_rpc::Code::Unavailable, "{status}"),
            Err(error) => panic!("{error}"),
        }
    }
    let (mut node, status) = stopped.await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    node.start().await.unwrap();
    let stats = client(&node).await.stats(None, Extensions::default()).await.unwrap().value;
    let queue = &stats[0].queues[0];
    // A push that was refused unexecuted is not there; all that were answered are.
    assert_eq!(queue.ready + queue.leased, taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_listed_for_another_directory_is_refused() {
    let etcd = Server::etcd().await.unwrap();
    let url = etcd.url();
    let arguments = ["--registry", url.as_str(), "--node-id", "5"];
    let mut first = QueueNode::new(MS, &arguments).unwrap();
    first.start().await.unwrap();
    let mut other = QueueNode::new(MS, &arguments).unwrap();
    assert_eq!(other.refused().await.unwrap().code(), Some(1));
    let log = other.log();
    assert!(
        log.contains("node-id: 5 is listed already, for another directory, at")
            && log.contains(&first.address().to_string()),
        "{log}"
    );
    // Itself it may follow at once, though the registry still lists who was killed.
    first.kill().await.unwrap();
    first.start().await.unwrap();
    let mut next = QueueNode::new(MS, &["--registry", &url, "--node-id", "6"]).unwrap();
    next.start().await.unwrap();
    let registry = ms_register::connect(&url).await.unwrap();
    let mq = MqClient::new(registry).unwrap();
    mq.declare("t", DEFAULT_QUEUE).await.unwrap();
    assert_eq!(mq.stats(Some("t")).await.unwrap().len(), 2);
    assert_eq!(first.stop().await.unwrap().code(), Some(0));
    // Now it is free.
    other.start().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_node() {
    let etcd = Server::etcd().await.unwrap();
    let mut node = QueueNode::new(MS, &["--registry", &etcd.url()]).unwrap();
    node.start().await.unwrap();
    let mq = client(&node).await;
    let id = mq.push(Push::new("t", b"kept".to_vec())).await.unwrap().value;
    let registry = ms_register::connect(&etcd.url()).await.unwrap();
    let service = SERVICE.parse().unwrap();
    assert_eq!(registry.list(&service).await.unwrap().len(), 1);
    node.break_disk().unwrap();
    let error = mq.push(Push::new("t", b"lost".to_vec())).await.unwrap_err();
    assert!(matches!(error, ms_mq::QueueError::Service(ms_mq::MqError::DiskFailed(_))), "{error}: {}", node.log());
    let status = node.ended().await.unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(registry.list(&service).await.unwrap().is_empty(), "it is listed still");
    node.start().await.unwrap();
    let mq = client(&node).await;
    let popped = mq.pop(Pop { max_messages: 10, ..Pop::new("t", DEFAULT_QUEUE) }).await.unwrap().value;
    assert_eq!(popped.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [id]);
}
