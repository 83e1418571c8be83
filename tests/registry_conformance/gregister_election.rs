//! Elections in gregister: what its API says, and what only gregister can suffer.

use std::time::Duration;

use ms_register::RegisterError;
use ms_register_conformance::{
    Fixture,
    candidates::{DEADLINE, campaign, elected, election, instance},
    service, within,
};
use ms_tests::{Fault, Relay, Response, Server};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::gregister::GregisterFixture;

const GOODS: &str = "/v1/elections/goods";

fn body(port: u16) -> Value {
    json!({ "id": format!("h:{port}"), "host": "h", "port": port, "ttl": 3_600 })
}

fn place(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

impl GregisterFixture {
    async fn stand(&self, candidate: &str, port: u16) -> Value {
        place(&self.ask("PUT", &format!("{GOODS}/{candidate}"), &body(port)).await)
    }

    /// Waits until a store that is new elects.
    async fn elects(&self) {
        let elects = async {
            while self.read(GOODS).await["elects"] != json!(true) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        within(DEADLINE, "the end of what a new store waits", elects).await;
    }
}

#[tokio::test]
async fn candidates_without_a_client_library_wait_for_their_turn() {
    let gregister = GregisterFixture::start().await;
    gregister.elects().await;
    let nobody = gregister.read(GOODS).await;
    assert_eq!((&nobody["master"], &nobody["waiting"]), (&Value::Null, &json!(0)));
    let first = gregister.stand("a", 1).await;
    let token = first["token"].as_u64().unwrap();
    let most = Server::CANDIDATE_TTL.as_secs_f64();
    assert_eq!((&first["ttl"], &first["elects"]), (&json!(most), &json!(true)), "no more than the node allows");
    assert_eq!(gregister.stand("b", 2).await["token"], Value::Null);
    assert_eq!(gregister.stand("a", 1).await["token"], json!(token), "again: nothing changes");

    let since =
        |answer: &Value| format!("{GOODS}?store={}&revision={}", answer["store"].as_str().unwrap(), answer["revision"]);
    let lead = gregister.read(&format!("{}&wait=30", since(&nobody))).await;
    let master =
        json!({ "token": token, "candidate": "a", "id": "h:1", "host": "h", "port": 1, "weight": 1.0, "metadata": {} });
    assert_eq!((&lead["master"], &lead["waiting"]), (&master, &json!(1)));
    let same = gregister.ask("GET", &since(&lead), &Value::Null).await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));

    let turn = format!("{GOODS}/b?wait=30");
    let turned = async { place(&gregister.ask("GET", &turn, &Value::Null).await) };
    let next = format!("{}&wait=30", since(&lead));
    let resigned = async {
        // The renewal of one who waits, and the coming of another one, are no news to it.
        place(&gregister.ask("POST", &format!("{GOODS}/b/renew"), &Value::Null).await);
        gregister.stand("c", 3).await;
        place(&gregister.ask("DELETE", &format!("{GOODS}/a"), &Value::Null).await)
    };
    let (turned, seen, resigned) =
        within(DEADLINE, "the turn", async { tokio::join!(turned, gregister.read(&next), resigned) }).await;
    assert_eq!(resigned["removed"], json!(true));
    assert_eq!(turned["token"], json!(token + 1));
    assert_eq!((&seen["master"]["id"], &seen["master"]["token"]), (&json!("h:2"), &json!(token + 1)));
    let gone = gregister.ask("GET", &format!("{GOODS}/a?term={token}&wait=30"), &Value::Null).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_new_store_elects_nobody_for_the_longest_lease() {
    let mut gregister = GregisterFixture::start().await;
    let election = election(&gregister).await;
    let leader = elected(&election, 1).await;
    gregister.down().await;
    let begin = Instant::now();
    gregister.up_without_data().await;
    let waits = gregister.stand("a", 2).await;
    assert_eq!((&waits["token"], &waits["elects"]), (&Value::Null, &json!(false)));
    let seen = gregister.read(GOODS).await;
    assert_eq!((&seen["master"], &seen["elects"], &seen["waiting"]), (&Value::Null, &json!(false), &json!(1)));
    assert!(matches!(election.master(&service("goods")).await, Err(RegisterError::NoMaster { .. })));

    // A restart on the way: it begins to wait anew.
    sleep(Server::CANDIDATE_TTL / 2).await;
    gregister.down().await;
    gregister.up().await;
    let again = Instant::now();
    assert_eq!(gregister.stand("a", 2).await["token"], Value::Null);
    let turn = async {
        loop {
            // The wait renews nothing.
            gregister.ask("POST", &format!("{GOODS}/a/renew"), &Value::Null).await;
            let place = gregister.read(&format!("{GOODS}/a?wait=0.5")).await;
            if let Some(token) = place["token"].as_u64() {
                return token;
            }
        }
    };
    let token = within(DEADLINE, "the end of the wait", turn).await;
    // It is a little older than the moment when it was seen to serve.
    assert!(again.elapsed() > Server::CANDIDATE_TTL - Duration::from_secs(1), "{:?}", again.elapsed());
    assert!(!leader.is_leader(), "{:?} after its registry was gone", begin.elapsed());
    assert!(token > leader.token(), "tokens go on from the time of day where data was lost");
}

#[tokio::test]
async fn tokens_grow_and_a_queue_stays_over_a_kill() {
    let mut gregister = GregisterFixture::start().await;
    gregister.elects().await;
    let mut last = 0;
    for port in 1..=4 {
        let candidate = format!("c{port}");
        let place = gregister.stand(&candidate, port).await;
        let token = place["token"].as_u64().unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        assert_eq!(gregister.stand("next", 9).await["token"], Value::Null);
        gregister.down().await;
        gregister.up().await;
        let seen = gregister.read(GOODS).await;
        assert_eq!(
            (&seen["master"]["token"], &seen["waiting"], &seen["elects"]),
            (&json!(token), &json!(1), &json!(true))
        );
        place_of(&gregister, &candidate, json!(token)).await;
        place_of(&gregister, "next", Value::Null).await;
        gregister.ask("DELETE", &format!("{GOODS}/{candidate}"), &Value::Null).await;
        let next = gregister.read(&format!("{GOODS}/next")).await["token"].as_u64().unwrap();
        assert!(next > last, "{next} after {last}");
        last = next;
        gregister.ask("DELETE", &format!("{GOODS}/next"), &Value::Null).await;
    }
}

async fn place_of(gregister: &GregisterFixture, candidate: &str, token: Value) {
    assert_eq!(gregister.read(&format!("{GOODS}/{candidate}")).await["token"], token);
}

/// A leader goes on leading over a restart that is shorter than two thirds of its lease, and nobody else does.
#[tokio::test]
async fn a_term_outlives_a_restart_of_the_node() {
    let mut gregister = GregisterFixture::start().await;
    let election = election(&gregister).await;
    let leader = elected(&election, 1).await;
    gregister.down().await;
    gregister.up().await;
    let refused = election.campaign(&service("goods"), instance(2), Server::CANDIDATE_TTL).await;
    assert!(matches!(refused, Err(RegisterError::Timeout { .. })), "{refused:?}");
    assert!(leader.is_leader());
    assert_eq!(election.master(&service("goods")).await.unwrap(), *leader.master());
    leader.resign(DEADLINE).await.unwrap();
}

/// The node has put it into the queue and its answer is lost: put there again, it would wait for itself.
#[tokio::test]
async fn a_lost_answer_leaves_one_candidate() {
    let gregister = GregisterFixture::start().await;
    gregister.elects().await;
    let relay = Relay::to(gregister.address()).await.unwrap();
    let registry = ms_register::connect(&format!("gregister://{}?timeout=0.5", relay.address())).await.unwrap();
    relay.set(Fault::Mute);
    let campaign = campaign(&registry.election().unwrap(), 80);
    let entered = async {
        while gregister.read(GOODS).await["master"].is_null() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(DEADLINE, "the candidate", entered).await;
    relay.set(Fault::Drop);
    relay.set(Fault::None);
    let leader = within(DEADLINE, "the election", campaign).await.unwrap();
    let seen = gregister.read(GOODS).await;
    assert_eq!((&seen["master"]["token"], &seen["waiting"]), (&json!(leader.token()), &json!(0)), "it is there once");
    leader.resign(DEADLINE).await.unwrap();
    assert_eq!(gregister.read(GOODS).await["master"], Value::Null);
}

/// Each answer takes longer than the time between two renewals, a fifth of the lease, and counts all the same.
#[tokio::test]
async fn slow_answers_keep_a_term() {
    let gregister = GregisterFixture::start().await;
    let relay = Relay::to(gregister.address()).await.unwrap();
    let registry = ms_register::connect(&format!("gregister://{}", relay.address())).await.unwrap();
    let leader = elected(&registry.election().unwrap(), 80).await;
    relay.set(Fault::Delay(Server::CANDIDATE_TTL * 2 / 15));
    let lost = tokio::time::timeout(Server::CANDIDATE_TTL * 2, leader.lost()).await;
    assert!(lost.is_err() && leader.is_leader());
}

/// Its pause is longer than the lease: the leader has given up by itself, and the node, which heard no renewal, elects nobody
/// in its place before it has waited for one.
#[tokio::test]
async fn a_frozen_node_gives_no_two_leaders() {
    let gregister = GregisterFixture::start().await;
    let (first, second) = (election(&gregister).await, election(&gregister).await);
    let leader = elected(&first, 1).await;
    let next = campaign(&second, 2);
    let waits = async { while gregister.read(GOODS).await["waiting"] != json!(1) {} };
    within(DEADLINE, "the second", waits).await;
    gregister.freeze();
    within(Server::CANDIDATE_TTL, "the end of the term", leader.lost()).await;
    assert!(!leader.is_leader());
    sleep(Server::CANDIDATE_TTL).await;
    assert!(!next.is_finished());
    gregister.thaw();
    let next = within(DEADLINE, "the next master", next).await.unwrap();
    assert!(next.is_leader() && !leader.is_leader() && next.token() > leader.token());
}
#[tokio::test]
async fn who_is_removed_by_hand_hears_of_it() {
    let gregister = GregisterFixture::start().await;
    gregister.elects().await;
    let leader = elected(&election(&gregister).await, 1).await;
    let lead = gregister.read(GOODS).await;
    let candidate = lead["master"]["candidate"].as_str().unwrap();
    let removed = gregister.ask("DELETE", &format!("{GOODS}/{candidate}"), &Value::Null).await;
    assert_eq!(place(&removed)["removed"], json!(true));
    within(DEADLINE, "the end of the term", leader.lost()).await;
    assert_eq!(gregister.read(GOODS).await["master"], Value::Null);
}
