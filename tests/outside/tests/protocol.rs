//! A protocol of the user's own on the port of a server: a line names an item, a line describes it. The protocol itself takes 30
//! lines.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{io, time::Duration};

use ms_rpc::{AnyChannel, Client, Code, Guest, Principal, Protocol, Server, ServerError};
use serde_json::json;
use shop::{ShopClient, ShopServer, TestShop};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

/// `ID <number>\n`, any number of times.
#[derive(Debug)]
struct Lines;

#[async_trait::async_trait]
impl Protocol for Lines {
    fn first_bytes(&self) -> [u8; 2] {
        *b"ID"
    }

    async fn serve(&self, guest: Guest) -> io::Result<()> {
        let (shop, ending) = (AnyChannel::from(guest.services()), guest.ending());
        let mut stream = BufStream::new(guest.into_stream());
        let mut line = String::new();
        loop {
            line.clear();
            let read = tokio::select! {
                read = stream.read_line(&mut line) => read?,
                () = ending.draining() => return Ok(()),
            };
            if read == 0 {
                return Ok(());
            }
            let id: i64 = line.trim_start_matches("ID").trim().parse().map_err(io::Error::other)?;
            let said = match shop.call("shop", "find", &json!([id])).await {
                Ok(item) => item.to_string(),
                Err(status) => status.message().to_owned(),
            };
            stream.write_all(format!("{said}\n").as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

async fn ask(stream: &mut BufStream<TcpStream>, line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    answer.trim().to_owned()
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let (server, _) = shop::server().await;
    let server = server.protocol(Lines).start().await.unwrap();
    let mut lines = BufStream::new(TcpStream::connect(server.address()).await.unwrap());
    // The first bytes may come one by one.
    lines.write_all(b"I").await.unwrap();
    lines.flush().await.unwrap();
    let own = ShopClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    assert_eq!(own.find(5).await.unwrap().id, 5);
    assert_eq!(ask(&mut lines, "D 7\n").await, r#"{"id":7,"tags":["a","a","a"]}"#);
    assert_eq!(ask(&mut lines, "ID -1\n").await, "no item -1");
    timeout(Duration::from_secs(10), server.shutdown()).await.expect("guests hear of the end");
    assert_eq!(lines.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn guests_are_callers_without_a_name_under_rules_and_limits() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(TestShop)).protocol(Lines);
    let server = server.allow("alice", "shop.*").limits(|limits| limits.max_connections = 1).start().await.unwrap();
    let mut lines = BufStream::new(TcpStream::connect(server.address()).await.unwrap());
    let refused = ask(&mut lines, "ID 7\n").await;
    assert!(refused.contains("may not call shop.find"), "{refused}");
    let error = Client::connect(&server.address().to_string()).await.unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn who_says_nothing_is_dropped_in_time() {
    let (server, _) = shop::server().await;
    let server = server.protocol(Lines).limits(|limits| limits.hello_timeout = Duration::from_millis(200));
    let server = server.start().await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"I").await.unwrap();
    // Its byte was not read, so the system says that as a reset.
    let end = timeout(Duration::from_secs(10), stream.read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    server.shutdown().await;
}

/// One worker thread: a task that does not rest holds up all others.
#[tokio::test]
async fn who_goes_after_one_byte_holds_nobody_up() {
    let (server, _) = shop::server().await;
    let server = server.protocol(Lines).start().await.unwrap();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"I").await.unwrap();
        stream.shutdown().await.unwrap();
        let end = timeout(Duration::from_secs(10), stream.read(&mut [0; 256])).await.unwrap();
        drop(end);
    }
    let own = ShopClient::new(Client::connect(&server.address().to_string()).await.unwrap());
    assert_eq!(own.find(5).await.unwrap().id, 5);
    server.shutdown().await;
}

#[tokio::test]
async fn what_would_pass_by_a_guard_does_not_start() {
    let server = || async { Server::bind("127.0.0.1:0").await.unwrap().protocol(Lines) };
    let guarded = server().await.authenticate(|_| async { Ok(Principal::new("anybody")) });
    let reason = guarded.start().await.unwrap_err();
    assert!(matches!(&reason, ServerError::Protocol { .. }));
    assert!(reason.to_string().contains("would pass by authentication"), "{reason}");
    let twice = server().await.protocol(Lines).start().await.unwrap_err();
    assert!(twice.to_string().contains("another protocol begins with [49, 44] too"), "{twice}");
}

#[tokio::test]
async fn names_of_methods_are_known_within_the_process() {
    let local = Server::bind("127.0.0.1:0").await.unwrap().serve(ShopServer::new(TestShop)).into_local().unwrap();
    assert_eq!(local.methods("shop"), Some(vec!["find", "echo"]));
    assert_eq!(local.methods("lost"), None);
    let missing = AnyChannel::from(local).call("shop", "lose", &json!([])).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unimplemented);
}
