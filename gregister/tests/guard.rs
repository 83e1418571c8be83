//! Who is served, for how long, and who is not: web pages, and who sends slowly.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, routing::any};
use ms_gregister::{Access, Node, router, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

async fn start(router: Router, stop: impl Future<Output = ()> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, router, 100, stop)))
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
        .map(|data| router(Node::open(data.path(), Node::CANDIDATE_TTL).unwrap(), Access::open()));
    let (guarded, _) = start(guarded, std::future::pending()).await;
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
    let (open, _) = start(router(node.clone(), Access::open()), std::future::pending()).await;
    let (named, _) = start(router(node.clone(), Access::open().with_name("registry")), std::future::pending()).await;
    let (secret, _) = start(router(node, Access::open().with_token("t")), std::future::pending()).await;
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

fn echo() -> Router {
    Router::new().route("/", any(async |body: Bytes| body))
}

/// Longer than any of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// The clock stands still unless everybody waits for it.
#[tokio::test(start_paused = true)]
async fn who_sends_slowly_is_cut_off() {
    let (address, _) = start(echo(), std::future::pending()).await;
    // Nothing at all; a head a byte a second; nothing after an answer.
    for pieces in [vec![], "GET / HTTP/1.1\r\nHost: localhost\r\n".split("").collect(), vec!["GET / HTTP/1.1\r\n\r\n"]]
    {
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let trickle = tokio::spawn(async move {
            for piece in pieces {
                // It may be closed by then.
                let _ = write.write_all(piece.as_bytes()).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // Not closed by this side.
            std::future::pending::<()>().await;
        });
        let begin = Instant::now();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, read.read_to_end(&mut Vec::new())).await.expect("it stays open");
        assert_eq!(begin.elapsed().as_secs(), 10);
        trickle.abort();
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    let begin = Instant::now();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it stays open").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_the_end() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, go) = (entered.clone(), go.clone());
        async move || {
            entered.notify_one();
            go.notified().await;
            "done"
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let (address, served) = start(Router::new().route("/", any(handler)), async { drop(stopped.await) }).await;
    // It would go on for ten seconds.
    let mut idle = TcpStream::connect(address).await.unwrap();
    let asked = tokio::spawn(async move { raw(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await });
    entered.notified().await;
    stop.send(()).unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    TcpStream::connect(address).await.unwrap_err();
    go.notify_one();
    assert!(asked.await.unwrap().ends_with("done"));
    served.await.unwrap();
}
