//! The guard before a node's paths: programs do not notice it, and web pages get nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use axum::Router;
use ms_gregister::{Networks, Node, router};
use ms_http::{Access, HttpServer};
use ms_security::Tokens;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn start(router: Router) -> SocketAddr {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.serve(router, std::future::pending()));
    address
}

/// Sends this, and reads until the end.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Without the one line that another second changes.
fn undated(answer: &str) -> String {
    answer.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

/// Of curl, of HTTP/1.0, and of what is wrong.
#[tokio::test]
async fn what_programs_send_is_answered_to_the_byte_as_without_a_guard() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [guarded, plain] = directories
        .each_ref()
        .map(|data| router(Node::open(data.path(), Node::CANDIDATE_TTL).unwrap(), Networks::default()));
    let guarded = start(Access::open().guard(guarded)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ordinary = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, plain).into_future());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = nobody.local_addr().unwrap();
    let curl = |line: &str, host: &str| {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: close\r\n\r\n")
    };
    for line in [
        "GET /getNodes".to_owned(),
        "GET /nothing".to_owned(),
        "HEAD /getNodes".to_owned(),
        "POST /editWeight?tcp_addr=h:1&weight=0".to_owned(),
        format!("GET /register?node_id=1&weight=1&tcp_addr={nobody}"),
        "GET /unregister?tcp_addr=h:1".to_owned(),
    ] {
        let bare = format!("{line} HTTP/1.0\r\n\r\n");
        assert_eq!(undated(&raw(guarded, &bare).await), undated(&raw(ordinary, &bare).await), "{line}");
        for name in ["localhost", "127.0.0.1"] {
            let (one, other) = (curl(&line, &format!("{name}:{}", guarded.port())), curl(&line, name));
            let answers = (raw(guarded, &one).await, raw(ordinary, &other).await);
            assert_eq!(undated(&answers.0), undated(&answers.1), "{line}");
            assert!(answers.0.starts_with("HTTP/1.1 200") || line.contains("nothing"), "{answers:?}");
        }
    }
}

#[tokio::test]
async fn what_pages_send_changes_and_tells_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::open(data.path(), Node::CANDIDATE_TTL).unwrap();
    let routes = || router(node.clone(), Networks::default());
    let open = start(Access::open().guard(routes())).await;
    let named = start(Access::open().with_name("registry").guard(routes())).await;
    let secret = start(Access::open().with_tokens(&Tokens::single("ops", "t")).guard(routes())).await;
    let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let register = format!("/register?node_id=1&weight=1&tcp_addr={}", here.local_addr().unwrap());
    let ask = |address: SocketAddr, target: String, headers: &'static str| async move {
        raw(address, &format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
    };
    for headers in [
        "Host: evil.example\r\n",
        "Host: registry\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        for target in [&register, "/v1/services", "/getNodes", "/nothing"] {
            let answer = ask(open, target.to_owned(), headers).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(r#"{"error":"without a token"#), "{answer}");
        }
    }
    let absolute = ask(open, format!("http://evil.example{register}"), "Host: localhost\r\n").await;
    assert!(absolute.starts_with("HTTP/1.1 403"), "{absolute}");
    let listed = ask(open, "/getNodes".to_owned(), "Host: localhost\r\n").await;
    assert!(listed.ends_with(r#""nodes":[]},"msg":"success"}"#), "{listed}");

    assert!(ask(named, "/getNodes".to_owned(), "Host: registry:80\r\n").await.starts_with("HTTP/1.1 200"));
    assert!(ask(named, "/getNodes".to_owned(), "Host: evil.example\r\n").await.starts_with("HTTP/1.1 403"));
    // No page knows the token.
    let origin = "Host: registry.example\r\nOrigin: http://tools.example\r\n";
    assert!(ask(secret, "/getNodes?token=t".to_owned(), origin).await.starts_with("HTTP/1.1 200"));
    assert!(ask(secret, "/getNodes".to_owned(), origin).await.starts_with("HTTP/1.1 401"));
}
