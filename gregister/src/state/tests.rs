use super::*;

const TTL: Duration = Duration::from_secs(10);

fn elections() -> Elections {
    Elections::new(TTL, 0)
}

fn name(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn record(port: u16) -> Record {
    let id = format!("10.0.0.1:{port}");
    Record { id, host: "10.0.0.1".into(), port, weight: 1.0, metadata: BTreeMap::new() }
}

fn put(port: u16, lease: &str) -> Request {
    Request::Put { service: name("goods"), record: record(port), lease: lease.into(), ttl: TTL, since: 7 }
}

fn renew(port: u16, lease: &str) -> Request {
    Request::Renew { service: name("goods"), id: record(port).id, lease: lease.into() }
}

fn remove(port: u16, lease: Option<&str>) -> Request {
    Request::Remove { service: name("goods"), id: record(port).id, lease: lease.map(Into::into) }
}

fn node(id: u16, tcp: &str, http: &str, weight: u32) -> Joined {
    Joined { id, http_addr: http.into(), tcp_addr: tcp.into(), since: 1_136_214_245, weight }
}

fn ports(state: &State) -> Vec<u16> {
    state.view().entries(&name("goods")).map(|entry| entry.record.port).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass as a running node does.
fn run(state: &mut State, from: Duration, to: Duration) {
    let mut now = from;
    while now < to {
        now = (now + millis(250)).min(to);
        state.handle(Request::Tick, now).unwrap();
    }
}

#[test]
fn a_lease_ends_unless_it_is_renewed() {
    let mut state = State::replay(vec![], 1, elections());
    assert_eq!(state.handle(put(1, "a"), Duration::ZERO), Ok(true));
    assert_eq!(state.handle(put(2, "b"), Duration::ZERO), Ok(true));
    run(&mut state, Duration::ZERO, millis(9_999));
    assert_eq!(state.handle(renew(1, "a"), millis(9_999)), Ok(true));
    run(&mut state, millis(9_999), millis(10_000));
    assert_eq!(ports(&state), [1]);
    assert_eq!(state.handle(renew(2, "b"), millis(10_000)), Err(Refusal::Gone("instance")));
    run(&mut state, millis(10_000), millis(19_998));
    assert_eq!(ports(&state), [1]);
    run(&mut state, millis(19_998), millis(20_000));
    assert!(ports(&state).is_empty() && state.view().services.is_empty());
}

#[test]
fn a_pause_of_the_node_ends_no_lease() {
    let mut state = State::replay(vec![], 1, elections());
    state.handle(put(1, "a"), Duration::ZERO).unwrap();
    state.handle(Request::Tick, Duration::from_secs(3_600)).unwrap();
    assert_eq!(ports(&state), [1]);
    run(&mut state, Duration::from_secs(3_600), Duration::from_secs(3_609));
    assert!(ports(&state).is_empty(), "a second was counted, and nine more have passed");
}

#[test]
fn the_last_to_write_is_listed_and_nobody_takes_it_from_them() {
    let mut state = State::replay(vec![], 1, elections());
    state.handle(put(1, "a"), Duration::ZERO).unwrap();
    state.handle(put(1, "b"), Duration::ZERO).unwrap();
    assert_eq!(state.handle(renew(1, "a"), Duration::ZERO), Ok(false));
    assert_eq!(state.handle(remove(1, Some("a")), Duration::ZERO), Ok(false));
    assert_eq!(ports(&state), [1]);
    assert_eq!(state.handle(remove(1, Some("b")), Duration::ZERO), Ok(true));
    assert_eq!(state.handle(remove(1, None), Duration::ZERO), Ok(false));
    state.handle(put(1, "a"), Duration::ZERO).unwrap();
    assert_eq!(state.handle(remove(1, None), Duration::ZERO), Ok(true), "without a lease it goes in any case");
}

#[test]
fn revisions_tell_which_service_has_changed() {
    let mut state = State::replay(vec![], 1, elections());
    let goods = name("goods");
    let elsewhere =
        Request::Put { service: name("orders"), record: record(9), lease: String::new(), ttl: TTL, since: 0 };
    state.handle(put(1, "a"), Duration::ZERO).unwrap();
    state.handle(elsewhere, Duration::ZERO).unwrap();
    assert_eq!((state.view().modified(&goods), state.view().revision), (1, 2));
    state.handle(put(1, "a"), Duration::ZERO).unwrap();
    state.handle(renew(1, "a"), Duration::ZERO).unwrap();
    assert_eq!(state.view().revision, 2, "nothing has changed");
    state.handle(remove(1, None), Duration::ZERO).unwrap();
    assert_eq!((state.view().modified(&goods), state.view().revision), (3, 3), "the end of the last one is seen too");
}

#[test]
fn a_restart_keeps_everything_and_begins_each_lease_anew() {
    let mut state = State::replay(vec![], 77, elections());
    for port in 1..=3 {
        state.handle(put(port, "a"), Duration::ZERO).unwrap();
    }
    run(&mut state, Duration::ZERO, millis(9_000));
    state.handle(remove(2, None), millis(9_000)).unwrap();
    state.handle(Request::Join(node(5, "h:1", "", 3)), millis(9_000)).unwrap();
    let log = state.take_changes();
    assert_eq!(log.len(), 5);
    for changes in [log, state.as_changes()] {
        let mut changes = changes;
        if !matches!(changes[0], Change::Store { .. }) {
            changes.insert(0, Change::Store { store: 77, revision: 0 });
        }
        let mut again = State::replay(changes, 1, elections());
        let (view, before) = (again.view(), state.view());
        assert_eq!((view.store, view.revision, ports(&again)), (77, before.revision, vec![1, 3]));
        assert_eq!(view.joined, before.joined);
        run(&mut again, Duration::ZERO, millis(9_999));
        assert_eq!(ports(&again), [1, 3]);
        run(&mut again, millis(9_999), millis(10_000));
        assert!(ports(&again).is_empty());
    }
}

#[test]
fn nodes_join_under_a_number_and_addresses_of_their_own() {
    let mut state = State::replay(vec![], 1, elections());
    let mut join = |node| state.handle(Request::Join(node), Duration::ZERO).map_err(|refusal| refusal.to_string());
    join(node(2, "h:1", "h:2", 1)).unwrap();
    for (wrong, reason) in [
        (node(2, "h:3", "h:4", 1), "node.Id 2 has exist"),
        (node(3, "h:1", "h:4", 1), "node.tcpAddr h:1 has exist"),
        (node(3, "h:3", "h:2", 1), "node.httpAddr h:2 has exist"),
        (node(0, "h:3", "h:4", 1), "node_id must be 1 to 1023."),
        (node(1024, "h:3", "h:4", 1), "node_id must be 1 to 1023."),
        (node(3, "h:3", "h:4", 0), "weight must be greater than 0."),
    ] {
        assert_eq!(join(wrong), Err(reason.to_owned()));
    }
    join(node(3, "h:3", "", 1)).unwrap();
    join(node(4, "h:4", "", 1)).unwrap();
    let mut registered = record(80);
    registered.metadata.insert("mq.node".into(), "7".into());
    let put = Request::Put { service: name("mq"), record: registered, lease: String::new(), ttl: TTL, since: 0 };
    state.handle(put, Duration::ZERO).unwrap();
    assert_eq!(state.view().shown().iter().map(|node| node.id).collect::<Vec<_>>(), [2, 3, 4, 7]);
    let taken = state.handle(Request::Join(node(7, "h:7", "", 1)), Duration::ZERO);
    assert_eq!(taken.unwrap_err().to_string(), "node.Id 7 has exist");
}

#[test]
fn three_misses_in_a_row_remove_a_node_and_fewer_do_not() {
    let mut state = State::replay(vec![], 1, elections());
    for id in [1, 2] {
        state.handle(Request::Join(node(id, &format!("h:{id}"), "", 1)), Duration::ZERO).unwrap();
    }
    let mut probed = |first: bool, second: bool| {
        let outcomes = vec![(1, "h:1".to_owned(), first), (2, "h:2".to_owned(), second), (9, "h:9".to_owned(), false)];
        state.handle(Request::Probed(outcomes), Duration::ZERO).unwrap();
        state.view().joined.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(probed(false, false), [1, 2]);
    assert_eq!(probed(false, false), [1, 2]);
    assert_eq!(probed(true, false), [1]);
    assert_eq!(probed(false, true), [1]);
    assert_eq!(probed(false, true), [1]);
    assert_eq!(probed(false, true), [0_u16; 0]);
}

#[test]
fn weights_are_edited_and_nodes_leave() {
    let mut state = State::replay(vec![], 1, elections());
    state.handle(Request::Join(node(1, "h:1", "", 1)), Duration::ZERO).unwrap();
    let mut reweigh = |tcp_addr: &str, weight| {
        let request = Request::Reweigh { tcp_addr: tcp_addr.into(), weight };
        state.handle(request, Duration::ZERO).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(reweigh("h:1", 0), Err("weight must be greater than 0.".into()));
    assert_eq!(reweigh("h:2", 1), Err("node is not exist".into()));
    assert_eq!(reweigh("h:1", 9), Ok(true));
    assert_eq!(state.view().shown()[0].weight, 9);
    let leave = Request::Leave { tcp_addr: "h:1".into() };
    assert_eq!(state.handle(leave.clone(), Duration::ZERO), Ok(true));
    assert_eq!(state.handle(leave, Duration::ZERO).unwrap_err().to_string(), "addr is not exist");
}

#[test]
fn what_peers_cannot_dial_is_refused() {
    let mut state = State::replay(vec![], 1, elections());
    let mut written = |record: Record| {
        let request = Request::Put { service: name("goods"), record, lease: String::new(), ttl: TTL, since: 0 };
        state.handle(request, Duration::ZERO).is_ok()
    };
    assert!(!written(Record { host: "0.0.0.0".into(), ..record(1) }));
    assert!(!written(Record { host: "[h".into(), ..record(1) }));
    assert!(!written(Record { weight: -1.0, ..record(1) }));
    assert!(!written(Record { id: "a/b".into(), ..record(1) }));
    assert!(written(Record { weight: 0.0, ..record(1) }), "0 takes an instance out of service");
}
