//! A message that nobody can handle.

use std::time::Duration;

use super::stats;
use super::{
    super::*,
    made_up::{begin, open, pop},
};
use crate::{Change, End, Engine, Look, Pop, Push, QueueName, Settings};

#[tokio::test]
async fn a_poison_message_is_dead_after_its_retries_and_one_while_the_queue_moves() {
    const RETRIES: u16 = 3;
    let (_disk, clock, node) = begin();
    let settings = Settings { max_retries: Some(RETRIES), ttr_ms: Some(1000), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings.clone())).await.unwrap();
    let poison = node.push(Push::new("t", b"poison".to_vec())).await.unwrap();
    let (mut deliveries, mut handled) = (0, 0);
    for n in 0..50u8 {
        let good = node.push(Push::new("t", vec![n])).await.unwrap();
        for delivery in pop(&node, 10).await {
            let receipt = delivery.receipt.unwrap();
            if delivery.id != poison {
                assert_eq!(delivery.id, good, "the others are not held up");
                node.end(&receipt, &End::Ack).await.unwrap();
                handled += 1;
                continue;
            }
            assert_eq!(delivery.retries, deliveries);
            deliveries += 1;
            // A consumer that takes it nacks it, or dies over it.
            if deliveries % 2 == 0 {
                node.end(&receipt, &End::nack(Duration::from_millis(10), "it cannot be read")).await.unwrap();
            }
        }
        clock.advance(1000);
    }
    assert_eq!((deliveries, handled), (RETRIES + 1, 50));
    let dead = node
        .look(Look::List { queue: QueueName::new("t", "default"), after: MessageId(0), most: 10, dead: true })
        .await
        .unwrap()
        .messages();
    assert_eq!(dead.iter().map(|info| (info.id, info.retries)).collect::<Vec<_>>(), [(poison, RETRIES + 1)]);
    let reason = dead[0].reason.clone().unwrap();
    assert_eq!(reason, "delivered 4 times; the last time: it cannot be read");

    // It begins anew, under its id.
    assert_eq!(node.change(Change::Redrive(QueueName::new("t", "default"), None)).await, Ok(1));
    let again = pop(&node, 10).await;
    assert_eq!(again.iter().map(|delivery| (delivery.id, delivery.retries)).collect::<Vec<_>>(), [(poison, 0)]);
}

#[tokio::test]
async fn without_retries_the_first_failure_is_the_end() {
    let (_disk, clock, node) = begin();
    let settings = Settings { max_retries: Some(0), ttr_ms: Some(1000), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings.clone())).await.unwrap();
    node.push(Push::new("t", b"once".to_vec())).await.unwrap();
    assert_eq!(pop(&node, 1).await.len(), 1);
    clock.advance(1000);
    assert!(pop(&node, 1).await.is_empty());
    assert_eq!(stats(&node, "t").await.queues[0].dead, 1);
}

#[tokio::test]
async fn a_dead_letter_is_leased_by_one_and_stays_until_it_is_acked() {
    let (disk, clock, node) = begin();
    let settings = Settings { max_retries: Some(0), ttr_ms: Some(1000), ..Settings::default() };
    node.change(Change::Configure("t".to_owned(), settings)).await.unwrap();
    node.push_batch((0..20).map(|n| Push::new("t", vec![n])).collect()).await.unwrap();
    for delivery in pop(&node, 20).await {
        node.end(&delivery.receipt.unwrap(), &End::nack(Duration::ZERO, "no")).await.unwrap();
    }
    let wish = Pop { max_messages: 15, ..Pop::new("t", "default") };
    let (one, other) = tokio::join!(node.pop_dead(&wish), node.pop_dead(&wish));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.len() + other.len(), 20, "each is leased by one");
    assert_eq!(one[0].reason(), Some("delivered 1 times; the last time: no"));
    // Leased dead letters are neither redriven nor purged.
    let queue = || QueueName::new("t", "default");
    assert_eq!(node.change(Change::Redrive(queue(), None)).await, Ok(0));
    assert_eq!(node.change(Change::PurgeDead(queue())).await, Ok(0));
    let acked: Vec<_> = one.iter().chain(&other).filter_map(|delivery| delivery.receipt).collect();
    node.end(&acked[0], &End::Ack).await.unwrap();
    node.end(&acked[1], &End::nack(Duration::ZERO, "not now")).await.unwrap();
    // An answer that went to nobody costs nothing.
    node.give_back(vec![acked[2]])();
    assert_eq!(
        node.pop_dead(&wish).await.unwrap().iter().map(|d| d.id).collect::<Vec<_>>(),
        [acked[1].id(), acked[2].id()]
    );
    clock.advance(1000);
    assert_eq!(node.end(&acked[3], &End::Ack).await, Err(MqError::NotLeased(acked[3].id().0)));
    drop(node);
    let node = open(&disk, &clock).unwrap();
    assert_eq!(stats(&node, "t").await.queues[0].dead, 19);
    assert_eq!(node.change(Change::Redrive(queue(), None)).await, Ok(19));
    assert_eq!(pop(&node, 100).await.len(), 19);
}
