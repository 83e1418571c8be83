//! Connections of a door: for how long they are served, by TLS and without.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, body::Bytes, extract::ConnectInfo, routing::any};
use ms_http::{Access, HttpServer};
use ms_security::{
    Principal, Tokens,
    tls::{Expected, Pem, Protocol, Tls, dev::DevAuthority},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

async fn start(router: Router, stop: impl Future<Output = ()> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().max_connections(100);
    (server.address(), tokio::spawn(server.serve(router, stop)))
}

/// Sends this, and reads until the end.
async fn raw(address: SocketAddr, request: &str) -> String {
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
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
                // The connection may be closed by then.
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
    // The request would go on for ten seconds.
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

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A door with TLS whose only route says who is there.
async fn secure(tls: &Tls, access: Access) -> SocketAddr {
    let who = async |ConnectInfo(address): ConnectInfo<SocketAddr>, principal: Option<Extension<Principal>>| {
        let name = principal.map(|Extension(principal)| principal.name().to_owned());
        format!("{} {}", name.unwrap_or_default(), address.ip())
    };
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap().tls(tls);
    let address = server.address();
    tokio::spawn(server.serve(access.guard(Router::new().route("/", any(who))), std::future::pending()));
    address
}

/// Asks over TLS for the identity of `door`.
async fn ask(tls: &Tls, address: SocketAddr, request: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = tls.connect(stream, Expected::Identity("spiffe://test/door"), Protocol::HTTP).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn callers_are_known_by_their_certificate_or_their_token() {
    let authority = DevAuthority::new("test").unwrap();
    let (door, shop) =
        (authority.tls("door").unwrap().build().unwrap(), authority.tls("shop").unwrap().build().unwrap());
    let address = secure(&door, Access::open()).await;
    let answer = ask(&shop, address, GET).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("spiffe://test/shop 127.0.0.1"), "{answer}");
    let guarded = secure(&door, Access::open().with_tokens(&Tokens::single("ops", "secret"))).await;
    let with_token = GET.replace("\r\n\r\n", "\r\nAuthorization: Bearer secret\r\n\r\n");
    let answer = ask(&shop, guarded, &with_token).await.unwrap();
    assert!(answer.ends_with("ops 127.0.0.1"), "{answer}");
    assert!(ask(&shop, guarded, GET).await.unwrap().starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn strangers_do_not_come_in_by_tls() {
    let authority = DevAuthority::new("test").unwrap();
    let door = authority.tls("door").unwrap().build().unwrap();
    let address = secure(&door, Access::open()).await;
    let other = DevAuthority::new("test").unwrap().issue("shop").unwrap();
    let (certificate, key) = (Pem::bytes(other.certificate), Pem::bytes(other.key));
    let stranger = Tls::mutual(Pem::bytes(authority.ca()), certificate, key).build().unwrap();
    let error = ask(&stranger, address, GET).await.unwrap_err().to_string();
    assert!(error.contains("refused our certificate"), "{error}");
    let nobody = Tls::one_way_client(Pem::bytes(authority.ca())).build().unwrap();
    let error = ask(&nobody, address, GET).await.unwrap_err().to_string();
    assert!(error.contains("there was none, and it needs one"), "{error}");
    let answer = raw(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this server speaks TLS"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let door = DevAuthority::new("test").unwrap().tls("door").unwrap().build().unwrap();
    let address = secure(&door, Access::open()).await;
    for begin in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let started = Instant::now();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it stays open");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}
