use super::*;

fn state(due: Millis) -> CopyState {
    CopyState { due, retries: 0, dead: None }
}

#[test]
fn delivery_is_by_priority_then_due_time_then_id() {
    let mut queue = Queue::new(1, "q".to_owned());
    for (id, priority, due) in [(1, 0, 10), (2, 5, 30), (3, 5, 20), (4, 5, 20), (5, 9, 99)] {
        queue.insert(MessageId(id), Live::new(Place::default(), priority, 0), state(due), 50);
    }
    let order: Vec<_> = queue.next_ready().map(|id| id.0).collect();
    assert_eq!(order, [3, 4, 2, 1]);
    assert_eq!(queue.next_change(), Some(99));
    assert_eq!(queue.advance(99, 10), 1);
    assert_eq!(queue.first_ready(), Some(MessageId(5)));
    queue.paused = true;
    assert_eq!(queue.first_ready(), None);
}

#[test]
fn each_message_stands_in_one_place() {
    let mut queue = Queue::new(1, "q".to_owned());
    let id = MessageId(7);
    queue.insert(id, Live::new(Place::default(), 0, 0), state(0), 1);
    queue.set_lease(id, Lease { number: 3, expires: 40 }, 0);
    assert_eq!((queue.first_ready(), queue.first_expired(39), queue.first_expired(40)), (None, None, Some((id, 40))));
    queue.set_lease(id, Lease { number: 3, expires: 90 }, 0);
    assert_eq!((queue.first_expired(40), queue.counts().leased), (None, 1));
    queue.set(id, CopyState { due: 0, retries: 6, dead: Some("poison".to_owned()) }, 1);
    assert_eq!(queue.counts(), Counts { dead: 1, ..Counts::default() });
    assert_eq!(queue.length(), 0);
    assert_eq!(queue.purge().count(), 0);
    queue.set_lease(id, Lease { number: 4, expires: 95 }, 6);
    assert_eq!((queue.counts().dead, queue.lease(id).map(|lease| lease.number)), (1, Some(4)));
    assert_eq!((queue.free_letters().count(), queue.next_change()), (0, None));
    assert_eq!((queue.advance(94, 10), queue.advance(95, 10)), (0, 1));
    assert_eq!((queue.free_letters().next(), queue.dead_reason(id)), (Some((0, id)), Some("poison")));
    assert_eq!(queue.additions(), (6, 0));
    queue.set(id, state(5), 1);
    assert_eq!(queue.counts(), Counts { delayed: 1, ..Counts::default() });
    assert_eq!((queue.purge().count(), queue.additions()), (1, (0, 0)));
    assert_eq!(queue.counts(), Counts::default());
}
