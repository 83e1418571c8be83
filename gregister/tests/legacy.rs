//! The API of gregister of old, byte for byte, over real sockets.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use ms_gregister::{Networks, Node, mirror, router};
use ms_http::{Access, HttpServer};
use ms_register::{Instance, Memory};
use ms_security::Tokens;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{Instant, timeout},
};

const EMPTY: &str = r#"{"code":0,"data":{"nodes":[]},"msg":"success"}"#;
const SUCCESS: &str = r#"{"code":0,"data":null,"msg":"success"}"#;

struct Served {
    address: SocketAddr,
    directory: TempDir,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start(access: Access) -> Self {
        Self::over(tempfile::tempdir().unwrap(), access, Networks::default()).await
    }

    async fn over(directory: TempDir, access: Access, networks: Networks) -> Self {
        let routes = router(Node::open(directory.path(), Node::CANDIDATE_TTL).unwrap(), networks);
        let (address, task) = self::start(access.guard(routes)).await;
        Self { address, directory, task }
    }

    /// The body of an answer, which must be 200.
    async fn get(&self, target: &str) -> String {
        let (status, body) = get(self.address, target, "").await;
        assert_eq!(status, 200, "{target}: {body}");
        body
    }
}

async fn start(router: axum::Router) -> (SocketAddr, AbortHandle) {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.address();
    let task = tokio::spawn(server.serve(router, std::future::pending()));
    (address, task.abort_handle())
}

async fn get(address: SocketAddr, target: &str, header: &str) -> (u16, String) {
    ask(address, "GET", target, header).await
}

async fn ask(address: SocketAddr, method: &str, target: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\n{header}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn failure(msg: &str) -> String {
    format!(r#"{{"code":1,"data":null,"msg":"{msg}"}}"#)
}

/// With the time of joining, which must be one, replaced.
fn timeless(body: &str) -> String {
    let key = r#""join_time":""#;
    let mut parts = body.split(key);
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (time, rest) = part.split_at(19);
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00");
        format!("{text}{key}T{rest}")
    })
}

#[tokio::test]
async fn every_answer_is_the_old_one() {
    let served = Served::start(Access::open()).await;
    let (a, b, c) = (listener().await, listener().await, listener().await);
    let [a, b, c] = [&a, &b, &c].map(|listener| listener.local_addr().unwrap());
    assert_eq!(served.get("/getNodes").await, EMPTY);
    assert_eq!(served.get(&format!("/register?node_id=2&tcp_addr={a}&http_addr={b}&weight=3")).await, SUCCESS);
    let node = format!(
        r#"{{"id":2,"http_addr":"{b}","http_tls":false,"tcp_addr":"{a}","tcp_tls":false,"join_time":"T","weight":3}}"#
    );
    let listed = timeless(&served.get("/getNodes").await);
    assert_eq!(listed, format!(r#"{{"code":0,"data":{{"nodes":[{node}]}},"msg":"success"}}"#));

    for (target, msg) in [
        (format!("/register?node_id=2&tcp_addr={c}&weight=1"), "node.Id 2 has exist".to_owned()),
        (format!("/register?node_id=3&tcp_addr={a}&weight=1"), format!("node.tcpAddr {a} has exist")),
        (format!("/register?node_id=3&tcp_addr={c}&http_addr={b}&weight=1"), format!("node.httpAddr {b} has exist")),
        (format!("/register?node_id=0&tcp_addr={c}&weight=1"), "node_id must be 1 to 1023.".to_owned()),
        (format!("/register?node_id=1024&tcp_addr={c}&weight=1"), "node_id must be 1 to 1023.".to_owned()),
        (format!("/register?node_id=70000&tcp_addr={c}&weight=1"), "node_id must be 1 to 1023.".to_owned()),
        (format!("/register?tcp_addr={c}&weight=1"), "node_id must be 1 to 1023.".to_owned()),
        (format!("/register?node_id=3&tcp_addr={c}"), "weight must be greater than 0.".to_owned()),
        (format!("/register?node_id=3&tcp_addr={c}&weight=-1"), "weight must be greater than 0.".to_owned()),
        (format!("/unregister?tcp_addr={c}"), "addr is not exist".to_owned()),
        ("/unregister".to_owned(), "addr is not exist".to_owned()),
        (format!("/editWeight?tcp_addr={a}&weight=0"), "weight must be greater than 0.".to_owned()),
        (format!("/editWeight?tcp_addr={c}&weight=1"), "node is not exist".to_owned()),
    ] {
        assert_eq!(served.get(&target).await, failure(&msg), "{target}");
    }
    assert_eq!(served.get(&format!("/editWeight?tcp_addr={a}&weight=9")).await, SUCCESS);
    assert_eq!(timeless(&served.get("/getNodes").await), listed.replace(r#""weight":3"#, r#""weight":9"#));
    assert_eq!(served.get(&format!("/unregister?tcp_addr={a}")).await, SUCCESS);
    assert_eq!(served.get("/getNodes").await, EMPTY);
    for unknown in ["/", "/nodes", "/getNodes/", "/v1"] {
        assert_eq!(get(served.address, unknown, "").await, (404, "not found".to_owned()), "{unknown}");
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn what_cannot_or_may_not_be_dialled_is_refused() {
    let networks: Networks = "127.0.0.2/32".parse().unwrap();
    let served = Served::over(tempfile::tempdir().unwrap(), Access::open(), networks).await;
    let outside = listener().await;
    let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (outside, inside_address) = (outside.local_addr().unwrap(), inside.local_addr().unwrap());
    for (addresses, reason) in [
        (format!("tcp_addr={outside}"), "outside the networks"),
        (format!("tcp_addr={inside_address}&http_addr={outside}"), "outside the networks"),
        ("tcp_addr=nobody".to_owned(), "can't be dialled"),
        ("tcp_addr=".to_owned(), "can't be dialled"),
        ("tcp_addr=127.0.0.2:1".to_owned(), "can't be dialled"),
    ] {
        let answer = served.get(&format!("/register?node_id=1&weight=1&{addresses}")).await;
        assert!(answer.contains(r#""code":1"#) && answer.contains(reason), "{addresses}: {answer}");
    }
    assert_eq!(served.get("/getNodes").await, EMPTY);
    assert_eq!(served.get(&format!("/register?node_id=1&weight=1&tcp_addr={inside_address}")).await, SUCCESS);
}

#[tokio::test]
async fn nodes_that_are_gone_are_removed_and_outlive_a_miss_and_a_restart() {
    let served = Served::start(Access::open()).await;
    let (stays, goes) = (listener().await, listener().await);
    let [kept, gone] = [&stays, &goes].map(|listener| listener.local_addr().unwrap());
    for (id, address) in [(1, kept), (2, gone)] {
        assert_eq!(served.get(&format!("/register?node_id={id}&weight=1&tcp_addr={address}")).await, SUCCESS);
    }
    let begin = Instant::now();
    drop(goes);
    // A change wakes nobody here: `/getNodes` does not wait.
    let removed = async {
        while served.get("/getNodes").await.contains(&gone.to_string()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(15), removed).await.unwrap();
    assert!(begin.elapsed() > Duration::from_secs(3), "the third miss is at least two rounds after the first");
    let before = served.get("/getNodes").await;
    assert!(before.contains(&kept.to_string()));

    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(served.directory.path().join("changes"), copy.path().join("changes")).unwrap();
    let again = Served::over(copy, Access::open(), Networks::default()).await;
    assert_eq!(again.get("/getNodes").await, before);
}

#[tokio::test]
async fn safe_methods_change_nothing() {
    let served = Served::start(Access::open()).await;
    let (here, other) = (listener().await, listener().await);
    let [here, other] = [&here, &other].map(|listener| listener.local_addr().unwrap());
    let register = |address: SocketAddr, id: u16| format!("/register?node_id={id}&weight=1&tcp_addr={address}");
    let (status, body) = ask(served.address, "POST", &register(here, 1), "").await;
    assert_eq!((status, body.as_str()), (200, SUCCESS));
    let before = served.get("/getNodes").await;
    let targets =
        [register(other, 2), format!("/unregister?tcp_addr={here}"), format!("/editWeight?tcp_addr={here}&weight=9")];
    for target in &targets {
        for method in ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE"] {
            assert_eq!(ask(served.address, method, target, "").await.0, 405, "{method} {target}");
        }
    }
    assert_eq!(served.get("/getNodes").await, before);
    assert_eq!(ask(served.address, "HEAD", "/getNodes", "").await, (200, String::new()));
}

#[tokio::test]
async fn a_node_has_one_address_however_it_is_spelt() {
    let served = Served::start(Access::open()).await;
    let here = listener().await;
    let port = here.local_addr().unwrap().port();
    assert_eq!(served.get(&format!("/register?node_id=1&weight=1&tcp_addr=127.0.0.1:{port}")).await, SUCCESS);
    let taken = failure(&format!("node.tcpAddr 127.0.0.1:{port} has exist"));
    for spelling in [format!("127.0.0.1:0{port}"), format!("[::ffff:127.0.0.1]:{port}"), format!("%20127.0.0.1:{port}")]
    {
        assert_eq!(served.get(&format!("/register?node_id=2&weight=1&tcp_addr={spelling}")).await, taken, "{spelling}");
    }
    assert_eq!(served.get(&format!("/unregister?tcp_addr=[::ffff:127.0.0.1]:{port}")).await, SUCCESS);
    assert_eq!(served.get("/getNodes").await, EMPTY);
}

#[tokio::test]
async fn ids_that_name_folders_are_refused() {
    let served = Served::start(Access::open()).await;
    for id in ["..", ".", "%2e%2e"] {
        let body = r#"{"host":"h","port":1}"#;
        let header = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let (status, answer) = ask(served.address, "PUT", &format!("/v1/services/goods/{id}"), &header).await;
        assert_eq!(status, 400, "{id}: {answer}");
    }
    assert!(served.get("/v1/services").await.contains(r#""services":{}"#));
}

#[tokio::test]
async fn a_token_is_asked_for_on_every_path() {
    let served = Served::start(Access::open().with_tokens(&Tokens::single("ops", "secret"))).await;
    for target in ["/getNodes", "/register", "/v1/services", "/v1/services/goods", "/nothing"] {
        for (query, header) in [("", ""), ("?token=wrong", ""), ("", "Authorization: Bearer secre\r\n")] {
            let (status, body) = get(served.address, &format!("{target}{query}"), header).await;
            assert_eq!(status, 401, "{target}{query} {header}: {body}");
        }
    }
    assert_eq!(served.get("/getNodes?token=secret").await, EMPTY);
    let (status, body) = get(served.address, "/getNodes", "Authorization: Bearer secret\r\n").await;
    assert_eq!((status, body.as_str()), (200, EMPTY));
}

#[tokio::test]
async fn another_registry_is_shown_and_not_changed() {
    let memory = std::sync::Arc::new(Memory::new());
    let goods = "goods".parse().unwrap();
    memory.insert(&goods, Instance::new("10.0.0.1", 80).with_weight(0.25));
    memory.insert(&goods, Instance::new("10.0.0.2", 80).with_metadata("mq.node", "1").with_metadata("mq.http", "h:1"));
    let (address, task) = start(Access::open().guard(mirror(memory.clone(), goods))).await;
    let first = r#"{"id":1,"http_addr":"h:1","http_tls":false,"tcp_addr":"10.0.0.2:80","tcp_tls":false,"join_time":"","weight":1}"#;
    let second = r#"{"id":2,"http_addr":"","http_tls":false,"tcp_addr":"10.0.0.1:80","tcp_tls":false,"join_time":"","weight":1}"#;
    let all = format!(r#"{{"code":0,"data":{{"nodes":[{first},{second}]}},"msg":"success"}}"#);
    assert_eq!(get(address, "/getNodes", "").await, (200, all));
    for target in ["/register?node_id=1", "/unregister?tcp_addr=10.0.0.1:80", "/editWeight?weight=1"] {
        let (status, body) = get(address, target, "").await;
        assert!(status == 200 && body.contains("read-only"), "{target}: {body}");
    }
    memory.set_down(true);
    let (status, body) = get(address, "/getNodes", "").await;
    assert!(status == 200 && body.starts_with(r#"{"code":1,"data":null,"msg":"#), "an error is no empty list: {body}");
    task.abort();
}
