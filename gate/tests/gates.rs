//! Several gates that share nothing but the registry: pushes, users, groups, and gates that die.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use ms_gate::{Member, MemberId, RunningGate};
use ms_register::MsRegister;
use ms_rpc::Blob;
use tokio::{sync::mpsc, time::timeout};

use support::{Cluster, PATIENCE, Tlv};

async fn connect(gate: &RunningGate) -> (Tlv, MemberId) {
    let mut client = Tlv::connect(gate.tcp_address().unwrap()).await;
    let id = client.id().await;
    (client, id)
}

async fn two_gates() -> (Cluster, [RunningGate; 2]) {
    let cluster = Cluster::new();
    let gates = [cluster.start(cluster.gate()).await, cluster.start(cluster.gate()).await];
    (cluster, gates)
}

/// Asserts that nothing has come before the answer to a question of its own.
async fn hears_nothing(client: &mut Tlv) {
    let (msg_id, said) = client.ask(1, "nothing").await;
    assert!(msg_id == 1 && said.ends_with(" nothing"), "{msg_id}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_whom_it_is_for_at_whatever_gate() {
    let (cluster, gates) = two_gates().await;
    let client = cluster.client();
    let ((mut a, id_a), (mut b, id_b), (mut c, id_c)) =
        (connect(&gates[0]).await, connect(&gates[1]).await, connect(&gates[1]).await);
    assert!(id_a.gate != id_b.gate && id_b.gate == id_c.gate && id_b.number < id_c.number);

    // One.
    assert!(client.push(&id_b, 50, Blob::from(b"one".to_vec())).await.unwrap());
    assert_eq!(b.text().await, (50, "one".to_owned()));
    // Many.
    let nobody = MemberId { number: 1, ..id_a.clone() };
    let pushed =
        client.push_many(&[id_a.clone(), id_c.clone(), nobody.clone()], 51, Blob::from(b"many".to_vec())).await;
    assert_eq!((pushed.reached, &pushed.missed[..]), (2, &[nobody][..]));
    assert!(pushed.failed.is_empty());
    for client in [&mut a, &mut c] {
        assert_eq!(client.text().await, (51, "many".to_owned()));
    }
    // A group.
    assert!(client.enter(&id_a, "room").await.unwrap() && client.enter(&id_c, "room").await.unwrap());
    assert_eq!(client.push_group("room", 52, Blob::from(b"group".to_vec())).await.unwrap().reached, 2);
    for client in [&mut a, &mut c] {
        assert_eq!(client.text().await, (52, "group".to_owned()));
    }
    assert!(client.exit(&id_c, "room").await.unwrap());
    assert_eq!(client.push_group("room", 52, Blob::from(b"left".to_vec())).await.unwrap().reached, 1);
    assert_eq!(a.text().await, (52, "left".to_owned()));
    // All.
    assert_eq!(client.push_all(53, Blob::from(b"all".to_vec())).await.unwrap().reached, 3);
    for client in [&mut a, &mut b, &mut c] {
        assert_eq!(client.text().await, (53, "all".to_owned()));
        hears_nothing(client).await;
    }
    // Nobody, any more.
    drop(a);
    gone(&gates[0]).await;
    assert!(!client.push(&id_a, 50, Blob::default()).await.unwrap());
    assert_eq!(client.push_group("room", 52, Blob::default()).await.unwrap().reached, 0);
    // Closed by a back end, after what was pushed.
    assert!(client.push(&id_b, 54, Blob::from(b"bye".to_vec())).await.unwrap() && client.close(&id_b).await.unwrap());
    assert_eq!(b.text().await, (54, "bye".to_owned()));
    assert_eq!(b.next().await, None);
}

/// Waits until a gate has no member left.
async fn gone(gate: &RunningGate) {
    timeout(PATIENCE, async {
        while gate.members() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_found_at_whatever_gate_and_has_one_connection() {
    let (cluster, gates) = two_gates().await;
    let ims = cluster.ims().await;
    // One binds, another one has never heard of it.
    let (binds, asks) = (cluster.client(), cluster.client());
    let ((mut a, id_a), (mut b, id_b)) = (connect(&gates[0]).await, connect(&gates[1]).await);
    assert!(!asks.push_user("ann", 60, Blob::default()).await.unwrap());
    assert!(binds.bind(&id_a, "ann").await.unwrap());
    for text in ["asked", "remembered"] {
        assert!(asks.push_user("ann", 60, text.as_bytes().to_vec()).await.unwrap());
        assert_eq!(a.text().await, (60, text.to_owned()));
    }
    // A back end is told the user with each message.
    a.send(6, b"").await;
    hears_nothing(&mut a).await;
    let heard: Vec<_> = ims.iter().flat_map(|(_, im)| im.heard.lock().unwrap().clone()).collect();
    assert_eq!(heard.iter().map(|(from, ..)| from.user.as_deref()).collect::<Vec<_>>(), [Some("ann")]);
    // She connects elsewhere.
    assert!(binds.bind(&id_b, "ann").await.unwrap());
    for client in [&binds, &asks] {
        assert!(client.push_user("ann", 61, Blob::from(b"moved".to_vec())).await.unwrap());
        assert_eq!(b.text().await, (61, "moved".to_owned()));
    }
    assert_eq!(asks.find("ann").await.unwrap().unwrap().id, id_b);
    hears_nothing(&mut a).await;
    drop(b);
    gone(&gates[1]).await;
    assert!(!asks.push_user("ann", 61, Blob::default()).await.unwrap());
    assert!(!binds.bind(&id_b, "ann").await.unwrap(), "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_users_in_parallel_get_each_message_once() {
    const EACH: u32 = 20;
    let (cluster, gates) = two_gates().await;
    let client = cluster.client();
    let mut users = Vec::new();
    for number in 0..100 {
        let (tlv, id) = connect(&gates[number % 2]).await;
        let user = format!("user-{number}");
        assert!(client.bind(&id, &user).await.unwrap());
        users.push((tlv, user));
    }
    let names: Vec<_> = users.iter().map(|(_, user)| user.clone()).collect();
    let pushing = names.into_iter().map(|user| {
        // Half of them remember where the users are, the others ask.
        let client = if user.len() % 2 == 0 { client.clone() } else { cluster.client() };
        tokio::spawn(async move {
            for number in 0..EACH {
                let text = format!("{user} {number}");
                assert!(client.push_user(&user, 70, text.into_bytes()).await.unwrap());
            }
        })
    });
    let pushing = tokio::spawn(join_all(pushing.collect::<Vec<_>>()));
    let reading = users.into_iter().map(|(mut tlv, user)| {
        tokio::spawn(async move {
            for number in 0..EACH {
                assert_eq!(tlv.text().await, (70, format!("{user} {number}")));
            }
            hears_nothing(&mut tlv).await;
        })
    });
    join_all(reading.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    pushing.await.unwrap().into_iter().for_each(Result::unwrap);
}

/// The next members that a back end sees.
async fn sees(seen: &mut mpsc::Receiver<(&'static str, Member)>, count: usize) -> BTreeMap<MemberId, &'static str> {
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let (what, member) = timeout(PATIENCE, seen.recv()).await.expect("another one").unwrap();
        assert_eq!(all.insert(member.id, what), None, "once");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn back_ends_that_ask_see_who_joins_and_leaves() {
    let (cluster, [first, second]) = two_gates().await;
    // Before anybody asks, and before a message.
    let early = Tlv::connect(first.tcp_address().unwrap()).await;
    let (_server, im, mut seen) = cluster.im("im-1").await;
    let _following = im.client.follow(&cluster.registry(), im.clone()).unwrap();
    let (_, member) = timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
    assert_eq!((member.address.to_string(), member.user), (early.0.local_addr().unwrap().to_string(), None));
    let (b, id_b) = connect(&second).await;
    let (_c, id_c) = connect(&second).await;
    assert_eq!(sees(&mut seen, 2).await, [(id_b.clone(), "joined"), (id_c.clone(), "joined")].into());
    drop(b);
    assert_eq!(sees(&mut seen, 1).await, [(id_b, "left")].into());
    drop(early);
    assert_eq!(sees(&mut seen, 1).await, [(member.id, "left")].into());
    // A gate dies with its members.
    let (mut a, id_a) = connect(&first).await;
    assert_eq!(sees(&mut seen, 1).await, [(id_a, "joined")].into());
    drop(second);
    assert_eq!(sees(&mut seen, 1).await, [(id_c, "left")].into());
    hears_nothing(&mut a).await;
    assert!(seen.try_recv().is_err(), "nothing else");
    // A new gate is followed too.
    let third = cluster.start(cluster.gate()).await;
    let (_d, id_d) = connect(&third).await;
    assert_eq!(sees(&mut seen, 1).await, [(id_d, "joined")].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_dies_takes_nobody_elses_clients() {
    let (cluster, [first, second]) = two_gates().await;
    let ims = cluster.ims().await;
    let client = cluster.client();
    let ((mut a, id_a), (mut b, id_b)) = (connect(&first).await, connect(&second).await);
    assert!(client.bind(&id_a, "ann").await.unwrap() && client.bind(&id_b, "bob").await.unwrap());
    // The other one's clients are at work meanwhile.
    let address = first.tcp_address().unwrap();
    let working = tokio::spawn(async move {
        let mut client = Tlv::connect(address).await;
        for _ in 0..500 {
            assert_eq!(client.ask(2, "x").await.0, 2);
            tokio::task::yield_now().await;
        }
        client
    });
    // Nobody deregisters it.
    cluster.registry.set_down(true);
    drop(second);
    assert_eq!(b.next().await, None, "its own clients are cut off");
    assert_eq!(a.ask(2, "x").await.0, 2);
    let _worker = working.await.unwrap();
    assert!(client.push(&id_b, 50, Blob::default()).await.is_err(), "nobody knows");
    let pushed = client.push_all(53, Blob::from(b"all".to_vec())).await.unwrap();
    assert_eq!((pushed.reached, pushed.failed.len()), (2, 1));
    assert!(client.push_user("ann", 60, Blob::default()).await.unwrap());
    assert_eq!([a.next().await.unwrap().0, a.next().await.unwrap().0], [53, 60]);
    drop(ims);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_registry_the_last_list_goes_on() {
    let (cluster, [first, second]) = two_gates().await;
    let _ims = cluster.ims().await;
    let client = cluster.client();
    let ((mut a, id_a), (mut b, id_b)) = (connect(&first).await, connect(&second).await);
    assert_eq!(a.ask(2, "x").await.0, 2);
    assert!(client.push(&id_b, 50, Blob::default()).await.unwrap());
    cluster.registry.set_down(true);
    for _ in 0..20 {
        assert_eq!(a.ask(2, "x").await.0, 2);
        assert!(client.push(&id_a, 50, Blob::default()).await.unwrap());
        assert_eq!(a.next().await.unwrap().0, 50);
        assert_eq!(client.push_all(53, Blob::default()).await.unwrap().reached, 2);
        assert_eq!(a.next().await.unwrap().0, 53);
    }
    // A client that comes now is served like all others.
    let (mut c, id_c) = connect(&second).await;
    assert!(client.bind(&id_c, "cas").await.unwrap() && client.push_user("cas", 60, Blob::default()).await.unwrap());
    assert_eq!(c.next().await.unwrap().0, 60);
    assert_eq!(c.ask(2, "x").await.0, 2);
    assert_eq!(b.next().await.unwrap().0, 50);
    let registry: Arc<dyn MsRegister> = cluster.registry();
    assert!(registry.list(&"im".parse().unwrap()).await.is_err(), "it is down indeed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_was_asked_and_says_goodbye() {
    let cluster = Cluster::new();
    let gate = cluster.gate().handle(8, |_, _, data: Blob| async move {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        Some(data)
    });
    let gate = cluster.start(gate).await;
    let (mut client, id) = connect(&gate).await;
    client.send(8, b"asked").await;
    // Ordered behind the question, so it has been taken.
    assert_eq!(client.ask(1, "").await.0, 1);
    let address = gate.tcp_address().unwrap();
    // A back end that waits for changes holds nothing up: calls under way have 20 s to end.
    let (_server, im, mut seen) = cluster.im("im-1").await;
    let _following = im.client.follow(&cluster.registry(), im.clone()).unwrap();
    assert_eq!(sees(&mut seen, 1).await, [(id.clone(), "joined")].into());
    timeout(std::time::Duration::from_secs(15), gate.shutdown()).await.unwrap();
    assert_eq!(sees(&mut seen, 1).await, [(id.clone(), "left")].into());
    assert_eq!(client.text().await, (8, "asked".to_owned()));
    assert_eq!(client.next().await, None);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is free");
    assert!(cluster.client().push(&id, 50, Blob::default()).await.is_err());
}
