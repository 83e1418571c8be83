//! The HTTP API over real sockets: every path, every error's text.

#![allow(clippy::unwrap_used)]

mod looks;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use looks::stats;
use ms_http::HttpServer;
use ms_mq::{
    Change, End, Engine, Look, MessageId, Mode, Node, NodeConfig, NodeId, Pop, Push, QueueName, Settings, http,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

struct Running {
    address: SocketAddr,
    node: Node,
    directory: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(1).unwrap()) };
    let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().max_connections(256);
    let address = server.address();
    let server = tokio::spawn(server.serve(http::router(node.clone()), std::future::pending()));
    Running { address, node, directory, server }
}

impl Running {
    /// Status and body, on a connection of its own.
    async fn request(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The answer, which must be a 200 with the three fields and nothing else.
    async fn json(&self, method: &str, target: &str, body: &str) -> Value {
        let (status, text) = self.request(method, target, body).await;
        assert_eq!(status, 200, "{target}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["code", "data", "msg"], "{target}: {text}");
        answer
    }

    async fn get(&self, target: &str) -> Value {
        self.json("GET", target, "").await
    }

    /// As `curl -d 'data=..'` does it.
    async fn push(&self, data: &str) -> Value {
        self.json("POST", "/push", &format!("data={data}")).await
    }

    async fn pushed(&self, data: &str) -> String {
        let answer = self.push(data).await;
        let id = answer["data"]["msgId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        assert!(id.parse::<u64>().unwrap() > 0);
        assert_eq!(answer, json!({ "code": 0, "data": { "msgId": id }, "msg": "success" }));
        id
    }
}

fn ok() -> Value {
    json!({ "code": 0, "data": null, "msg": "ok" })
}

fn success(data: &Value) -> Value {
    json!({ "code": 0, "data": data, "msg": "success" })
}

fn error(text: &str) -> Value {
    json!({ "code": 1, "data": null, "msg": text })
}

#[tokio::test]
async fn data_comes_in_the_body_behind_the_question_mark_or_as_multipart() {
    let mq = start().await;
    assert_eq!(mq.get("/getQueuesByTopic?topic=nope").await, success(&json!({})));
    let data = r#"{"body":"a+b","topic":"t"}"#;
    let encoded: String = data.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let pushed = |answer: Value| {
        assert!(answer["code"] == 0 && answer["data"]["msgId"].is_string(), "{answer}");
    };
    pushed(mq.json("POST", "/push", &format!("data={encoded}")).await);
    pushed(mq.json("POST", &format!("/push?data={encoded}"), "").await);
    pushed(mq.get(&format!("/push?data={encoded}")).await);
    let part = |name: &str, value: &str| {
        format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let address = mq.address;
    let multipart = async |body: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /push HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: multipart/form-data; boundary=line\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    pushed(multipart([part("other", "x"), part("data", data), "--line--\r\n".to_owned()].concat()).await);
    assert_eq!(multipart([part("other", "x"), "--line--\r\n".to_owned()].concat()).await, error("data is empty"));
    let broken = multipart(part("data", data).replace("form-data;", "")).await;
    assert_eq!(broken["code"], 1, "{broken}");
    for _ in 0..4 {
        assert_eq!(mq.get("/pop?topic=t").await["data"]["body"], "a+b");
    }
}

#[tokio::test]
async fn a_message_goes_through_with_a_missing_bind_key() {
    let mq = start().await;
    assert_eq!(mq.request("GET", "/ping", "").await, (200, "OK".to_owned()));
    let id = mq.pushed(r#"{"body":"this is a job","topic":"game_1"}"#).await;
    let popped = mq.get("/pop?topic=game_1").await;
    assert_eq!(popped, success(&json!({ "id": id, "body": "this is a job", "retry_count": 0 })));
    assert_eq!(mq.get("/pop?topic=game_1&bindKey=default").await, error("no message"));
    assert_eq!(mq.get(&format!("/ack?msgId={id}&topic=game_1")).await, ok());
    assert_eq!(mq.get(&format!("/ack?msgId={id}&topic=game_1")).await, error(&format!("msgId:{id} is not exist.")));
}

#[tokio::test]
async fn pushes_with_a_route_key_and_a_delay() {
    let mq = start().await;
    assert_eq!(mq.get("/declareQueue?topic=ketang&bindKey=homework").await, ok());
    assert_eq!(mq.get("/declareQueue?topic=ketang&bindKey=homework").await, error("bindKey homework has exist."));
    assert_eq!(mq.get("/getQueuesByTopic?topic=ketang").await, success(&json!({ "homework": "ketang_homework" })));
    let id = mq.pushed(r#"{"body":"this is a job","topic":"ketang","delay":20,"route_key":"homework"}"#).await;
    assert_eq!(mq.get("/pop?topic=ketang&bindKey=homework").await, error("no message"));
    let info = mq
        .node
        .look(Look::Get(QueueName::new("ketang", "homework"), MessageId(id.parse().unwrap())))
        .await
        .unwrap()
        .messages()
        .remove(0);
    assert_eq!(info.state, "delayed");
    let stat = &mq.get("/getTopicStat?topic=ketang").await["data"];
    assert_eq!((&stat["delay_num"], &stat["queue_msg_num"]), (&json!(1), &json!(0)));
    // One that is not delayed overtakes it; what a form encodes comes out as it went in.
    mq.pushed(
        "%7B%22body%22%3A%22a+b%26c%3D%C3%A9%22%2C%22topic%22%3A%22ketang%22%2C%22route_key%22%3A%22homework%22%7D",
    )
    .await;
    assert_eq!(mq.get("/pop?topic=ketang&bindKey=homework").await["data"]["body"], "a b&c=é");
}

#[tokio::test]
async fn a_pop_waits_as_long_as_it_says() {
    let mq = start().await;
    mq.node.change(Change::Declare(QueueName::new("t", "default"))).await.unwrap();
    let waiting = mq.get("/pop?topic=t&timeout=20000");
    let push = async {
        while stats(&mq.node, "t").await.queues[0].popped == 0 {
            if stats(&mq.node, "t").await.queues[0].pushed == 0 {
                mq.node.push(Push::new("t", b"late".to_vec())).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let (popped, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(waiting, push) }).await.unwrap();
    assert_eq!(popped["data"]["body"], "late");
    assert_eq!(mq.get("/pop?topic=t&timeout=1").await, error("no message"));
    assert_eq!(mq.get("/pop?topic=t&timeout=soon").await, error("timeout:soon is no number, or too large"));
}

#[tokio::test]
async fn every_error_says_what_is_wrong() {
    let mq = start().await;
    mq.node.change(Change::Declare(QueueName::new("t", "default"))).await.unwrap();
    let paths = [
        ("/pop", "topic is empty"),
        ("/ack?msgId=1", "topic is empty"),
        ("/declareQueue?bindKey=x", "topic is empty"),
        ("/declareQueue?topic=t", "bindKey is empty"),
        ("/declareQueue?topic=t&bindKey=", "bindKey is empty"),
        ("/config?mode=1", "topic is empty"),
        ("/dead", "topic is empty"),
        ("/getTopicStat", "topic is empty"),
        ("/getQueuesByTopic", "topic is empty"),
        ("/exitTopic", "topic is empty"),
        ("/setIsAutoAck", "topic is empty"),
        ("/pop?topic=nope", "topic is not exist"),
        ("/ack?topic=nope&msgId=1", "topic is not exist"),
        ("/dead?topic=nope", "topic is not exist"),
        ("/getTopicStat?topic=nope", "topic is not exist"),
        ("/exitTopic?topic=nope", "topic is not exist"),
        ("/setIsAutoAck?topic=nope", "topic is not exist"),
        ("/pop?topic=t&bindKey=zzz", "bindKey:zzz can't match queue"),
        ("/ack?topic=t&bindKey=zzz&msgId=1", "bindKey:zzz can't match queue"),
        ("/dead?topic=t&bindKey=zzz", "bindKey:zzz can't match queue"),
        ("/ack?topic=t&msgId=1", "msgId:1 is not exist."),
        ("/ack?topic=t&msgId=one", "msgId:one is not exist."),
        ("/ack?topic=t", "msgId: is not exist."),
        ("/dead?topic=t", "no message"),
        ("/config?topic=t&mode=3", "mode:3 is unknown: 1 is exact, 2 is fuzzy"),
        ("/config?topic=t&isAutoAck=maybe", "isAutoAck:maybe is unknown: use 0 or 1"),
        ("/config?topic=t&msgTTR=-1", "msgTTR:-1 is no number, or too large"),
        ("/config?topic=t&msgRetry=70000", "msgRetry:70000 is no number, or too large"),
    ];
    for (path, text) in paths {
        assert_eq!(mq.get(path).await, error(text), "{path}");
    }
    let pushes = [
        ("", "data is empty"),
        (r#"{"body":"x"}"#, "topic is empty"),
        (r#"{"topic":"t"}"#, "data is empty"),
        (r#"{"body":"x","topic":"t","route_key":"zzz"}"#, "bindKey:zzz can't match queue"),
        (r#"{"body":"x","topic":"nope","route_key":"zzz"}"#, "topic is not exist"),
        (
            r#"{"body":"x","topic":"t","delay":31622401}"#,
            "a delay of 31622401000 ms: at most 31622400000 ms (366 days) are taken",
        ),
    ];
    for (data, text) in pushes {
        assert_eq!(mq.push(data).await, error(text), "{data}");
    }
    assert_eq!(mq.json("POST", "/push", "").await, error("data is empty"));
    assert_eq!(mq.json("GET", "/push", "").await, error("data is empty"));
    let none = mq.push("no JSON").await;
    assert_eq!(none["code"], 1);
    assert!(none["msg"].as_str().unwrap().starts_with("data is no such JSON: "), "{none}");
    let large = mq.push(&format!(r#"{{"body":"{}","topic":"t"}}"#, "x".repeat((1 << 20) + 1))).await;
    assert_eq!(large, error("the body has 1048577 bytes, at most 1048576 are taken"));
    mq.pushed(&format!(r#"{{"body":"{}","topic":"t"}}"#, "x".repeat(1 << 20))).await;
    let huge = mq.json("POST", "/push", &"x".repeat(9 << 20)).await;
    assert_eq!(huge, error("the form cannot be read: Failed to buffer the request body: length limit exceeded"));
    mq.node
        .change(Change::Configure("t".to_owned(), Settings { mode: Some(Mode::Fuzzy), ..Settings::default() }))
        .await
        .unwrap();
    let regex = mq.push(r#"{"body":"x","topic":"t","route_key":"(a"}"#).await;
    assert_eq!(regex, error(r#"route key "(a" is no regular expression: error: unclosed group"#));
}

#[tokio::test]
async fn methods_that_only_look_change_nothing() {
    let mq = start().await;
    mq.pushed(r#"{"body":"x","topic":"t"}"#).await;
    let before = (mq.node.written(), stats(&mq.node, "t").await);
    for path in ["/push", "/pop?topic=t", "/ack?topic=t", "/declareQueue?topic=t&bindKey=q", "/config?topic=t&mode=2"]
        .into_iter()
        .chain(["/exitTopic?topic=t", "/setIsAutoAck?topic=t"])
    {
        for method in ["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert_eq!(mq.request(method, path, "").await.0, 405, "{method} {path}");
        }
    }
    for path in ["/dead?topic=t", "/ping", "/getTopicStat?topic=t", "/getAllTopicStat", "/getQueuesByTopic?topic=t"] {
        assert_eq!(mq.request("HEAD", path, "").await, (200, String::new()), "{path}");
        assert_eq!(mq.request("OPTIONS", path, "").await.0, 405, "{path}");
    }
    assert_eq!((mq.node.written(), stats(&mq.node, "t").await), before);
}

/// More pops than may wait, and than connections that a node has for HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn pops_that_wait_leave_room_for_others() {
    let mq = start().await;
    mq.node.change(Change::Declare(QueueName::new("t", "default"))).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(mq.address).await.unwrap();
        let request = format!("GET /pop?topic=t&timeout=60000 HTTP/1.1\r\nHost: {}\r\n\r\n", mq.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(tokio::spawn(async move {
            let mut answer = vec![0; 1024];
            let length = stream.read(&mut answer).await.unwrap();
            answer.truncate(length);
            String::from_utf8(answer).unwrap()
        }));
    }
    let soon = async |path: &str| {
        let answer = tokio::time::timeout(Duration::from_secs(5), mq.request("GET", path, "")).await;
        answer.unwrap_or_else(|_| panic!("{path} hangs"))
    };
    assert_eq!(soon("/ping").await, (200, "OK".to_owned()));
    // Those that may not wait are answered at once.
    while waiting.iter().filter(|pop| pop.is_finished()).count() < 300 - 128 {
        tokio::task::yield_now().await;
    }
    let text = soon("/pop?topic=t&timeout=60000").await.1;
    assert!(text.contains("no message; this pop did not wait, because 128 others do"), "{text}");
    assert_eq!(soon("/pop?topic=t").await.1, error("no message").to_string());
    mq.pushed(r#"{"body":"one","topic":"t"}"#).await;
    while waiting.iter().filter(|pop| pop.is_finished()).count() < 300 - 127 {
        tokio::task::yield_now().await;
    }
    waiting.iter().for_each(|pop| pop.abort());
}

#[tokio::test]
async fn other_paths_are_404() {
    let mq = start().await;
    for path in ["/", "/pushh", "/push/x", "/ping/..", "/../etc/passwd", "/Pop"] {
        assert_eq!(mq.request("GET", path, "").await.0, 404, "{path}");
    }
}

/// All that is in a directory, with the times of the last change.
fn listing(directory: &Path) -> Vec<(String, u64)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn names_have_no_meaning_as_paths() {
    let mq = start().await;
    mq.node.change(Change::Declare(QueueName::new("t", "default"))).await.unwrap();
    // Beside the node's directory, under a name that nobody else uses.
    let above = mq.directory.path().with_extension("x");
    let outside = format!("../{}", above.file_name().unwrap().to_str().unwrap());
    let files = listing(mq.directory.path());
    let written = mq.node.written();
    for name in ["a/b", &outside, "a%2Fb", &outside.replace('/', "%2F"), "..", "%00", &"n".repeat(300)] {
        let paths = [
            format!("/declareQueue?topic={name}&bindKey=q"),
            format!("/declareQueue?topic=t&bindKey={name}"),
            format!("/config?topic={name}&mode=1"),
            format!("/pop?topic={name}"),
            format!("/pop?topic=t&bindKey={name}"),
            format!("/ack?msgId=1&topic={name}"),
            format!("/ack?msgId=1&topic=t&bindKey={name}"),
            format!("/dead?topic={name}"),
            format!("/dead?topic=t&bindKey={name}"),
            format!("/getTopicStat?topic={name}"),
            format!("/getQueuesByTopic?topic={name}"),
            format!("/exitTopic?topic={name}"),
            format!("/setIsAutoAck?topic={name}"),
        ];
        for path in paths {
            let answer = mq.get(&path).await;
            assert_eq!((&answer["code"], &answer["data"]), (&json!(1), &Value::Null), "{path}");
        }
        let plain = name.replace("%2F", "/").replace("%00", "\\u0000");
        let answer = mq.push(&format!(r#"{{"body":"x","topic":"{plain}"}}"#)).await;
        assert_eq!(answer["code"], 1, "{name}");
        let answer = mq.push(&format!(r#"{{"body":"x","topic":"t","route_key":"{plain}"}}"#)).await;
        assert_eq!(answer["code"], 1, "{name}");
    }
    assert_eq!(listing(mq.directory.path()), files);
    assert_eq!(mq.node.written(), written);
    assert!(!above.exists());
    assert_eq!(stats(&mq.node, "t").await.queues.len(), 1);
    let long = "n".repeat(255);
    assert_eq!(mq.get(&format!("/declareQueue?topic={long}&bindKey={long}")).await, ok());
}

#[tokio::test]
async fn bodies_that_are_no_text_come_as_base64() {
    let mq = start().await;
    let pop = async || mq.get("/pop?topic=t").await["data"].clone();
    let id = mq.node.push(Push::new("t", vec![0xff, 0x00, 0xfe])).await.unwrap();
    let expected = json!({ "id": id.to_string(), "body": "/wD+", "encoding": "base64", "retry_count": 0 });
    assert_eq!(pop().await, expected);
    mq.node.push(Push::new("t", "grün".as_bytes().to_vec())).await.unwrap();
    let text = pop().await;
    assert_eq!((&text["body"], text.get("encoding")), (&json!("grün"), None));
}

#[tokio::test]
async fn an_absent_parameter_leaves_its_value() {
    let mq = start().await;
    assert_eq!(mq.get("/config?topic=t&isAutoAck=1&mode=2&msgTTR=7&msgRetry=0").await, ok());
    assert_eq!(mq.get("/config?topic=t").await, ok());
    let found = stats(&mq.node, "t").await;
    assert_eq!((found.auto_ack, found.mode), (true, Mode::Fuzzy));
    assert_eq!(mq.get("/config?topic=t&isAutoAck=0").await, ok());
    let found = stats(&mq.node, "t").await;
    assert_eq!((found.auto_ack, found.mode), (false, Mode::Fuzzy));
    // TTR and retries are seen by what becomes of a message: no retry is left after its first delivery.
    mq.pushed(r#"{"body":"x","topic":"t"}"#).await;
    let delivery = mq.node.pop(&Pop::new("t", "default")).await.unwrap().remove(0);
    mq.node.end(&delivery.receipt.unwrap(), &End::nack(Duration::ZERO, "no")).await.unwrap();
    let dead = mq.get("/dead?topic=t").await;
    let reason = "delivered 1 times; the last time: no";
    let letter = json!({ "id": delivery.id.to_string(), "body": "x", "retry_count": 1, "reason": reason });
    assert_eq!(dead, success(&letter));
    let id = delivery.id;
    assert_eq!(mq.get("/dead?topic=t").await, dead, "looking takes nothing");
    assert_eq!(mq.get(&format!("/dead?topic=t&after={id}")).await, error("no message"));
    assert_eq!(mq.get(&format!("/ack?topic=t&msgId={id}")).await, error(&format!("msgId:{id} is not exist.")));
    assert_eq!(mq.json("POST", "/dead?topic=t", "").await, success(&letter));
    assert_eq!(mq.json("POST", "/dead?topic=t", "").await, error("no message"), "it is leased");
    assert_eq!(mq.get(&format!("/ack?topic=t&msgId={id}")).await, ok());
    assert_eq!(mq.get("/dead?topic=t").await, error("no message"));
}

#[tokio::test]
async fn modes_lead_to_one_queue_or_to_all_that_match() {
    let mq = start().await;
    for key in ["red", "green", "redder"] {
        assert_eq!(mq.get(&format!("/declareQueue?topic=t&bindKey={key}")).await, ok());
    }
    let ready = async || {
        let found = stats(&mq.node, "t").await;
        found.queues.iter().map(|queue| (queue.queue.clone(), queue.ready)).collect::<Vec<_>>()
    };
    let counts = |green, red, redder| {
        [("green", green), ("red", red), ("redder", redder)].map(|(key, count)| (key.to_owned(), count)).to_vec()
    };
    mq.pushed(r#"{"body":"x","topic":"t","route_key":"red"}"#).await;
    assert_eq!(ready().await, counts(0, 1, 0));
    assert_eq!(mq.get("/config?topic=t&mode=2").await, ok());
    mq.pushed(r#"{"body":"x","topic":"t","route_key":"red"}"#).await;
    assert_eq!(ready().await, counts(0, 2, 1));
    mq.pushed(r#"{"body":"x","topic":"t","route_key":"^g|er$"}"#).await;
    assert_eq!(ready().await, counts(1, 2, 2));
    assert_eq!(mq.get("/config?topic=t&mode=1").await, ok());
    assert_eq!(mq.push(r#"{"body":"x","topic":"t","route_key":"^g"}"#).await, error("bindKey:^g can't match queue"));
}

#[tokio::test]
async fn auto_ack_toggles() {
    let mq = start().await;
    mq.pushed(r#"{"body":"x","topic":"t"}"#).await;
    for expected in [true, false, true] {
        assert_eq!(mq.get("/setIsAutoAck?topic=t").await, ok());
        assert_eq!(mq.get("/getTopicStat?topic=t").await["data"]["is_auto_ack"], expected);
    }
    let id = mq.get("/pop?topic=t").await["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(mq.get(&format!("/ack?topic=t&msgId={id}")).await, error(&format!("msgId:{id} is not exist.")));
    assert_eq!(mq.get("/getTopicStat?topic=t").await["data"]["wait_ack_num"], 0);
}

#[tokio::test]
async fn statistics_have_every_field() {
    let mq = start().await;
    for n in 0..5 {
        mq.pushed(&format!(r#"{{"body":"{n}","topic":"t"}}"#)).await;
    }
    mq.pushed(r#"{"body":"later","topic":"t","delay":60}"#).await;
    mq.get("/config?topic=t&msgRetry=0").await;
    let delivery = mq.node.pop(&Pop::new("t", "default")).await.unwrap().remove(0);
    mq.node.end(&delivery.receipt.unwrap(), &End::nack(Duration::ZERO, "no")).await.unwrap();
    let id = mq.get("/pop?topic=t").await["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(mq.get(&format!("/ack?topic=t&msgId={id}")).await, ok());
    mq.get("/pop?topic=t").await;
    mq.get("/declareQueue?topic=t&bindKey=other").await;
    mq.get("/declareQueue?topic=another&bindKey=q").await;
    let answer = mq.get("/getTopicStat?topic=t").await;
    let start = answer["data"]["start_time"].as_str().unwrap().to_owned();
    let date = humantime::parse_rfc3339_weak(&start).unwrap();
    assert!(start.len() == 19 && date.elapsed().unwrap() < Duration::from_secs(600), "{start}");
    let stat = json!({
        "name": "t", "pop_num": 3, "push_num": 6, "dead_num": 1, "queue_msg_num": 2, "queue_num": 2, "delay_num": 1,
        "wait_ack_num": 1, "start_time": start, "is_auto_ack": false,
    });
    assert_eq!(answer, success(&stat));
    let all = mq.get("/getAllTopicStat").await;
    let all = all["data"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["name"], &all[1]), (2, &json!("another"), &stat));
    assert_eq!(mq.get("/exitTopic?topic=t").await, ok());
    assert_eq!(mq.get("/getTopicStat?topic=t").await, error("topic is not exist"));
    assert_eq!(mq.get("/getAllTopicStat").await["data"].as_array().unwrap().len(), 1);
}
