//! A message that nobody can handle.

use super::{
    super::*,
    made_up::{begin, pop},
};

#[tokio::test]
async fn a_poison_message_is_dead_after_its_retries_and_one_while_the_queue_moves() {
    const RETRIES: u16 = 3;
    let (_disk, clock, node) = begin();
    let settings = Settings { max_retries: Some(RETRIES), ttr_ms: Some(1000), ..Settings::default() };
    node.configure("t", &settings).await.unwrap();
    let poison = node.push(Push::new("t", b"poison".to_vec())).await.unwrap();
    let (mut deliveries, mut handled) = (0, 0);
    for n in 0..50u8 {
        let good = node.push(Push::new("t", vec![n])).await.unwrap();
        for delivery in pop(&node, 10).await {
            let receipt = delivery.receipt.unwrap();
            if delivery.id != poison {
                assert_eq!(delivery.id, good, "the others are not held up");
                node.ack(&receipt).await.unwrap();
                handled += 1;
                continue;
            }
            assert_eq!(delivery.retries, deliveries);
            deliveries += 1;
            // Whoever takes it says so, or dies over it.
            if deliveries % 2 == 0 {
                node.nack(&receipt, Duration::from_millis(10), "it cannot be read").await.unwrap();
            }
        }
        clock.advance(1000);
    }
    assert_eq!((deliveries, handled), (RETRIES + 1, 50));
    let dead = node.list("t", "default", MessageId(0), 10, true).unwrap();
    assert_eq!(dead.iter().map(|info| (info.id, info.retries)).collect::<Vec<_>>(), [(poison, RETRIES + 1)]);
    let reason = dead[0].reason.clone().unwrap();
    assert_eq!(reason, "delivered 4 times; the last time: it cannot be read");

    // It begins anew, under its id.
    assert_eq!(node.redrive("t", "default", None).await, Ok(1));
    let again = pop(&node, 10).await;
    assert_eq!(again.iter().map(|delivery| (delivery.id, delivery.retries)).collect::<Vec<_>>(), [(poison, 0)]);
}

#[tokio::test]
async fn without_retries_the_first_failure_is_the_end() {
    let (_disk, clock, node) = begin();
    let settings = Settings { max_retries: Some(0), ttr_ms: Some(1000), ..Settings::default() };
    node.configure("t", &settings).await.unwrap();
    node.push(Push::new("t", b"once".to_vec())).await.unwrap();
    assert_eq!(pop(&node, 1).await.len(), 1);
    clock.advance(1000);
    assert!(pop(&node, 1).await.is_empty());
    assert_eq!(node.stats("t").unwrap().queues[0].dead, 1);
}

#[tokio::test]
async fn a_dead_letter_is_taken_by_one() {
    let (_disk, _clock, node) = begin();
    node.configure("t", &Settings { max_retries: Some(0), ..Settings::default() }).await.unwrap();
    node.push_batch((0..20).map(|n| Push::new("t", vec![n])).collect()).await.unwrap();
    for delivery in pop(&node, 20).await {
        node.nack(&delivery.receipt.unwrap(), Duration::ZERO, "no").await.unwrap();
    }
    let (one, other, redriven) = tokio::join!(
        node.pop_dead("t", "default", 20),
        node.pop_dead("t", "default", 20),
        node.redrive("t", "default", None)
    );
    let ready = pop(&node, 20).await.len() as u64;
    assert_eq!(ready, redriven.unwrap());
    assert_eq!((one.unwrap().len() + other.unwrap().len()) as u64 + ready, 20, "each is taken once");
}
