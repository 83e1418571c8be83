//! A door with `/v1`, and its document, against which every answer is held.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Mutex};

use ms_http::{Access, HttpServer};
use ms_mq::{
    Change, Delivery, End, Engine, Look, MessageId, MqError, Node, NodeConfig, NodeId, Pop, Push, QueueName, Receipt,
    Seen, http,
};
use ms_security::Tokens;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    document: Value,
    seen: Mutex<BTreeSet<(String, u16)>>,
    server: JoinHandle<()>,
    _directory: Option<TempDir>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    pub(crate) fn created(&self) -> Value {
        assert_eq!(self.status, 201, "{self:?}");
        self.json()
    }

    pub(crate) fn error(&self) -> String {
        of(&self.json(), "error").to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let values = self.head.lines().filter_map(|line| line.split_once(": "));
        values.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }
}

pub(crate) fn of<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

impl Api {
    /// A real node.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let config = NodeConfig { segment_bytes: 16 << 20, ..NodeConfig::new(NodeId::new(1).unwrap()) };
        let node = tokio::task::spawn_blocking(move || Node::open(&path, &config).unwrap()).await.unwrap();
        Self::serve(http::router(node), Some(directory)).await
    }

    pub(crate) async fn of(engine: impl Engine) -> Self {
        Self::serve(http::router(engine), None).await
    }

    /// Behind the guard of a node: with a token, or without one against web pages.
    pub(crate) async fn guarded(token: Option<&str>) -> Self {
        let access = Access::open();
        let access = match token {
            Some(token) => access.with_tokens(&Tokens::single("tests", token)),
            None => access,
        };
        Self::serve(access.guard(http::router(Broken(MqError::Closed))), None).await
    }

    async fn serve(routes: axum::Router, directory: Option<TempDir>) -> Self {
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().max_connections(256);
        let address = server.address();
        let server = tokio::spawn(server.serve(routes, std::future::pending()));
        let document: Value = serde_json::from_str(include_str!("../../src/http/v1/openapi.json")).unwrap();
        Self { address, document, seen: Mutex::default(), server, _directory: directory }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, None, None, b"").await
    }

    pub(crate) async fn put(&self, target: &str) -> Answer {
        self.send("PUT", target, None, None, b"").await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, None, None, b"").await
    }

    pub(crate) async fn post(&self, target: &str, body: Value) -> Answer {
        self.send_json("POST", target, body).await
    }

    pub(crate) async fn send_json(&self, method: &str, target: &str, body: Value) -> Answer {
        let kind = Some("application/json; charset=utf-8");
        let answer = self.send(method, target, kind, None, body.to_string().as_bytes()).await;
        if answer.status < 300 {
            let operation = self.operation(method, target).unwrap();
            let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
            if !schema.is_null() {
                self.check(schema, &body, &format!("the request of {operation:?}"));
            }
        }
        answer
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        kind: Option<&str>,
        accept: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let accept = accept.map(|accept| format!("Accept: {accept}\r\n")).unwrap_or_default();
        self.request(method, target, kind, &accept, body).await
    }

    async fn request(&self, method: &str, target: &str, kind: Option<&str>, headers: &str, body: &[u8]) -> Answer {
        let kind = kind.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{kind}{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let answer = Answer { status, head, body: answer[end + 4..].to_vec() };
        self.held_against_the_document(method, target, &answer);
        answer
    }

    fn held_against_the_document(&self, method: &str, target: &str, answer: &Answer) {
        // A path or a method that is not there is not in the document.
        let Some(operation) = self.operation(method, target) else {
            assert!(answer.status == 404 || answer.status == 405, "{method} {target}: {answer:?}");
            return;
        };
        let status = answer.status;
        let mut response = &operation.value["responses"][status.to_string()];
        if let Some(name) = response["$ref"].as_str() {
            response = self.document.pointer(name.strip_prefix('#').unwrap()).unwrap();
        }
        assert!(response.is_object(), "{operation:?} answered what the document does not name: {answer:?}");
        let content = &response["content"];
        let kind = answer.header("content-type");
        match content[kind]["schema"].clone() {
            Value::Null => assert!(content.is_null() && answer.body.is_empty(), "{operation:?}: {kind} {answer:?}"),
            schema if kind == "application/json" => {
                self.check(&schema, &answer.json(), &format!("{operation:?} {answer:?}"))
            }
            _ => {}
        }
        self.seen.lock().unwrap().insert((operation.id, status));
    }

    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let root = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": self.document["components"],
            "allOf": [schema],
        });
        let validator = jsonschema::validator_for(&root).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}");
    }

    /// Operations and statuses that were answered.
    pub(crate) fn seen(&self) -> BTreeSet<(String, u16)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.document["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().clone();
            let path = path.clone();
            methods.into_iter().filter(|(method, _)| method != "parameters").map(move |(method, value)| Operation {
                path: path.clone(),
                method: method.to_uppercase(),
                id: of(&value, "operationId").to_owned(),
                value,
            })
        };
        paths.iter().flat_map(of_path).collect()
    }

    fn operation(&self, method: &str, target: &str) -> Option<Operation> {
        let path: Vec<_> = target.split('?').next().unwrap().split('/').collect();
        let fits = |template: &str| {
            let template: Vec<_> = template.split('/').collect();
            template.len() == path.len()
                && template.iter().zip(&path).all(|(of, part)| of.starts_with('{') || of == part)
        };
        self.operations().into_iter().find(|operation| operation.method == method && fits(&operation.path))
    }
}

/// One operation of the document.
pub(crate) struct Operation {
    pub(crate) path: String,
    method: String,
    pub(crate) id: String,
    value: Value,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.id, self.method, self.path)
    }
}

impl Operation {
    pub(crate) fn statuses(&self) -> impl Iterator<Item = u16> {
        self.value["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap())
    }

    pub(crate) fn has(&self, status: u16) -> bool {
        self.statuses().any(|found| found == status)
    }

    pub(crate) fn target(&self) -> String {
        self.path.replace("{topic}", "t").replace("{queue}", "default").replace("{id}", "7").replace("{name}", "friday")
    }

    /// A request that is right.
    pub(crate) async fn ask(&self, api: &Api) -> Answer {
        let body = match self.id.as_str() {
            "push" => json!({ "body": "a" }),
            "move" | "copy" => json!({ "to_queue": "other" }),
            "ack" | "nack" | "bury" | "touch" | "return" => json!({ "receipt": "1-1-1-1-1" }),
            "edit" => json!({ "priority": 1 }),
            _ => json!({}),
        };
        self.send(api, &self.target(), Some("application/json"), body.to_string().as_bytes(), "").await
    }

    pub(crate) async fn send(&self, api: &Api, target: &str, kind: Option<&str>, body: &[u8], headers: &str) -> Answer {
        api.request(&self.method, target, kind, headers, body).await
    }
}

/// An engine that refuses everything.
#[derive(Clone)]
pub(crate) struct Broken(pub(crate) MqError);

impl Engine for Broken {
    async fn push(&self, _: Push) -> Result<MessageId, MqError> {
        Err(self.0.clone())
    }

    async fn push_batch(&self, _: Vec<Push>) -> Result<Vec<MessageId>, MqError> {
        Err(self.0.clone())
    }

    async fn pop(&self, _: &Pop) -> Result<Vec<Delivery>, MqError> {
        Err(self.0.clone())
    }

    async fn pop_dead(&self, _: &Pop) -> Result<Vec<Delivery>, MqError> {
        Err(self.0.clone())
    }

    async fn end_all(&self, _: &[Receipt], _: &End) -> Result<Vec<Result<(), MqError>>, MqError> {
        Err(self.0.clone())
    }

    fn give_back(&self, _: Vec<Receipt>) -> impl FnOnce() + Send + Sync + 'static {
        || {}
    }

    async fn change(&self, _: Change) -> Result<u64, MqError> {
        Err(self.0.clone())
    }

    async fn look(&self, _: Look) -> Result<Seen, MqError> {
        Err(self.0.clone())
    }

    fn queue_of(&self, _: &Receipt) -> Option<QueueName> {
        None
    }
}
