//! zinx-cluster's demo, with clients in Python: a gate that answers message 1, and two back ends for messages 2 and 3.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::time::Instant;

use support::{Cluster, DEADLINE, Peer, Tlv};

/// A client over each door.
fn peers(gate: &ms_gate::RunningGate) -> [Peer; 2] {
    [
        Peer::start("tlv.py", gate.tcp_address().unwrap(), &[]),
        Peer::start("websocket.py", gate.web_socket_address().unwrap(), &[]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_and_both_back_ends_answer() {
    let cluster = Cluster::new();
    let _ims = cluster.ims().await;
    let gate = cluster.start(cluster.gate()).await;
    for mut peer in peers(&gate) {
        let (msg_id, said) = peer.ask(1, "login").await;
        assert!(msg_id == 1 && said.starts_with(gate.id()) && said.ends_with("login"), "{said}");
        let mut names = Vec::new();
        // Which of the two answers is the balancer's choice.
        while names.len() < 2 {
            let (msg_id, said) = peer.ask(2, "hello").await;
            assert!(msg_id == 2 && said.ends_with(": hello"), "{said}");
            if !names.contains(&said) {
                names.push(said);
            }
        }
        names.sort();
        assert_eq!(names, ["im-1: hello", "im-2: hello"]);
        let (msg_id, said) = peer.ask(3, "x").await;
        assert!(msg_id == 3 && ["im-1 asked im-2: x", "im-2 asked im-1: x"].contains(&said.as_str()), "{said}");
        let (_, said) = peer.ask(4, "round").await;
        assert!(said.contains("forwarded 8 times"), "{said}");
        peer.send(6, b"an answer is not needed").await;
        peer.send(77, b"").await;
        let refusal = peer.refusal().await;
        assert_eq!((refusal.msg_id, refusal.code.as_ref()), (77, "not_found"), "{refusal:?}");
        assert_eq!(peer.ask(1, "still here").await.0, 1);
    }
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn back_ends_that_are_late_or_gone_are_an_error_frame_within_the_deadline() {
    let cluster = Cluster::new();
    let ims = cluster.ims().await;
    let gate = cluster.start(cluster.gate()).await;
    let mut client = Tlv::connect(gate.tcp_address().unwrap()).await;
    assert_eq!(client.ask(2, "x").await.0, 2);
    let began = Instant::now();
    client.send(5, b"late").await;
    let late = client.refusal().await;
    assert_eq!((late.msg_id, late.code.as_ref()), (5, "deadline_exceeded"), "{late:?}");
    assert!(began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
    // Nobody says goodbye, and the registry lists both on.
    cluster.registry.set_down(true);
    drop(ims);
    for mut peer in peers(&gate) {
        let began = Instant::now();
        peer.send(2, b"is anybody there?").await;
        let gone = peer.refusal().await;
        assert!(gone.msg_id == 2 && ["unavailable", "deadline_exceeded"].contains(&gone.code.as_ref()), "{gone:?}");
        assert!(began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
        assert!(!gone.message.contains("127.0.0.1"), "{gone:?}");
        assert_eq!(peer.ask(1, "and you?").await.0, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_instances_is_an_error_frame() {
    let cluster = Cluster::new();
    let gate = cluster.start(cluster.gate()).await;
    let mut client = Tlv::connect(gate.tcp_address().unwrap()).await;
    client.send(2, b"x").await;
    let refusal = client.refusal().await;
    assert_eq!((refusal.msg_id, refusal.code.as_ref()), (2, "unavailable"), "{refusal:?}");
    // Back ends that come later are found.
    let _ims = cluster.ims().await;
    assert_eq!(client.ask(2, "x").await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_envelopes_reach_nobody() {
    let cluster = Cluster::new();
    let ims = cluster.ims().await;
    let gate = cluster.start(cluster.gate()).await;
    let [mut forger, mut websocket_forger] = peers(&gate);
    let mut victim = Tlv::connect(gate.tcp_address().unwrap()).await;
    let id = victim.id().await;
    // What zinx-cluster's nodes send each other, with the victim as the connection: gob has its names and numbers in it.
    let gob = [
        &b"\x42\xff\x81\x03\x01\x01\x0bNodeMessage\x01\xff\x82\x00\x01\x04\x01\x06ConnID\x01\x06\x00\x01\x06NodeID\x01\x04\x00"[..],
        b"\x01\tNodeGroup\x01\x0c\x00\x01\x04Data\x01\n\x00\x00\x00\x11\xff\x82\x01",
        &id.number.to_be_bytes(),
        b"\x01\x02\x01\x04gate\x01\x03pwn\x00",
    ]
    .concat();
    let member =
        serde_json::json!({"id": {"gate": id.gate, "number": id.number}, "user": "root", "address": "1.1.1.1:1"});
    let forged = [gob, member.to_string().into_bytes(), b"\x1d\x02\0\0\0\x20\0\0\0gate\x04push".to_vec()];
    for data in &forged {
        for msg_id in [0, 2, 3, 7, u32::MAX] {
            forger.send(msg_id, data).await;
            websocket_forger.send(msg_id, data).await;
        }
    }
    for peer in [&mut forger, &mut websocket_forger] {
        // The answers are those to its own messages, and as many.
        let mut answered = std::collections::BTreeMap::<u32, u32>::new();
        for _ in 0..15 {
            *answered.entry(peer.text_id().await).or_default() += 1;
        }
        assert_eq!(answered, [(0, 6), (2, 3), (3, 3), (7, 3)].into());
    }
    // Nothing came before the answer to its next question.
    assert_eq!(victim.ask(1, "anything?").await, (1, format!("{id} anything?")));
    // Back ends saw the forgers as who they are.
    for (_, im) in &ims {
        for (from, ..) in im.heard.lock().unwrap().iter() {
            assert!(from.id.number != id.number && from.user.is_none(), "{from:?}");
        }
    }
}
