use super::*;

fn state(due: Millis) -> CopyState {
    CopyState { due, retries: 0, dead: None }
}

#[test]
fn delivery_is_by_priority_then_due_time_then_id() {
    let mut queue = Queue::new(1, "q".to_owned());
    for (id, priority, due) in [(1, 0, 10), (2, 5, 30), (3, 5, 20), (4, 5, 20), (5, 9, 99)] {
        queue.insert(MessageId(id), Live::new(Place::default(), priority, 0), state(due), None, 50);
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
    queue.insert(id, Live::new(Place::default(), 0, 0), state(0), None, 1);
    queue.set_lease(id, Lease { number: 3, expires: 40, is_begun: false }, 0);
    assert_eq!((queue.first_ready(), queue.first_expired(39), queue.first_expired(40)), (None, None, Some((id, 40))));
    queue.set_lease(id, Lease { number: 3, expires: 90, is_begun: false }, 0);
    assert_eq!((queue.first_expired(40), queue.counts().leased), (None, 1));
    queue.set(id, CopyState { due: 0, retries: 6, dead: Some("poison".to_owned()) }, 1);
    assert_eq!(queue.counts(), Counts { dead: 1, ..Counts::default() });
    assert_eq!(queue.length(), 0);
    assert_eq!(queue.purge().count(), 0);
    queue.set_lease(id, Lease { number: 4, expires: 95, is_begun: false }, 6);
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

#[test]
fn of_a_group_one_is_handed_out_in_the_order_of_ids() {
    let mut queue = Queue::new(1, "q".to_owned());
    let put = |queue: &mut Queue, id, due, group| {
        queue.insert(MessageId(id), Live::new(Place::default(), 0, 0), state(due), group, 50);
    };
    let ready = |queue: &mut Queue| {
        queue.advance(50, 10);
        queue.next_ready().map(|id| id.0).collect::<Vec<_>>()
    };
    put(&mut queue, 1, 90, Some("g"));
    put(&mut queue, 2, 0, Some("g"));
    put(&mut queue, 3, 0, None);
    assert_eq!(ready(&mut queue), [3], "the first of the group is delayed");
    assert_eq!(queue.counts(), Counts { ready: 1, delayed: 1, held: 1, ..Counts::default() });
    queue.remove(MessageId(1));
    assert_eq!(ready(&mut queue), [2, 3]);
    queue.set_lease(MessageId(2), Lease { number: 1, expires: 99, is_begun: false }, 0);
    put(&mut queue, 1, 0, Some("g"));
    put(&mut queue, 4, 0, Some("g"));
    assert_eq!(ready(&mut queue), [3], "while one is leased, older ones wait too");
    queue.set(MessageId(2), CopyState { due: 60, retries: 1, dead: None }, 50);
    assert_eq!(ready(&mut queue), [1, 3]);
    queue.set(MessageId(1), CopyState { due: 50, retries: 9, dead: Some("poison".to_owned()) }, 50);
    assert_eq!((ready(&mut queue), queue.group(MessageId(1))), (vec![3], Some("g")));
    queue.set(MessageId(2), state(0), 50);
    assert_eq!(ready(&mut queue), [2, 3]);
    // A dead letter that is ready again is the first of its group again.
    queue.set(MessageId(1), state(0), 50);
    assert_eq!((ready(&mut queue), queue.counts().held), (vec![1, 3], 2));
    assert_eq!(queue.purge().count(), 4);
    assert!(!queue.has_groups());
    put(&mut queue, 7, 0, Some("g"));
    assert_eq!(ready(&mut queue), [7]);
}
