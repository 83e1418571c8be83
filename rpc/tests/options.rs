//! Options of calls: where they are set, how they merge, and what a call records besides its result.
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod raw;
mod shop;

use std::{error::Error, sync::Arc, time::Duration};

use ms_register::{Instance, Memory, MsRegister, ServiceName};
use ms_rpc::{
    CallError, CallInfo, CallOptions, Client, ClientProxy, Code, Local, Outcome, RateLimit, Server, Status, Stub,
    TypedClient,
};
use raw::{NOT_EXECUTED, PATIENCE, RawServer, Response, SERVICE_ERROR};
use serde_json::json;
use shop::{Item, ShopClient, ShopError, ShopServer, TestShop, registered, server, server_with};

fn metadata(key: &str, value: &str) -> CallOptions {
    CallOptions::new().metadata(key, value)
}

fn seconds(seconds: u64) -> CallOptions {
    CallOptions::new().deadline(Duration::from_secs(seconds))
}

async fn sees(shop: &ShopClient, key: &str) -> Option<String> {
    shop.metadata(key.to_owned()).await.unwrap()
}

/// Seconds that a call of this client has, rounded up.
async fn time_of(shop: &ShopClient) -> u64 {
    shop.remaining_ms().await.unwrap().div_ceil(1000)
}

/// A client made of a channel with `token` set, which calls with all of the options set one after another.
async fn merges(shop: ShopClient) {
    assert_eq!(sees(&shop, "token").await.as_deref(), Some("secret"), "options of the channel hold");
    let shop = shop.with(seconds(30)).with(metadata("tenant", "blue"));
    assert_eq!((sees(&shop, "token").await.as_deref(), time_of(&shop).await), (Some("secret"), 30));
    assert_eq!(sees(&shop, "tenant").await.as_deref(), Some("blue"));
    let other = shop.with(metadata("token", "newer").deadline(Duration::from_secs(20)));
    assert_eq!((sees(&other, "token").await.as_deref(), time_of(&other).await), (Some("newer"), 20));
    assert_eq!(sees(&other, "tenant").await.as_deref(), Some("blue"));
    assert_eq!(sees(&shop, "token").await.as_deref(), Some("secret"), "the original is as it was");
}

#[tokio::test]
async fn options_of_a_proxy_or_client_hold_for_all_calls_made_of_it() {
    let registry = Arc::new(Memory::new());
    let (running, _) = registered(&registry, "a").await;
    let proxy = ClientProxy::new(registry).with(metadata("token", "secret"));
    merges(ShopClient::new(&proxy)).await;
    let client = shop::client(&running).await.with(metadata("token", "secret"));
    merges(ShopClient::new(client.clone())).await;
    let local = Local::new(ShopServer::new(TestShop::default()));
    merges(ShopClient::new(local.with(metadata("token", "secret")))).await;

    let later = metadata("tenant", "blue");
    let named = proxy.with(later.clone());
    for key in ["token", "tenant"] {
        assert!(named.call("shop", "metadata", &json!([key])).await.unwrap().is_string());
        assert!(client.with(later.clone()).call("shop", "metadata", &json!([key])).await.unwrap().is_string());
        let seen: Option<String> = named.call_as("shop", "metadata", &(key.to_owned(),)).await.unwrap();
        assert!(seen.is_some());
        let all = named.broadcast("shop", "metadata", &json!([key])).await.unwrap();
        assert!(all[0].1.as_ref().unwrap().is_string());
        let call = |shop: ShopClient| async move { sees(&shop, key).await };
        let all = ShopClient::new(&named).broadcast(call).await.unwrap();
        assert!(all[0].1.is_some());
    }
    let channel = ms_rpc::AnyChannel::from(&proxy);
    assert_eq!(channel.with(later).call("shop", "metadata", &json!(["token"])).await.unwrap(), json!("secret"));
}

#[tokio::test]
async fn defaults_of_a_method_stand_between_the_builder_and_its_options() {
    let registry = Arc::new(Memory::new());
    let (running, _) = registered(&registry, "a").await;
    let proxy = ClientProxy::builder(registry)
        .deadline(Duration::from_secs(10))
        .method_defaults("shop", "remaining_ms", seconds(25))
        .method_defaults("shop", "remaining_ms", seconds(20).metadata("of", "the method"))
        .method_defaults("shop", "metadata", metadata("of", "the method"))
        .method_defaults("shop", "wait_idempotnt", seconds(1))
        .method_defaults("other", "remaining_ms", seconds(1))
        .build()
        .unwrap();
    let shop = ShopClient::new(&proxy);
    assert_eq!((time_of(&shop).await, sees(&shop, "of").await.as_deref()), (20, Some("the method")));
    assert_eq!(time_of(&shop.with(seconds(30))).await, 30);
    assert_eq!(time_of(&ShopClient::new(proxy.with(seconds(40)))).await, 40);
    assert_eq!(time_of(&ShopClient::new(proxy.with(seconds(40))).with(seconds(50))).await, 50);
    let tenant = shop.with(metadata("tenant", "blue"));
    assert_eq!((time_of(&tenant).await, sees(&tenant, "tenant").await.as_deref()), (20, Some("blue")));
    assert_eq!(time_of(&ShopClient::named("shop", &proxy)).await, 20);

    let ms = |answer: serde_json::Value| answer.as_u64().unwrap().div_ceil(1000);
    assert_eq!(ms(proxy.call("shop", "remaining_ms", &json!([])).await.unwrap()), 20);
    assert_eq!(ms(proxy.with(seconds(40)).call("shop", "remaining_ms", &json!([])).await.unwrap()), 40);
    let all = proxy.broadcast("shop", "remaining_ms", &json!([])).await.unwrap();
    assert_eq!(all.into_iter().map(|(_, answer)| ms(answer.unwrap())).collect::<Vec<_>>(), [20]);
    let all = shop.broadcast(|shop| async move { time_of(&shop).await }).await.unwrap();
    assert_eq!(all.into_iter().map(|(_, seconds)| seconds).collect::<Vec<_>>(), [20]);

    let builder = Client::builder().method_defaults("shop", "remaining_ms", seconds(20));
    let client = builder.connect(&running.address().to_string()).await.unwrap();
    assert_eq!(time_of(&ShopClient::new(client.clone())).await, 20);
    assert_eq!(ms(client.call("shop", "remaining_ms", &json!([])).await.unwrap()), 20);
}

#[tokio::test]
async fn a_default_can_declare_a_method_idempotent() {
    let registry = Arc::new(Memory::new());
    let _running = registered(&registry, "a").await;
    let builder = ClientProxy::builder(registry).method_defaults("shop", "who", CallOptions::new().idempotent());
    let proxy = builder.build().unwrap().with(CallOptions::new().fork());
    assert_eq!(proxy.call("shop", "who", &json!([])).await.unwrap(), json!("a"));
    assert_eq!(ShopClient::new(&proxy).who().await.unwrap(), "a");
    let refused = proxy.call("shop", "add", &json!([1, 2])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn a_call_records_its_instance_attempts_and_metadata() {
    let servers = [RawServer::bind().await, RawServer::bind().await];
    let registry = Arc::new(Memory::new());
    let service: ServiceName = "shop".parse().unwrap();
    for (server, id) in servers.iter().zip(["first", "second"]) {
        let instance = Instance::new("127.0.0.1", server.address().port()).with_id(id);
        registry.insert(&service, instance);
    }
    let info = CallInfo::default();
    let proxy = ClientProxy::builder(registry).deadline(PATIENCE).build().unwrap().with(CallOptions::new().info(&info));
    let shop = ShopClient::new(&proxy);

    let call = tokio::spawn(async move { shop.add(1, 2).await });
    // One instance sheds the call, the other answers it.
    let refusal = |id| Response {
        code: Code::Unavailable as u8,
        flags: NOT_EXECUTED,
        pairs: vec![("from", b"a refusal")],
        ..Response::ok(id, &[])
    };
    let answer = |id| Response { pairs: vec![("cache", b"hit"), ("trace-bin", &[0xff])], ..Response::ok(id, &[6]) };
    let (mut one, mut other) = tokio::join!(servers[0].serve(), servers[1].serve());
    let (name, id) = tokio::select! {
        request = one.frame() => {
            one.send(&refusal(request.id).bytes()).await;
            ("second", other.frame().await.id)
        }
        request = other.frame() => {
            other.send(&refusal(request.id).bytes()).await;
            ("first", one.frame().await.id)
        }
    };
    let answering = if name == "first" { &mut one } else { &mut other };
    answering.send(&answer(id).bytes()).await;
    assert_eq!(call.await.unwrap().unwrap(), 3);
    assert_eq!((info.instance().as_deref(), info.attempts()), (Some(name), 2));
    assert_eq!((info.metadata("cache").as_deref(), info.metadata("from")), (Some("hit"), None));
    assert_eq!(info.all_metadata().get_bytes("trace-bin"), Some(&[0xff][..]));

    let nowhere = proxy.with(CallOptions::new().instance("third")).call("shop", "who", &json!([])).await.unwrap_err();
    assert_eq!(nowhere.outcome(), Outcome::NotSent);
    assert_eq!((info.instance(), info.attempts(), info.all_metadata().is_empty()), (None, 0, true));
}

#[tokio::test]
async fn an_error_brings_its_metadata() {
    let server = RawServer::bind().await;
    let address = server.address().to_string();
    let (client, mut raw) = tokio::join!(Client::connect(&address), server.serve());
    let info = CallInfo::default();
    let client = client.unwrap().with(CallOptions::new().info(&info));
    let failing = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { client.call("shop", "find", &json!([5])).await.unwrap_err() })
    };
    let error = |id, flags| Response {
        code: Code::NotFound as u8,
        flags,
        codec: raw::JSON,
        message: "not here".to_owned(),
        pairs: vec![("shelf", b"5")],
        ..Response::ok(id, br#"{"Missing":5}"#)
    };
    for flags in [0, SERVICE_ERROR] {
        let call = failing(&client);
        let id = raw.frame().await.id;
        raw.send(&error(id, flags).bytes()).await;
        let status: Status = call.await.unwrap();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "not here"));
        assert_eq!((status.metadata().get("shelf"), status.metadata().iter().count()), (Some("5"), 1));
        assert_eq!((info.instance(), info.attempts()), (Some(address.clone()), 1));
        assert_eq!(info.metadata("shelf").as_deref(), Some("5"));
    }
    let typed = ShopClient::new(client.clone());
    let call = tokio::spawn(async move { typed.find(5).await.unwrap_err() });
    let id = raw.frame().await.id;
    raw.send(&error(id, SERVICE_ERROR).bytes()).await;
    assert_eq!(call.await.unwrap().service(), Some(&ShopError::Missing(5)));
    assert_eq!(info.metadata("shelf").as_deref(), Some("5"));
}

#[tokio::test]
async fn a_record_names_the_winner_of_a_fork_and_nothing_in_this_process() {
    #[ms_rpc::service(name = "shop")]
    trait Broken {
        #[idempotent]
        async fn find(&self, id: i64) -> Item;
    }
    struct Always;
    impl Broken for Always {
        async fn find(&self, _: i64) -> Item {
            panic!("as asked");
        }
    }
    let registry = Arc::new(Memory::new());
    let (winner, _) = registered(&registry, "a").await;
    let memory: Arc<dyn MsRegister> = registry.clone();
    let broken = Server::bind("127.0.0.1:0").await.unwrap().register_with(memory).serve(BrokenServer::new(Always));
    let _broken = broken.start().await.unwrap();
    let info = CallInfo::default();
    let shop = ShopClient::new(ClientProxy::new(registry)).with(CallOptions::new().info(&info).fork());
    for _ in 0..20 {
        assert_eq!(shop.find(5).await.unwrap(), Item::of(5));
        assert_eq!(info.instance(), Some(winner.address().to_string()));
    }

    let local = ShopClient::new(Local::new(ShopServer::new(TestShop::default()))).with(CallOptions::new().info(&info));
    assert_eq!(local.find(5).await.unwrap(), Item::of(5));
    assert_eq!((info.instance(), info.attempts()), (None, 1));
}

#[tokio::test]
async fn an_error_of_a_call_says_when_to_come_back() {
    let running = server_with(&Arc::new(Memory::new()), "a", |server| {
        server.limit_method("shop", "find", RateLimit::per_second(1).burst(1))
    })
    .await
    .0;
    let shop = ShopClient::new(shop::client(&running).await);
    let error = loop {
        if let Err(error) = shop.find(5).await {
            break error;
        }
    };
    assert_eq!((error.code(), error.service()), (Code::ResourceExhausted, None));
    assert!(error.retry_after().is_some_and(|after| after <= Duration::from_secs(1)), "{error:?}");
    assert_eq!(error.status().map(Status::outcome), Some(Outcome::Refused));
    assert!(error.source().is_some_and(|source| source.is::<Status>()) && matches!(error, CallError::Status(_)));
    assert!(error.to_string().starts_with("resource_exhausted: "), "{error}");
}

#[tokio::test]
async fn a_stub_takes_the_options_of_its_channel() {
    let running = server(TestShop::default()).await;
    let client = shop::client(&running).await.with(metadata("token", "secret"));
    let shop = ShopClient::from_stub(Stub::new(client, "shop"));
    assert_eq!(sees(&shop, "token").await.as_deref(), Some("secret"));
}

#[tokio::test]
async fn a_call_without_an_answer_records_the_instance_that_was_asked() {
    let registry = Arc::new(Memory::new());
    let (running, _) = registered(&registry, "a").await;
    let shop = ShopClient::new(ClientProxy::new(registry));
    shop.who().await.unwrap();
    let info = CallInfo::default();
    let hurried = shop.with(CallOptions::new().deadline(Duration::from_millis(30)).info(&info));
    assert_eq!(hurried.wait().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((info.instance(), info.attempts()), (Some(running.address().to_string()), 1));
}
