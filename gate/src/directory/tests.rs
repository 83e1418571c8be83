use super::*;

fn directory() -> Directory<u8> {
    Directory::new("g".into(), 100)
}

fn number(member: &Member) -> u64 {
    member.id.number
}

#[test]
fn numbers_rise_and_are_not_used_again() {
    let mut all = directory();
    let first = all.join("a:1".into(), 1);
    all.leave(first.id.number);
    let second = all.join("a:1".into(), 2);
    assert_eq!([number(&first), number(&second)], [100, 101]);
    assert_eq!((all.get(100), all.get(101), all.len()), (None, Some(2), 1));
    assert_eq!(second.id.to_string(), "g/101");
}

#[test]
fn a_user_has_one_connection_and_a_connection_one_user() {
    let mut all = directory();
    let [a, b] = [1, 2].map(|to| number(&all.join("a:1".into(), to)));
    assert_eq!(all.bind(7, "ann", 1), None, "no such member");
    assert_eq!(all.bind(a, "ann", 1), Some(None));
    assert_eq!(all.bind(a, "ann", 2), Some(None), "again");
    assert_eq!(all.bind(b, "ann", 3), Some(Some(a)), "the later one has her");
    assert_eq!(all.describe(a).unwrap().user, None);
    assert_eq!(all.of_user("ann").map(|member| number(&member)), Some(b));
    assert_eq!(all.bind(b, "bob", 4), Some(None));
    assert!(all.of_user("ann").is_none(), "{b} is bob now");
    all.leave(b);
    assert!(all.of_user("bob").is_none());
    assert!(all.users.is_empty());
}

#[test]
fn only_an_older_binding_gives_way() {
    let mut all = directory();
    let a = number(&all.join("a:1".into(), 1));
    all.bind(a, "ann", 10);
    assert_eq!(all.unbind("ann", 10), None, "as old");
    assert_eq!(all.unbind("ann", 11), Some(a));
    assert_eq!(all.unbind("ann", 12), None, "gone");
    assert_eq!(all.describe(a).unwrap().user, None);
}

#[test]
fn a_group_is_forgotten_with_its_last_member() {
    let mut all = directory();
    let [a, b] = [1, 2].map(|to| number(&all.join("a:1".into(), to)));
    assert!(all.enter(a, "room") && all.enter(a, "room") && all.enter(b, "room"));
    assert!(!all.enter(7, "room"));
    let mut of = all.of_group("room");
    of.sort_unstable();
    assert_eq!(of, [1, 2]);
    assert!(all.exit(b, "room") && all.exit(b, "other"));
    assert_eq!(all.of_group("room"), [1]);
    all.leave(a);
    assert!(all.groups.is_empty());
    assert!(all.of_group("room").is_empty());
}

/// A follower's view, brought up to date with a directory.
fn follow(all: &Directory<u8>, known: &mut HashSet<u64>, cursor: &mut Cursor) {
    let mut listed: Option<HashSet<u64>> = None;
    loop {
        let changes = all.since(*cursor);
        if changes.is_reset {
            listed = Some(HashSet::new());
        }
        for member in &changes.joined {
            known.insert(number(member));
            listed.iter_mut().for_each(|listed| listed.extend([number(member)]));
        }
        for left in &changes.left {
            known.remove(left);
        }
        *cursor = changes.cursor;
        if !changes.more {
            break;
        }
    }
    if let Some(listed) = listed {
        known.retain(|number| listed.contains(number));
    }
}

#[test]
fn a_follower_sees_all_members_however_far_it_is_behind() {
    let (mut all, mut known, mut cursor) = (directory(), HashSet::new(), Cursor::default());
    for round in 0..4_u64 {
        // In the last round more leave than are kept.
        let crowd = if round == 3 { DEPARTURES as u64 + 10 } else { PAGE as u64 + 10 };
        let joined: Vec<_> = (0..crowd).map(|_| number(&all.join("a:1".into(), 1))).collect();
        if round % 2 == 1 {
            follow(&all, &mut known, &mut cursor);
        }
        joined.iter().skip(1).for_each(|number| all.leave(*number));
        follow(&all, &mut known, &mut cursor);
        let there: HashSet<u64> = all.members.keys().copied().collect();
        assert_eq!((known.len(), &known), (round as usize + 1, &there));
    }
    assert_eq!(all.since(cursor), Changes { cursor, ..Changes::default() }, "nothing new");
}

#[test]
fn a_gate_that_started_again_says_so() {
    let (mut before, mut known, mut cursor) = (directory(), HashSet::new(), Cursor::default());
    before.join("a:1".into(), 1);
    follow(&before, &mut known, &mut cursor);
    let mut after = Directory::new("g".into(), 5_000);
    let member = after.join("a:1".into(), 1);
    follow(&after, &mut known, &mut cursor);
    assert_eq!(known, HashSet::from([number(&member)]));
}
