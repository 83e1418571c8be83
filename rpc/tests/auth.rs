//! Authentication once a connection, and rules for callers.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use ms_register::Memory;
use ms_rpc::{
    CallOptions, Client, ClientProxy, Code, Context, DescribeClient, HealthClient, Local, Outcome, Peer, Principal,
    RunningServer, Server, Status,
};
use shop::{ShopClient, ShopServer, TestShop};
use tokio::sync::Notify;

#[ms_rpc::service(name = "who")]
trait Who {
    #[idempotent]
    async fn am_i(&self, ctx: Context) -> String;
    async fn secret(&self) -> u32;
}

struct Service;

impl Who for Service {
    async fn am_i(&self, ctx: Context) -> String {
        ctx.peer().principal().to_owned()
    }

    async fn secret(&self) -> u32 {
        7
    }
}

async fn bound() -> Server {
    Server::bind("127.0.0.1:0").await.unwrap().serve(WhoServer::new(Service))
}

/// Tokens are names behind "token ".
async fn by_token(peer: Peer) -> Result<Principal, Status> {
    let token = String::from_utf8_lossy(peer.credentials()).into_owned();
    match token.strip_prefix("token ") {
        Some(name) => Ok(Principal::new(name)),
        None => Err(Status::new(Code::Unauthenticated, "the token is unknown")),
    }
}

async fn client(server: &RunningServer, token: &str) -> Client {
    let client = Client::builder().credentials(token).deadline(Duration::from_secs(10));
    client.connect(&server.address().to_string()).await.unwrap()
}

fn refused(status: &Status, code: Code, words: &str) {
    assert_eq!((status.code(), status.outcome()), (code, Outcome::Refused), "{status}");
    assert!(status.message().contains(words), "{status}");
}

#[tokio::test]
async fn a_connection_is_authenticated_once_and_its_calls_know_the_principal() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let server = bound().await.authenticate(move |peer| {
        count.fetch_add(1, Ordering::SeqCst);
        by_token(peer)
    });
    let server = server.start().await.unwrap();
    let who = WhoClient::new(client(&server, "token order").await);
    for _ in 0..3 {
        assert_eq!(who.am_i().await.unwrap(), "order");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let stranger = client(&server, "something else").await;
    let error = WhoClient::new(stranger.clone()).am_i().await.unwrap_err();
    refused(&error, Code::Unauthenticated, "the token is unknown");
    let closed = async {
        while stranger.is_open() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    assert_eq!(who.am_i().await.unwrap(), "order", "others go on");
}

#[tokio::test]
async fn requests_wait_for_the_authentication_and_no_longer_than_5_s() {
    let gate = Arc::new(Notify::new());
    let inside = gate.clone();
    let server = bound().await.authenticate(move |peer| {
        let inside = inside.clone();
        async move {
            if peer.name() == "slow" {
                inside.notified().await;
            }
            match peer.name() {
                "never" => std::future::pending().await,
                name => Ok(Principal::new(name)),
            }
        }
    });
    let server = server.start().await.unwrap();
    let named = async |name: &str| {
        let client = Client::builder().name(name).deadline(Duration::from_secs(20));
        WhoClient::new(client.connect(&server.address().to_string()).await.unwrap())
    };
    let slow = named("slow").await;
    let mut call = std::pin::pin!(slow.am_i());
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut call).await.is_err());
    gate.notify_one();
    assert_eq!(call.await.unwrap(), "slow");
    let error = named("never").await.am_i().await.unwrap_err();
    refused(&error, Code::Unavailable, "authentication took longer than 5 s");
}

#[tokio::test]
async fn an_expired_principal_comes_back_with_fresh_credentials() {
    let registry = Arc::new(Memory::new());
    let ends = Arc::new(Mutex::new(Some(SystemTime::now() + Duration::from_secs(1))));
    let server = bound().await.register_with(registry.clone()).authenticate(move |peer| {
        // The first token ends, all others hold.
        let ends = ends.lock().unwrap().take();
        async move {
            let principal = by_token(peer).await?;
            Ok(match ends {
                Some(time) => principal.expires_at(time),
                None => principal,
            })
        }
    });
    let server = server.start().await.unwrap();
    let dials = Arc::new(AtomicU32::new(0));
    let proxy = ClientProxy::builder(registry).credentials_with(move || {
        let number = dials.fetch_add(1, Ordering::SeqCst);
        async move { Ok(format!("token {number}").into_bytes()) }
    });
    let who = WhoClient::new(proxy.build().unwrap());
    assert_eq!(who.am_i().await.unwrap(), "0");
    // No call fails on the way.
    let renewed = async { while who.am_i().await.unwrap() == "0" {} };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn rules_decide_who_may_call_what() {
    let server = bound().await.serve(ShopServer::new(TestShop::default())).authenticate(by_token);
    let server = server.allow("order", "who/am_i").allow("admin-*", "*").deny("*-guest", "who/secret");
    let server = server.start().await.unwrap();
    let as_principal = async |name: &str| client(&server, &format!("token {name}")).await;
    let order = as_principal("order").await;
    let who = WhoClient::new(order.clone());
    for _ in 0..3 {
        assert_eq!(who.am_i().await.unwrap(), "order");
        refused(&who.secret().await.unwrap_err(), Code::PermissionDenied, "order may not call who.secret");
    }
    // By names, by a later call on the same connection, and for services that are not there: no name is told.
    let error = order.call("shop", "add", &serde_json::json!([1, 2])).await.unwrap_err();
    refused(&error, Code::PermissionDenied, "order may not call shop.add");
    let error = order.call("nothing", "x", &serde_json::json!([])).await.unwrap_err();
    refused(&error, Code::PermissionDenied, "order may not call nothing.x");
    refused(&DescribeClient::new(order.clone()).services().await.unwrap_err(), Code::PermissionDenied, "ms.describe");
    assert_eq!(HealthClient::new(order).services().await.unwrap().len(), 2);

    let admin = as_principal("admin-1").await;
    assert_eq!(WhoClient::new(admin.clone()).secret().await.unwrap(), 7);
    assert_eq!(ShopClient::new(admin.clone()).add(1, 2).await.unwrap(), 3);
    let error = admin.call("nothing", "x", &serde_json::json!([])).await.unwrap_err();
    refused(&error, Code::Unimplemented, "service `nothing` is not served here");
    assert!(!error.message().contains("shop"), "{error}");
    let guest = WhoClient::new(as_principal("admin-guest").await);
    refused(&guest.secret().await.unwrap_err(), Code::PermissionDenied, "admin-guest may not call who.secret");
    assert_eq!(guest.am_i().await.unwrap(), "admin-guest");
    refused(&WhoClient::new(as_principal("").await).am_i().await.unwrap_err(), Code::PermissionDenied, "anonymous");
}

#[tokio::test]
async fn a_denial_is_not_tried_elsewhere() {
    let (registry, asked) = (Arc::new(Memory::new()), Arc::new(AtomicU32::new(0)));
    let mut servers = Vec::new();
    for _ in 0..3 {
        let asked = asked.clone();
        let server = bound().await.register_with(registry.clone()).allow("nobody", "who").intercept(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        servers.push(server.start().await.unwrap());
    }
    let who = WhoClient::new(ClientProxy::new(registry)).with(CallOptions::new().idempotent());
    refused(&who.am_i().await.unwrap_err(), Code::PermissionDenied, "an anonymous caller may not call who.am_i");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn rules_hold_within_the_process_too() {
    let server = Server::without_listener("127.0.0.1:1".parse().unwrap()).serve(WhoServer::new(Service));
    let server = server.allow("order", "who").start().await.unwrap();
    refused(&WhoClient::new(server.local()).am_i().await.unwrap_err(), Code::PermissionDenied, "anonymous");
    let order = server.local().with_peer(Peer::new().with_principal("order"));
    assert_eq!(WhoClient::new(order).am_i().await.unwrap(), "order");
    assert_eq!(WhoClient::new(Local::new(WhoServer::new(Service))).secret().await.unwrap(), 7);
}

#[tokio::test]
async fn rules_that_cannot_be_kept_and_plaintext_beyond_loopback_stop_the_start() {
    let error = async |server: Server| server.start().await.unwrap_err().to_string();
    for (what, words) in [
        ("whom", "the rule `order whom` cannot be kept: `whom` is not served: correct the name"),
        ("who/am_I", "`who` has no method `am_I`: correct the name"),
        ("w*o", "`w*o` is no pattern: write a name, or `*` at its begin or its end"),
    ] {
        let refused = error(bound().await.allow("order", what)).await;
        assert!(refused.contains(words), "{refused}");
        assert!(error(bound().await.deny("order", what)).await.contains(words));
    }
    let open = async || Server::bind("0.0.0.0:0").await.unwrap().serve(WhoServer::new(Service));
    for server in [open().await.authenticate(by_token), open().await.allow("*", "*")] {
        let refused = error(server).await;
        assert!(refused.contains("is not loopback, and the server judges callers without TLS"), "{refused}");
    }
    drop(open().await.authenticate(by_token).insecure().start().await.unwrap());
    drop(open().await.start().await.unwrap());
}
