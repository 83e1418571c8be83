//! One call to several instances: to all, to all until one succeeds, and to one alone.

#![allow(clippy::unwrap_used)]

mod shop;

use std::sync::{Arc, atomic::Ordering};

use ms_register::{Instance, Memory, ServiceName};
use ms_rpc::{CallError, CallOptions, ClientProxy, Code, Context, Local, NoInstance, Outcome, Server, TypedClient};
use serde_json::{Value, json};
use shop::{Item, ShopClient, ShopError, ShopServer, TestShop, registered, server_with};

fn service() -> ServiceName {
    "shop".parse().unwrap()
}

/// Nobody listens there.
fn dead() -> Instance {
    Instance::new("127.0.0.1", 1)
}

#[tokio::test]
async fn a_broadcast_asks_all_and_says_who_answered_what() {
    let registry = Arc::new(Memory::new());
    let (a, _) = registered(&registry, "a").await;
    let (b, _) = registered(&registry, "b").await;
    let (c, _) = server_with(&registry, "c", |server| server.metadata("zone", "far")).await;
    registry.insert(&service(), c.registrations()[0].instance().with_weight(0.0));
    registry.insert(&service(), dead());
    let mut expected: Vec<_> = [(&a, "a"), (&b, "b"), (&c, "c")]
        .map(|(server, name)| (server.address().to_string(), Some(name.to_owned())))
        .into();
    expected.push((dead().id().to_owned(), None));
    expected.sort();

    let proxy = ClientProxy::new(registry.clone());
    let shop = ShopClient::new(&proxy);
    let typed = shop.broadcast(|shop| async move { shop.who().await }).await.unwrap();
    let typed: Vec<_> = typed.into_iter().map(|(instance, who)| (instance.id().to_owned(), who.ok())).collect();
    assert_eq!(typed, expected);

    let dynamic = proxy.broadcast("shop", "who", &json!([])).await.unwrap();
    let (_, nobody) = dynamic.iter().find(|(instance, _)| *instance == dead()).unwrap();
    let nobody = nobody.as_ref().unwrap_err();
    assert_eq!((nobody.code(), nobody.outcome()), (Code::Unavailable, Outcome::NotSent));
    let text = |who: Value| who.as_str().unwrap().to_owned();
    let dynamic: Vec<_> =
        dynamic.into_iter().map(|(instance, who)| (instance.id().to_owned(), who.ok().map(text))).collect();
    assert_eq!(dynamic, expected);

    let in_codec = proxy.broadcast_as::<_, String>("shop", "who", &()).await.unwrap();
    let in_codec: Vec<_> = in_codec.into_iter().map(|(instance, who)| (instance.id().to_owned(), who.ok())).collect();
    assert_eq!(in_codec, expected);
}

#[tokio::test]
async fn a_broadcast_carries_options_arguments_and_the_methods_own_errors() {
    let registry = Arc::new(Memory::new());
    let _a = registered(&registry, "a").await;
    let _b = registered(&registry, "b").await;
    let shop = ShopClient::new(ClientProxy::new(registry.clone()));
    let tenant = shop.with(CallOptions::new().metadata("tenant", "blue"));
    let seen = tenant.broadcast(|shop| async move { shop.metadata("tenant".to_owned()).await }).await.unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|(_, tenant)| matches!(tenant, Ok(Some(name)) if name == "blue")));
    for id in [5, 5000] {
        let found = shop.broadcast(|shop| async move { shop.find(id).await }).await.unwrap();
        assert_eq!(found.len(), 2);
        for (_, found) in found {
            match found {
                Ok(item) => assert_eq!((item, id), (Item::of(5), 5)),
                Err(CallError::Service(ShopError::Missing(missing))) => assert_eq!((missing, id), (5000, 5000)),
                Err(CallError::Status(status)) => panic!("{status}"),
            }
        }
    }
}

/// All of them together have the time of one call.
#[tokio::test]
async fn a_broadcast_ends_with_its_deadline() {
    let registry = Arc::new(Memory::new());
    let (_a, probe) = registered(&registry, "a").await;
    let (_b, other) = registered(&registry, "b").await;
    let shop = ShopClient::new(ClientProxy::new(registry.clone()));
    let hurried = shop.with(CallOptions::new().deadline(std::time::Duration::from_millis(300)));
    let results = hurried.broadcast(|shop| async move { shop.wait().await }).await.unwrap();
    let codes: Vec<_> = results.iter().map(|(_, result)| result.as_ref().unwrap_err().code()).collect();
    assert_eq!(codes, [Code::DeadlineExceeded; 2]);
    probe.until(|probe| probe.dropped.load(Ordering::SeqCst) == 1).await;
    other.until(|probe| probe.dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn the_first_success_of_a_fork_wins_and_the_rest_is_cancelled() {
    let registry = Arc::new(Memory::new());
    let (_a, a) = registered(&registry, "a").await;
    let (_b, b) = registered(&registry, "b").await;
    let (_c, c) = registered(&registry, "c").await;
    registry.insert(&service(), dead());
    let proxy = ClientProxy::builder(registry.clone()).deadline(std::time::Duration::from_secs(10)).build().unwrap();
    let shop = ShopClient::new(&proxy);
    let started = |calls: usize| {
        let probes = [&a, &b, &c];
        async move {
            for probe in probes {
                probe.until(|probe| probe.started.load(Ordering::SeqCst) == calls).await;
            }
        }
    };
    let typed = tokio::spawn({
        let shop = shop.fork();
        async move { shop.wait_idempotent().await }
    });
    started(1).await;
    b.go.notify_waiters();
    assert_eq!(typed.await.unwrap().unwrap(), 7);
    for probe in [&a, &c] {
        probe.until(|probe| probe.dropped.load(Ordering::SeqCst) == 1).await;
    }

    let dynamic = tokio::spawn({
        let proxy = proxy.with(CallOptions::new().fork().idempotent());
        async move { proxy.call("shop", "wait_idempotent", &json!([])).await }
    });
    started(2).await;
    c.go.notify_waiters();
    assert_eq!(dynamic.await.unwrap().unwrap(), json!(7));
    for probe in [&a, &b] {
        probe.until(|probe| probe.dropped.load(Ordering::SeqCst) == 2).await;
    }

    let in_codec = proxy.with(CallOptions::new().fork().idempotent());
    assert_eq!(in_codec.call_as::<_, Item>("shop", "find", &(5i64,)).await.unwrap(), Item::of(5));
}

#[tokio::test]
async fn a_fork_is_refused_where_it_could_do_harm() {
    let registry = Arc::new(Memory::new());
    let (_a, probe) = registered(&registry, "a").await;
    let proxy = ClientProxy::new(registry.clone());
    let typed = ShopClient::new(&proxy).fork().wait().await.unwrap_err();
    let dynamic = proxy.with(CallOptions::new().fork()).call("shop", "wait_idempotent", &json!([])).await.unwrap_err();
    for (refused, method) in [(typed, "shop.wait"), (dynamic, "shop.wait_idempotent")] {
        assert_eq!((refused.code(), refused.outcome()), (Code::FailedPrecondition, Outcome::NotSent));
        let message = format!("{method} is not idempotent, and a fork executes it on every instance");
        assert!(refused.message().starts_with(&message), "{refused}");
    }
    assert_eq!(probe.started.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn failures_do_not_win_a_fork_unless_there_is_nothing_else() {
    #[ms_rpc::service(name = "shop")]
    trait Broken {
        #[idempotent]
        async fn find(&self, ctx: Context, id: i64) -> Item;
    }
    struct Always;
    impl Broken for Always {
        async fn find(&self, _: Context, _: i64) -> Item {
            panic!("as asked");
        }
    }
    let registry = Arc::new(Memory::new());
    let _a = registered(&registry, "a").await;
    let memory: Arc<dyn ms_register::MsRegister> = registry.clone();
    let broken = Server::bind("127.0.0.1:0").await.unwrap().register_with(memory).serve(BrokenServer::new(Always));
    let _broken = broken.start().await.unwrap();
    registry.insert(&service(), dead());
    let shop = ShopClient::new(ClientProxy::new(registry.clone())).fork();
    for _ in 0..20 {
        assert_eq!(shop.find(5).await.unwrap(), Item::of(5));
    }
    assert!(matches!(shop.find(5000).await, Err(CallError::Service(ShopError::Missing(5000)))));

    let alone = Arc::new(Memory::new());
    alone.insert(&service(), dead());
    alone.insert(&service(), dead().with_id("other"));
    let error = ShopClient::new(ClientProxy::new(alone)).fork().find(5).await.unwrap_err();
    assert!(matches!(&error, CallError::Status(status) if status.code() == Code::Unavailable), "{error}");
}

#[tokio::test]
async fn who_is_not_there_cannot_be_called() {
    let registry = Arc::new(Memory::new());
    let proxy = ClientProxy::new(registry.clone());
    let shop = ShopClient::new(&proxy);
    let nobody = shop.broadcast(|shop| async move { shop.who().await }).await.unwrap_err();
    assert_eq!(nobody.no_instance(), Some(NoInstance::NoneListed), "{nobody}");
    let CallError::Status(nobody) = shop.fork().find(5).await.unwrap_err() else { panic!("nobody answered") };
    assert_eq!(nobody.no_instance(), Some(NoInstance::NoneListed), "{nobody}");

    // Whoever has weight 0 is told, but not asked.
    let (a, _) = registered(&registry, "a").await;
    registry.insert(&service(), a.registrations()[0].instance().with_weight(0.0));
    let proxy = ClientProxy::new(registry.clone());
    let told = proxy.broadcast("shop", "who", &json!([])).await.unwrap();
    assert!(matches!(&told[..], [(_, Ok(name))] if name == "a"), "{told:?}");
    let CallError::Status(error) = ShopClient::new(&proxy).fork().find(5).await.unwrap_err() else {
        panic!("weight 0")
    };
    assert_eq!(error.no_instance(), Some(NoInstance::AllWeightZero), "{error}");

    let connection = ShopClient::new(shop::client(&a).await);
    let local = ShopClient::new(Local::new(ShopServer::new(TestShop::default())));
    for client in [connection, local] {
        let error = client.broadcast(|shop| async move { shop.who().await }).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert_eq!(client.fork().find(5).await.unwrap(), Item::of(5), "there is one instance, and it is called");
    }
}
