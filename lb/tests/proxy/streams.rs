//! Bodies that stream, upgrades, back ends that misbehave, and requests that try to be two.

use std::time::Duration;

use crate::support::{Front, Shop, Wire, config, get, rule};
use ms_lb::{Choice, KeySource, ProxyConfig};
use ms_register::Instance;
use ms_rpc::Balancer;
use tokio::time::Instant;

async fn front(shop: &Shop, config: ProxyConfig) -> Front {
    let choice = Choice::Balanced(Balancer::RoundRobin.into(), KeySource::None);
    shop.front(vec![rule(".*", "shop", choice)], config).await
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    client.send("POST /parts HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
    for part in ["first", "second", "third"] {
        // Each part is back before the next one is sent.
        client.send(&format!("{:x}\r\n{part}\r\n", part.len())).await;
        let echoed = client.until(&format!("{part}\r\n")).await;
        assert_eq!(echoed, format!("{:X}\r\n{part}\r\n", part.len()));
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "0\r\n\r\n");
    assert_eq!(client.get("/page").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_is_asked() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    client.send("PUT /page HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("now").await;
    let answer = client.answer().await;
    assert_eq!((answer.json()["body"].as_str(), answer.seen("expect")), (Some("now"), None));
}

#[tokio::test]
async fn a_web_socket_is_a_tunnel_and_other_upgrades_are_not() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    client
        .send("GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        .await;
    let head = client.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("x-accept: yes"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    for word in ["one", "two"] {
        client.send(word).await;
        client.until(&word.to_uppercase()).await;
    }

    let mut client = Wire::connect(front.address).await;
    client.send("GET /page HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.seen("upgrade"), answer.seen("http2-settings")), (200, None, None));
    client.send("GET /tunnel HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 502, "nobody asked for a tunnel");
}

#[tokio::test]
async fn a_back_end_that_says_nothing_is_late() {
    let shop = Shop::open(1).await;
    let mut config = config();
    config.silence = Duration::from_millis(300);
    let front = front(&shop, config).await;
    let began = Instant::now();
    let answer = get(front.address, "/silent").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(answer.json()["error"].as_str().unwrap().contains("`shop` says nothing for 300ms"), "{answer:?}");

    let mut client = Wire::connect(front.address).await;
    client.send("GET /pause HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let cut_off = client.rest().await;
    assert!(cut_off.ends_with("\r\n\r\nhalf"), "what came is passed on, and then the connection ends: {cut_off}");
}

#[tokio::test]
async fn a_broken_answer_is_tried_elsewhere_for_get_alone() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    let mut before = 0;
    for (request, tries) in [("GET", 3), ("POST", 1), ("DELETE", 1), ("HEAD", 3)] {
        client.send(&format!("{request} /broken HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")).await;
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        client = Wire::connect(front.address).await;
        let count: usize = String::from_utf8(client.get("/count").await.body).unwrap().parse().unwrap();
        assert_eq!(count - before, tries, "{request}");
        before = count;
    }
    let mut client = Wire::connect(front.address).await;
    client.send("GET /half HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.rest().await.ends_with("half"), "an answer that has begun is not begun again");
}

#[tokio::test]
async fn a_post_goes_elsewhere_if_no_connection_came_about() {
    let shop = Shop::open(2).await;
    // Bound, and not listening: a connection is refused.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let dead = Instance::new("127.0.0.1", port).with_id("dead");
    let _listed = shop.registry.register(&"shop".parse().unwrap(), dead).await.unwrap();
    let front = front(&shop, config()).await;
    for _ in 0..12 {
        let mut client = Wire::connect(front.address).await;
        client.send("POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nwhole").await;
        assert_eq!(client.answer().await.json()["body"], "whole");
    }

    let alone = Shop::open(0).await;
    let dead = Instance::new("127.0.0.1", port);
    let _listed = alone.registry.register(&"shop".parse().unwrap(), dead).await.unwrap();
    let front = self::front(&alone, config()).await;
    let answer = get(front.address, "/page").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("cannot be reached"), "{answer:?}");
}

#[tokio::test]
async fn answers_without_a_body_tell_no_length_but_that_of_the_body_that_get_brings() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    for (request, status, length) in [
        ("HEAD /head", "200", None),
        ("HEAD /length", "200", Some("9")),
        ("GET /unchanged", "304", Some("9")),
        ("GET /nothing", "204", None),
    ] {
        client.send(&format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let head = client.until("\r\n\r\n").await.to_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(told, length, "{request}: {head}");
    }
    assert_eq!(client.get("/page").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_body_may_take_longer_than_a_back_end_may_be_silent() {
    let shop = Shop::open(1).await;
    let mut config = config();
    config.silence = Duration::from_millis(600);
    let front = front(&shop, config).await;
    let mut client = Wire::connect(front.address).await;
    let began = Instant::now();
    client.send("POST /page HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    while began.elapsed() < Duration::from_millis(1_500) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send("1\r\nx\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client.send("POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx").await;
    assert_eq!(client.answer().await.status, 400, "a client that falls silent in its body is not the back end's fault");
}

#[tokio::test]
async fn a_back_end_that_breaks_every_connection_is_left_out() {
    let shop = Shop::open(2).await;
    let breaking = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let broken = Instance::new("127.0.0.1", breaking.local_addr().unwrap().port()).with_id("broken");
    let _listed = shop.registry.register(&"shop".parse().unwrap(), broken).await.unwrap();
    let accepted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = accepted.clone();
    let breaks = tokio::spawn(async move {
        while breaking.accept().await.is_ok() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let front = front(&shop, config()).await;
    let mut client = Wire::connect(front.address).await;
    for _ in 0..60 {
        assert_eq!(client.get("/page").await.status, 200);
    }
    let accepted = accepted.load(std::sync::atomic::Ordering::Relaxed);
    assert!((5..10).contains(&accepted), "of 60 requests {accepted} met it: it is ejected after 5");
    breaks.abort();
}

/// What arrives at the back end of some bytes, and what comes back, until the connection ends.
async fn smuggled(front: &Front, text: &str) -> String {
    let mut client = Wire::connect(front.address).await;
    client.send(text).await;
    client.rest().await
}

#[tokio::test]
async fn a_request_of_two_lengths_is_one_request_and_the_last() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    // By the length there is one request with a body; by the chunks there are two. The server goes by the chunks, passes on nothing of the
    // length, and closes: what follows is read as no request (RFC 9112, section 6.1).
    let answers = smuggled(
        &front,
        "POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 51\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\nX-Rest: 1234567\r\n\r\n",
    )
    .await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert!(answers.contains("POST /first") && !answers.contains("/second"), "{answers}");
    assert!(!answers.contains("[\"content-length\", \"51\"]"), "{answers}");
    for head in [
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length : 5",
        " Content-Length: 5",
    ] {
        let answers = smuggled(
            &front,
            &format!("POST /first HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n12345GET /second HTTP/1.1\r\nHost: h\r\n\r\n"),
        )
        .await;
        assert!(answers.starts_with("HTTP/1.1 400"), "{head}: {answers}");
        assert!(!answers.contains("/first") && !answers.contains("/second"), "{head}: {answers}");
    }
    let old = smuggled(&front, "POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 400") || old.starts_with("HTTP/1.1 400"), "{old}");
}

#[tokio::test]
async fn busy_answers_are_passed_on() {
    let shop = Shop::open(1).await;
    let front = front(&shop, config()).await;
    let answer = get(front.address, "/busy").await;
    assert_eq!((answer.status, &answer.body[..]), (503, &b"busy"[..]));
}
