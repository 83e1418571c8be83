//! Services called from within their process, under the same rules as over a connection.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod shop;

use std::{
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use ms_rpc::{Blob, CallOptions, Code, Local, Outcome, Peer, RateLimit, Server, Status};
use shop::{ShopClient, ShopServer, TestShop};

#[tokio::test]
async fn interceptors_limits_and_the_peer_hold() {
    let server = Server::without_listener(([127, 0, 0, 1], 9).into())
        .serve(ShopServer::new(TestShop::default()))
        .limit(RateLimit::per_second(1).burst(2))
        .intercept(|incoming| match incoming.context.peer().name() {
            "friend" => Ok(()),
            name => Err(Status::new(Code::PermissionDenied, format!("{name:?} may not"))
                .with_retry_after(Duration::from_millis(1500))),
        });
    let local = server.into_local().unwrap();
    let stranger = ShopClient::new(local.clone()).add(1, 2).await.unwrap_err();
    assert_eq!((stranger.code(), stranger.outcome()), (Code::PermissionDenied, Outcome::Refused));
    assert_eq!(stranger.retry_after(), Some(Duration::from_millis(1500)));
    let friend =
        ShopClient::new(local.with_peer(Peer::new().with_name("friend").with_address(([10, 0, 0, 7], 80).into())));
    assert_eq!(friend.peer().await.unwrap(), "10.0.0.7:80");
    assert_eq!(friend.add(1, 2).await.unwrap(), 3);
    let limited = friend.add(1, 2).await.unwrap_err();
    assert_eq!((limited.code(), limited.outcome()), (Code::ResourceExhausted, Outcome::Refused));
}

#[tokio::test]
async fn deadlines_panics_and_large_bodies_are_as_over_a_connection() {
    let shop = ShopClient::new(Local::new(ShopServer::new(TestShop::default())));
    let late = shop.with(CallOptions::new().deadline(Duration::from_millis(20))).wait().await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(shop.panic().await.unwrap_err().code(), Code::Internal);
    let blob = Blob::from(vec![7; 1 << 20]);
    assert_eq!(shop.echo(blob.clone()).await.unwrap(), blob);
}

#[tokio::test]
async fn a_running_server_shares_its_limits_with_local_callers() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().limit(RateLimit::per_second(1).burst(1));
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let local = ShopClient::new(server.local());
    assert_eq!(local.add(1, 2).await.unwrap(), 3);
    let remote = ShopClient::new(shop::client(&server).await);
    assert_eq!(remote.add(1, 2).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn health_draws_no_tokens() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().limit(RateLimit::per_second(1));
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let health = ms_rpc::HealthClient::new(shop::client(&server).await);
    for _ in 0..20 {
        assert_eq!(health.service("shop".to_owned()).await.unwrap(), Some(ms_rpc::HealthState::Serving));
    }
}

#[ms_rpc::service(name = "slow")]
trait Slow {
    /// Sleeps with its thread, which it tells.
    #[blocking]
    async fn nap(&self, millis: u64) -> String;
}

struct Sleeper;

fn said(thread: ThreadId) -> String {
    format!("{thread:?}")
}

impl Slow for Sleeper {
    async fn nap(&self, millis: u64) -> String {
        thread::sleep(Duration::from_millis(millis));
        said(thread::current().id())
    }
}

#[tokio::test]
async fn what_blocks_has_a_thread_of_its_own_and_no_more_time_than_its_deadline() {
    let slow = SlowClient::new(Local::new(SlowServer::new(Sleeper)));
    assert_ne!(slow.nap(1).await.unwrap(), said(thread::current().id()));
    let began = Instant::now();
    let late = slow.with(CallOptions::new().deadline(Duration::from_millis(20))).nap(2_000).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(2), "the deadline, and not the method, ended the wait");
}
