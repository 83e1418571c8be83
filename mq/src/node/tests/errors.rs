//! A disk that answers with an error. After a write, a sync or a reservation that failed, nothing is taken any more.

use super::{
    super::*,
    made_up::{SEGMENT, begin, open, pop},
};
use crate::store::faulty::Operation;
use crate::{Change, End, Engine, Push, QueueName};

#[tokio::test]
async fn a_reservation_that_fails_is_the_end_and_no_full_disk() {
    let (disk, clock, node) = begin();
    let mut confirmed = vec![node.push(Push::new("t", vec![7; 1000])).await.unwrap()];
    disk.fail(Operation::Create);
    let failed = loop {
        match node.push(Push::new("t", vec![7; 1000])).await {
            Ok(id) => confirmed.push(id),
            Err(error) => break error,
        }
        assert!((confirmed.len() as u64) < 20 * SEGMENT / 1000, "it never reserves");
    };
    assert!(matches!(failed, MqError::DiskFailed(_)), "{failed}");
    assert_eq!(node.failed().await, failed);
    drop(node);
    let error = open(&disk, &clock).map(drop);
    assert!(error.is_ok() || matches!(error, Err(OpenError::Io(_))), "{error:?}");
    disk.lose();
    let node = open(&disk, &clock).unwrap();
    let there = pop(&node, 1000).await;
    assert!(confirmed.iter().all(|id| there.iter().any(|delivery| delivery.id == *id)), "what was confirmed is there");
}

#[tokio::test]
async fn what_waits_when_the_disk_fails_is_told_so() {
    for operation in [Operation::Sync, Operation::Write] {
        let (disk, _clock, node) = begin();
        node.push(Push::new("t", b"before".to_vec())).await.unwrap();
        let receipt = pop(&node, 1).await.remove(0).receipt.unwrap();
        disk.fail(operation);
        let waiting = {
            let node = node.clone();
            let wish = crate::Pop { wait_ms: 3_600_000, ..crate::Pop::new("t", "default") };
            tokio::spawn(async move { node.pop(&wish).await })
        };
        let pushes: Vec<_> = (0..50)
            .map(|n| {
                let node = node.clone();
                tokio::spawn(async move { node.push(Push::new("t", vec![n])).await })
            })
            .collect();
        let acked = node.end(&receipt, &End::Ack).await;
        assert!(matches!(acked, Err(MqError::DiskFailed(_))), "{acked:?}");
        for push in pushes {
            let pushed = push.await.unwrap();
            assert!(matches!(pushed, Err(MqError::DiskFailed(_))), "{pushed:?}");
        }
        let popped = waiting.await.unwrap();
        assert!(matches!(popped, Err(MqError::DiskFailed(_))), "{popped:?}");
        assert!(matches!(
            node.change(Change::Declare(QueueName::new("t", "other"))).await,
            Err(MqError::DiskFailed(_))
        ));
    }
}
