//! Load balancers as processes, before services in a real ZooKeeper in go-micro-service's form.

// What tests share is no test function itself, so the exception for tests does not reach it.
#![allow(clippy::unwrap_used)]

#[path = "lb/http.rs"]
mod http;
#[path = "lb/mqtt.rs"]
mod mqtt;
#[path = "lb/sidecar.rs"]
mod sidecar;

use std::{path::Path, sync::Arc, time::Duration};

use ms_tests::{Program, Response, Server, request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The command `ms`.
const MS: &str = env!("CARGO_BIN_EXE_ms-in-tests");

/// Bases of the services, and of the load balancers, as in go-micro-service's samples.
const SERVICES: &str = "gateway-service";
const BALANCERS: &str = "micro-service";

/// ZooKeeper, and programs around it.
struct World {
    zookeeper: Server,
    directory: Arc<TempDir>,
}

impl World {
    async fn new() -> Self {
        Self { zookeeper: Server::zookeeper().await.unwrap(), directory: Program::directory().unwrap() }
    }

    fn port(&self) -> u16 {
        self.zookeeper.address().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// ZooKeeper, as an entry of `conns`.
    fn conns(&self) -> Value {
        json!([{ "server-host": "127.0.0.1", "server-port": self.port(), "service-id": "server_1" }])
    }

    async fn peer(&self, kind: &str, base: &str, rest: &[&str]) -> Program {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/micro_service.py");
        let (hosts, base) = (self.zookeeper.address(), format!("/{base}"));
        let arguments = [&[script.to_str().unwrap(), kind, &hosts, &base], rest].concat();
        // The distribution's, which has its packages.
        Program::start(&self.directory, "/usr/bin/python3", &arguments).await.unwrap()
    }

    /// An HTTP server of the service `shop`, with its role.
    async fn server(&self, code: &str) -> Program {
        self.peer("http", SERVICES, &["shop", code, "1"]).await
    }

    async fn found(&self, base: &str, service: &str) -> Value {
        serde_json::from_str(self.peer("find", base, &[service]).await.said()).unwrap()
    }

    fn write(&self, name: &str, content: &Value) {
        std::fs::write(self.directory.path().join(name), content.to_string()).unwrap();
    }

    async fn ms(&self, arguments: &[&str]) -> Program {
        Program::start(&self.directory, MS, arguments).await.unwrap()
    }
}

/// Asks until the answer is the wanted one.
async fn until(address: &str, target: &str, mut is_wanted: impl FnMut(&Response) -> bool) -> Response {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = request("GET", address, target).await.unwrap();
        if is_wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "the last answer to {target} was {answer:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn code(answer: &Response) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}
