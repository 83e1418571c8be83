//! `/v1` over real sockets. Each answer is held against openapi.json, and each status that it names is seen.

#![allow(clippy::unwrap_used)]

#[path = "v1/api.rs"]
mod api;

use std::time::{Duration, Instant};

use api::{Api, Broken, of};
use ms_mq::MqError;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const MESSAGES: &str = "/v1/topics/t/messages";
const QUEUE: &str = "/v1/topics/t/queues/default";

#[tokio::test]
async fn a_message_is_pushed_popped_and_acked() {
    let api = Api::start().await;
    let due =
        json!({ "body": "a job \u{1f600}", "headers": { "trace": "1=2" }, "ttr_ms": 7000, "durability": "written" });
    let id = of(&api.post(MESSAGES, due).await.created(), "id").to_owned();
    let popped = api.post(&format!("{QUEUE}/pop"), json!({})).await.ok();
    let receipt = of(&popped["messages"][0], "receipt").to_owned();
    assert_eq!(
        popped,
        json!({ "messages": [{
            "id": id, "receipt": receipt, "lease_ms": 7000, "retries": 0, "reason": null,
            "headers": [{ "key": "trace", "value": "1=2" }], "body": "a job \u{1f600}",
        }] })
    );
    assert_eq!(api.post(&format!("{QUEUE}/pop"), json!({})).await.ok(), json!({ "messages": [] }));
    assert_eq!(api.post("/v1/touch", json!({ "receipt": receipt, "lease_ms": 60_000 })).await.ok(), json!({}));
    assert_eq!(api.post("/v1/ack", json!({ "receipt": receipt })).await.ok(), json!({}));
    let late = api.post("/v1/ack", json!({ "receipt": receipt })).await;
    assert_eq!((late.status, of(&late.json(), "code")), (409, "not_leased"));
    let other = receipt.replacen("1-", "2-", 1);
    let other = api.post("/v1/nack", json!({ "receipt": other })).await;
    assert_eq!((other.status, of(&other.json(), "code")), (409, "other_node"));
}

#[tokio::test]
async fn bodies_pass_byte_for_byte() {
    let api = Api::start().await;
    let bytes: Vec<u8> = (0..=255).collect();
    let target =
        format!("{MESSAGES}?route_key=default&priority=3&ttr_ms=5000&header=a=1&header=a=%32&durability=written");
    assert_eq!(api.send("POST", &target, Some("image/jpeg"), None, &bytes).await.status, 404, "the queue is not there");
    assert_eq!(api.put(QUEUE).await.status, 201);
    assert_eq!(api.put(QUEUE).await.status, 200);
    let pushed = api.send("POST", &target, Some("image/jpeg"), None, &bytes).await.created();
    let raw = Some("application/octet-stream");
    let message = format!("{QUEUE}/messages/{}", of(&pushed, "id"));
    assert_eq!(api.send("GET", &message, None, raw, b"").await.body, bytes);
    let shown = api.get(&message).await.ok();
    assert!(
        of(&shown, "body_base64").starts_with("AAECAwQ") && shown["priority"] == 3 && shown["ttr_ms"] == 5000,
        "{shown}"
    );
    assert_eq!(shown["headers"], json!([{ "key": "a", "value": "1" }, { "key": "a", "value": "2" }]));
    let popped = api.send("POST", &format!("{QUEUE}/pop"), None, raw, b"").await;
    assert_eq!((popped.status, &popped.body), (200, &bytes));
    assert_eq!((popped.header("ms-id"), popped.header("ms-lease-ms")), (of(&pushed, "id"), "5000"));
    assert_eq!(popped.header("content-length"), "256");
    api.post("/v1/ack", json!({ "receipt": popped.header("ms-receipt") })).await.ok();
    assert_eq!(api.send("POST", &format!("{QUEUE}/pop"), None, raw, b"").await.status, 204);
    // A push that is answered before it is written: a pop may have to wait for it.
    let base64 = json!({ "body_base64": "AAH/", "durability": "queued" });
    api.post(MESSAGES, base64).await.created();
    let popped = api.post(&format!("{QUEUE}/pop"), json!({ "wait_ms": 20_000 })).await.ok();
    assert_eq!(popped["messages"][0]["body_base64"], "AAH/");
}

#[tokio::test]
async fn batches_are_pushed_whole_and_ended_one_by_one() {
    let api = Api::start().await;
    let messages: Vec<_> = (0..20).map(|n| json!({ "body": format!("job {n}"), "dedup": format!("{n}") })).collect();
    let ids = api.post(MESSAGES, json!({ "messages": messages })).await.created();
    assert_eq!(ids["ids"].as_array().unwrap().len(), 20);
    assert_eq!(api.post(MESSAGES, json!({ "messages": messages })).await.created(), ids, "dedup keys");
    let popped = api.post(&format!("{QUEUE}/pop"), json!({ "max_messages": 1000, "wait_ms": 20_000 })).await.ok();
    let receipts: Vec<_> =
        popped["messages"].as_array().unwrap().iter().map(|message| of(message, "receipt")).collect();
    assert_eq!(receipts.len(), 20);
    assert_eq!(api.post("/v1/ack", json!({ "receipts": receipts[..2] })).await.ok(), json!({ "results": [{}, {}] }));
    let ended =
        api.post("/v1/nack", json!({ "receipts": receipts[1..3], "reason": "no", "delay_ms": 60_000 })).await.ok();
    assert_eq!((of(&ended["results"][0], "code"), &ended["results"][1]), ("not_leased", &json!({})));
    assert_eq!(api.post("/v1/touch", json!({ "receipts": [] })).await.ok(), json!({ "results": [] }));
    api.post("/v1/return", json!({ "receipts": receipts[3..] })).await.ok();
    let topic = api.get("/v1/topics/t").await.ok();
    let queue = &topic["queues"][0];
    assert_eq!((&queue["ready"], &queue["delayed"], &queue["leased"]), (&json!(17), &json!(1), &json!(0)));
    // One message that is wrong, and none is pushed.
    let refused = api.post(MESSAGES, json!({ "messages": [{ "body": "a" }, {}] })).await;
    assert!(
        refused.status == 400 && refused.error().starts_with("messages[1]: body or body_base64 is missing"),
        "{refused:?}"
    );
    assert_eq!(api.get("/v1/topics/t").await.ok()["queues"][0]["ready"], 17);
}

#[tokio::test]
async fn topics_queues_and_messages_are_operated() {
    let api = Api::start().await;
    let settings = json!({ "mode": "exact", "ttr_ms": 1000, "max_retries": 0, "max_length": 10, "auto_ack": null });
    assert_eq!(api.send_json("PATCH", "/v1/topics/t", settings).await.ok(), json!({ "changed": 0 }));
    api.put("/v1/topics/t/queues/rot%20%26%20gelb").await.created();
    let topic = api.get("/v1/topics/t").await.ok();
    assert_eq!((of(&topic["queues"][0], "queue"), &topic["settings"]["max_length"]), ("rot & gelb", &json!(10)));
    let now = topic["created_ms"].as_u64().unwrap();
    let later = json!({ "body": "later", "due_ms": now + 3_600_000, "ttl_ms": 7_200_000 });
    let later = of(&api.post(MESSAGES, later).await.created(), "id").to_owned();
    let first = of(&api.post(MESSAGES, json!({ "body": "first" })).await.created(), "id").to_owned();
    let page = api.get(&format!("{QUEUE}/messages?limit=1")).await.ok();
    assert_eq!((of(&page["messages"][0], "id"), of(&page, "next")), (later.as_str(), later.as_str()));
    assert_eq!(of(&page["messages"][0], "state"), "delayed");
    assert!(page["messages"][0]["expires_ms"].as_u64().unwrap() > now && page["messages"][0].get("body").is_none());
    let page = api.get(&format!("{QUEUE}/messages?after={later}")).await.ok();
    assert_eq!((of(&page["messages"][0], "id"), &page["next"]), (first.as_str(), &Value::Null));
    assert_eq!(of(&api.get(&format!("{QUEUE}/peek")).await.ok()["messages"][0], "body"), "first");
    // Due now, and before the other.
    let edited =
        api.send_json("PATCH", &format!("{QUEUE}/messages/{later}"), json!({ "due_ms": 0, "priority": 9 })).await;
    assert_eq!(edited.ok(), json!({ "changed": 1 }));
    assert_eq!(of(&api.get(&format!("{QUEUE}/peek?limit=2")).await.ok()["messages"][0], "body"), "later");
    assert_eq!(api.post(&format!("{QUEUE}/pause"), json!({})).await.status, 200);
    assert_eq!(api.post(&format!("{QUEUE}/pop"), json!({})).await.ok(), json!({ "messages": [] }));
    assert_eq!(api.post(&format!("{QUEUE}/resume"), json!({})).await.status, 200);
    assert_eq!(api.delete(&format!("{QUEUE}/messages/{later}")).await.ok(), json!({ "changed": 1 }));
    assert_eq!(api.get(&format!("{QUEUE}/messages/{later}")).await.status, 404);

    // Dead letters.
    let popped = api.post(&format!("{QUEUE}/pop"), json!({})).await.ok();
    api.post("/v1/nack", json!({ "receipt": popped["messages"][0]["receipt"], "reason": "broken" })).await.ok();
    let dead = api.get(&format!("{QUEUE}/messages?dead=true")).await.ok();
    assert!(of(&dead["messages"][0], "reason").ends_with("broken"), "{dead}");
    let letter = api.post(&format!("{QUEUE}/dead/pop"), json!({})).await.ok();
    assert!(of(&letter["messages"][0], "reason").ends_with("broken"), "{letter}");
    api.post("/v1/return", json!({ "receipt": letter["messages"][0]["receipt"] })).await.ok();
    let redrive = |body| api.post("/v1/topics/t/queues/default/dead/redrive", body);
    assert_eq!(redrive(json!({ "ids": ["7"] })).await.ok(), json!({ "changed": 0 }));
    assert_eq!(redrive(json!({ "ids": [first] })).await.ok(), json!({ "changed": 1 }));
    assert_eq!(redrive(json!({})).await.ok(), json!({ "changed": 0 }));
    assert_eq!(api.post(&format!("{QUEUE}/dead/purge"), json!({})).await.ok(), json!({ "changed": 0 }));
    assert_eq!(api.post(&format!("{QUEUE}/purge"), json!({})).await.ok(), json!({ "changed": 1 }));

    assert_eq!(api.put("/v1/backups/friday").await.created()["segments"], 1);
    let again = api.put("/v1/backups/friday").await;
    assert_eq!((again.status, of(&again.json(), "code")), (409, "no_backup"));
    api.delete("/v1/topics/t/queues/rot%20%26%20gelb").await.ok();
    api.delete("/v1/topics/t").await.ok();
    let gone = api.get("/v1/topics/t").await;
    assert_eq!((gone.status, of(&gone.json(), "code")), (404, "no_topic"));
}

#[tokio::test]
async fn groups_bounds_and_moves_are_in_reach() {
    let api = Api::start().await;
    let settings = json!({
        "backoff_ms": [1000, 60_000], "max_leased": 5, "rate": { "messages": 100, "per_ms": 1000 }, "max_retries": 0,
    });
    api.send_json("PATCH", "/v1/topics/t", settings.clone()).await.ok();
    let shown = api.get("/v1/topics/t").await.ok()["settings"].clone();
    for name in ["backoff_ms", "max_leased", "rate"] {
        assert_eq!(shown[name], settings[name]);
    }
    let unlimited = json!({ "backoff_ms": [], "rate": { "messages": 0, "per_ms": 0 } });
    api.send_json("PATCH", "/v1/topics/t", unlimited).await.ok();
    let shown = api.get("/v1/topics/t").await.ok()["settings"].clone();
    assert_eq!((&shown["backoff_ms"], &shown["rate"]), (&json!([]), &Value::Null));

    let first = of(&api.post(MESSAGES, json!({ "body": "a", "group": "g" })).await.created(), "id").to_owned();
    let raw = api.send("POST", &format!("{MESSAGES}?group=g"), Some("text/plain"), None, b"b").await.created();
    let second = of(&raw, "id").to_owned();
    let held = api.get(&format!("{QUEUE}/messages/{second}")).await.ok();
    assert_eq!((of(&held, "state"), of(&held, "group")), ("held", "g"));
    assert_eq!(api.get("/v1/topics/t").await.ok()["queues"][0]["held"], 1);
    let popped = api.post(&format!("{QUEUE}/pop"), json!({ "max_messages": 9 })).await.ok();
    assert_eq!(popped["messages"].as_array().unwrap().len(), 1, "{popped}");
    let receipt = &popped["messages"][0]["receipt"];
    assert_eq!(api.post("/v1/bury", json!({ "receipt": receipt, "reason": "poison" })).await.ok(), json!({}));
    let dead = api.get(&format!("{QUEUE}/messages?dead=true")).await.ok();
    assert_eq!(of(&dead["messages"][0], "id"), first);
    assert!(of(&dead["messages"][0], "reason").ends_with("poison"), "{dead}");
    assert_eq!(api.post("/v1/bury", json!({ "receipt": receipt })).await.status, 409);
    assert_eq!(api.post("/v1/bury", json!({ "receipt": receipt, "delay_ms": 1 })).await.status, 400);

    api.put("/v1/topics/t/queues/other").await.created();
    let to = async |body: Value, verb: &str| api.post(&format!("{QUEUE}/{verb}"), body).await;
    assert_eq!(to(json!({ "to_queue": "other" }), "copy").await.ok(), json!({ "changed": 1 }));
    assert_eq!(to(json!({ "to_queue": "other", "ids": [second] }), "move").await.ok(), json!({ "changed": 1 }));
    assert_eq!(
        to(json!({ "to_queue": "other", "dead": true, "to_topic": "t" }), "move").await.ok(),
        json!({ "changed": 1 })
    );
    let there = api.get("/v1/topics/t/queues/other/messages").await.ok();
    let ids: Vec<_> = there["messages"].as_array().unwrap().iter().map(|message| of(message, "id")).collect();
    assert!(ids.len() == 3 && ids.contains(&&*first) && ids.contains(&&*second), "{there}");
    assert_eq!(to(json!({ "to_queue": "nowhere" }), "move").await.status, 404);
    assert_eq!(to(json!({ "to_queue": "other", "ids": [], "dead": true }), "move").await.status, 400);
    assert_eq!(to(json!({}), "copy").await.status, 400);
}

#[tokio::test]
async fn topics_come_in_pages() {
    let api = Api::start().await;
    for n in 0..600 {
        api.put(&format!("/v1/topics/t{n:03}/queues/q")).await.created();
    }
    let page = api.get("/v1/topics").await.ok();
    let next = &page["next"];
    let rest = format!("/v1/topics?after_topic={}&after_queue={}", of(next, "after_topic"), of(next, "after_queue"));
    let rest = api.get(&rest).await.ok();
    let names =
        |page: &Value| page["topics"].as_array().unwrap().iter().map(|topic| of(topic, "topic").to_owned()).collect();
    let names: Vec<Vec<String>> = vec![names(&page), names(&rest)];
    assert_eq!(names.concat(), (0..600).map(|n| format!("t{n:03}")).collect::<Vec<_>>());
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason() {
    let api = Api::start().await;
    api.put(QUEUE).await.created();
    let pop = format!("{QUEUE}/pop");
    for (method, target, body, said) in [
        ("POST", MESSAGES, json!({ "body": "a", "colour": 1 }), "unknown field `colour`"),
        ("POST", MESSAGES, json!({ "body": "a", "priority": 256 }), "expected u8"),
        ("POST", MESSAGES, json!({ "body": "a", "delay_ms": -1 }), "expected u64"),
        ("POST", MESSAGES, json!({ "body": "a", "delay_ms": 400_u64 * 86_400_000 }), "delay"),
        ("POST", MESSAGES, json!({ "body": "a", "ttl_ms": 0 }), "time to live"),
        ("POST", MESSAGES, json!({ "body": "a", "body_base64": "YQ==" }), "give body or body_base64, but not both"),
        ("POST", MESSAGES, json!({ "body_base64": "*" }), "body_base64: "),
        ("POST", MESSAGES, json!([]), "the body: an object is wanted"),
        ("POST", MESSAGES, json!({ "messages": [["a"]] }), "messages[0]: the body: an object is wanted"),
        ("POST", "/v1/ack", json!(["1-1-1-1-1"]), "the body: an object is wanted"),
        ("POST", MESSAGES, json!({ "body": "x".repeat((1 << 20) + 1) }), "1048576"),
        ("POST", MESSAGES, json!({ "messages": vec![json!({ "body": "" }); 1001] }), "1000"),
        ("POST", "/v1/topics/t/messages?colour=1", json!({ "body": "a" }), "the parameter \"colour\" is unknown here"),
        ("POST", "/v1/topics/a%2Fb/messages", json!({ "body": "a" }), "`/`"),
        ("POST", &pop, json!({ "max_messages": 0 }), "max_messages: 1 to 1000"),
        ("POST", &pop, json!({ "max_messages": 1001 }), "max_messages: 1 to 1000"),
        ("POST", &pop, json!({ "wait_ms": 20_001 }), "wait_ms: at most 20000"),
        ("POST", &format!("{QUEUE}/dead/pop"), json!({ "wait_ms": 1 }), "do not wait"),
        ("POST", "/v1/ack", json!({}), "give receipt or receipts"),
        ("POST", "/v1/ack", json!({ "receipt": "a", "receipts": [] }), "give receipt or receipts"),
        ("POST", "/v1/ack", json!({ "receipt": "a" }), "this is no receipt"),
        ("POST", "/v1/ack", json!({ "receipts": [], "delay_ms": 1 }), "unknown field `delay_ms`"),
        ("POST", "/v1/nack", json!({ "receipts": [], "lease_ms": 1 }), "unknown field `lease_ms`"),
        ("POST", "/v1/touch", json!({ "receipts": vec!["a"; 1001] }), "receipts: at most 1000"),
        ("PATCH", "/v1/topics/t", json!({ "ttr_ms": 0 }), "msgTTR is 0"),
        ("PATCH", "/v1/topics/t", json!({ "mode": "loose" }), "unknown variant `loose`"),
        ("PATCH", &format!("{QUEUE}/messages/7"), json!({}), "give due_ms, priority, or both"),
        ("PATCH", &format!("{QUEUE}/messages/seven"), json!({}), "\"seven\" is no id of a message"),
        ("POST", &format!("{QUEUE}/dead/redrive"), json!({ "ids": ["x"] }), "\"x\" is no id of a message"),
        ("GET", &format!("{QUEUE}/peek?limit=0"), Value::Null, "limit: 1 to 1000"),
        ("GET", &format!("{QUEUE}/messages?dead=maybe"), Value::Null, "the parameter dead: \"maybe\""),
        ("GET", "/v1/topics?after_queue=q", Value::Null, "give after_topic too"),
        ("PUT", "/v1/backups/..%2Fx", Value::Null, "the name of a backup"),
        ("PUT", "/v1/topics/t/queues/%00", Value::Null, "control characters"),
    ] {
        let answer = if body.is_null() {
            api.send(method, target, None, None, b"").await
        } else {
            api.send_json(method, target, body).await
        };
        assert!(answer.status == 400 && answer.error().contains(said), "{method} {target}: {answer:?}");
    }
    let raw = |target: String| async move { target };
    for (parameters, said) in [
        ("header=a", "header: \"a\" is not KEY=VALUE"),
        ("durability=certain", "is none of synced, written and queued"),
        ("priority=x", "the parameter priority: \"x\""),
        ("body=x", "the parameter \"body\" is unknown here"),
    ] {
        let target = raw(format!("{MESSAGES}?{parameters}")).await;
        let answer = api.send("POST", &target, Some("text/plain"), None, b"a").await;
        assert!(answer.status == 400 && answer.error().contains(said), "{parameters}: {answer:?}");
    }
    // A body of another type is no JSON, whatever is in it.
    let typed = api.send("POST", "/v1/ack", Some("text/plain"), None, b"{\"receipts\":[]}").await;
    assert_eq!((typed.status, of(&typed.json(), "code")), (415, "no_json"));
    let method = api.send("DELETE", "/v1/ack", None, None, b"").await;
    assert_eq!((method.status, of(&method.json(), "code")), (405, "method_not_allowed"));
    let path = api.send("GET", "/v1/nothing", None, None, b"").await;
    assert_eq!((path.status, of(&path.json(), "code")), (404, "not_found"));
    assert_eq!(api.get("/v1/topics/t").await.ok()["queues"][0]["ready"], 0, "nothing was pushed");
}

#[tokio::test]
async fn pops_wait_and_waiters_are_bounded() {
    let api = Api::start().await;
    api.put(QUEUE).await.created();
    let pop = format!("{QUEUE}/pop");
    let begin = Instant::now();
    assert_eq!(api.post(&pop, json!({ "wait_ms": 300 })).await.ok(), json!({ "messages": [] }));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    // A pop that waits has the message as soon as it comes.
    let waiting = api.post(&pop, json!({ "wait_ms": 20_000 }));
    let (popped, _) = tokio::join!(waiting, api.post(MESSAGES, json!({ "body": "now" })));
    assert_eq!(of(&popped.ok()["messages"][0], "body"), "now");
    // More than 128 do not wait.
    let mut held = Vec::new();
    let mut refused = None;
    while refused.is_none() {
        assert!(held.len() <= 200, "waiters have no bound");
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        let body = json!({ "wait_ms": 20_000 }).to_string();
        let request = format!(
            "POST {pop} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
        if held.len() >= 128 {
            let answer = api.post(&pop, json!({ "wait_ms": 1 })).await;
            refused = (answer.status == 429).then_some(answer);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(of(&refused.json(), "code"), "waiters");
    assert_eq!(api.post(&pop, json!({})).await.status, 200, "a pop that does not wait needs no place");
    // The places of clients that went are free again.
    drop(held);
    let begin = Instant::now();
    while api.post(&pop, json!({ "wait_ms": 1 })).await.status == 429 {
        assert!(begin.elapsed() < Duration::from_secs(30), "clients that went keep their places");
    }
}

#[tokio::test]
async fn every_operation_answers_as_the_document_says() {
    let mut seen = std::collections::BTreeSet::new();
    for (status, error) in [
        (403, MqError::Denied("push/orders is not allowed to order".to_owned())),
        (404, MqError::NoMessage(7)),
        (409, MqError::NotLeased(7)),
        (429, MqError::NodeFull("of topics".to_owned())),
        (507, MqError::DiskFull),
        (503, MqError::Closed),
    ] {
        let api = Api::of(Broken(error)).await;
        for operation in api.operations() {
            if operation.has(status) && operation.path != "/v1/openapi.json" {
                assert_eq!(operation.ask(&api).await.status, status, "{operation:?}");
            }
        }
        seen.extend(api.seen());
    }
    let api = Api::of(Broken(MqError::Closed)).await;
    for operation in api.operations() {
        if operation.path == "/v1/openapi.json" {
            continue;
        }
        let unknown = format!("{}?colour=1", operation.target());
        let answer = operation.send(&api, &unknown, Some("application/json"), b"{}", "").await;
        assert_eq!(answer.status, 400, "{operation:?} {answer:?}");
        if operation.has(413) {
            let large = vec![b' '; (8 << 20) + 1];
            let answer = operation.send(&api, &operation.target(), Some("application/json"), &large, "").await;
            assert_eq!(answer.status, 413, "{operation:?} {answer:?}");
        }
        if operation.has(415) {
            let answer = operation.send(&api, &operation.target(), Some("text/plain"), b"{}", "").await;
            assert_eq!(answer.status, 415, "{operation:?} {answer:?}");
        }
    }
    seen.extend(api.seen());
    let (open, closed) = (Api::guarded(None).await, Api::guarded(Some("secret")).await);
    for operation in open.operations() {
        let page = operation.send(&open, &operation.target(), None, b"", "Origin: http://evil.example\r\n").await;
        assert_eq!(page.status, 403, "{operation:?}");
        assert_eq!(operation.ask(&closed).await.status, 401, "{operation:?}");
        let asked = operation.send(&closed, &operation.target(), None, b"", "Authorization: Bearer secret\r\n").await;
        assert_ne!(asked.status, 401, "{operation:?}");
    }
    seen.extend(open.seen());
    seen.extend(closed.seen());
    // Each failure that the document names was seen, and no other: see `Api::send` for the latter.
    for operation in open.operations() {
        for status in operation.statuses().filter(|status| *status >= 400) {
            assert!(seen.contains(&(operation.id.clone(), status)), "{operation:?} never answered {status}");
        }
    }
}
