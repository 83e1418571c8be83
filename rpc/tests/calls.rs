//! Calls over one connection: what comes back, whatever happens.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ms_rpc::{Blob, CallError, CallOptions, Client, Code, Codec, Compression, Local, Outcome, Server};
use serde_json::{Value, json};
use shop::{Item, Nested, ShopClient, ShopError, ShopServer, TestShop, client, server};

#[tokio::test]
async fn every_codec_and_compression_brings_the_same_values() {
    let server = server(TestShop::default()).await;
    let long = "long text ".repeat(1000);
    for codec in Codec::ALL {
        for compression in Compression::ALL {
            let builder = Client::builder().codec(codec.clone()).compression(compression.clone());
            let builder = builder.deadline(Duration::from_secs(10));
            let client = builder.connect(&server.address().to_string()).await.unwrap();
            let shop = ShopClient::new(client);
            assert_eq!(shop.find(5).await.unwrap(), Item::of(5));
            assert_eq!(shop.add(2, 3).await.unwrap(), 5);
            assert_eq!(shop.text(long.clone()).await.unwrap(), long);
            for size in [0, 1, 1000, 8192, 100_000, 3 << 20] {
                // Random bytes do not shrink.
                let blob = Blob::from((0..size).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
                if codec == Codec::Json && size > 1 << 20 {
                    continue;
                }
                assert!(shop.echo(blob.clone()).await.unwrap() == blob, "{codec} {compression} {size}");
            }
        }
    }
}

#[tokio::test]
async fn each_failure_has_its_own_code_and_the_connection_goes_on() {
    let server = server(TestShop::default()).await;
    let client = client(&server).await;
    let shop = ShopClient::new(client.clone());

    let error = shop.find(1001).await.unwrap_err();
    assert!(matches!(error, CallError::Service(ShopError::Missing(1001))), "{error:?}");
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "no item 1001"));
    assert_eq!(error.service(), Some(&ShopError::Missing(1001)));
    assert!(error.status().is_none() && error.retry_after().is_none());
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<ShopError>());
    assert_eq!(source, Some(&ShopError::Missing(1001)));

    let status = |result: Result<Value, ms_rpc::Status>| result.unwrap_err();
    let unknown_service = status(client.call("shoe", "find", &json!([1])).await);
    assert_eq!((unknown_service.code(), unknown_service.outcome()), (Code::Unimplemented, Outcome::Refused));
    assert!(unknown_service.message().contains("`shoe` is not served here (served: shop)"), "{unknown_service}");
    let unknown_method = status(client.call("shop", "fnd", &json!([1])).await);
    assert_eq!((unknown_method.code(), unknown_method.outcome()), (Code::Unimplemented, Outcome::Refused));
    assert!(unknown_method.message().contains("no method `fnd` (it has: find, add,"), "{unknown_method}");
    let count = status(client.call("shop", "add", &json!([1])).await);
    assert_eq!(count.code(), Code::InvalidArgument);
    assert!(count.message().contains("add takes 2 arguments (a, b), 1 were sent"), "{count}");
    let kind = status(client.call("shop", "add", &json!([1, "two"])).await);
    assert_eq!(kind.code(), Code::InvalidArgument);
    assert!(kind.message().contains("invalid type: string \"two\", expected i64"), "{kind}");
    let missing = status(client.call("shop", "add", &json!({"a": 1})).await);
    assert!(missing.message().contains("missing field `b`"), "{missing}");
    assert!(missing.to_string().starts_with("invalid_argument: "), "{missing}");
    let extra = status(client.call("shop", "add", &json!({"a": 1, "b": 2, "c": 3})).await);
    assert!(extra.message().contains("unknown field `c`"), "{extra}");
    let scalar = status(client.call("shop", "add", &json!(1)).await);
    assert_eq!((scalar.code(), scalar.outcome()), (Code::InvalidArgument, Outcome::NotSent));
    let trailing = client.call_as::<_, i64>("shop", "text", &("x".to_owned(),)).await.unwrap_err();
    assert!(trailing.message().contains("trailing"), "{trailing}");
    let by_name = status(client.call("shop", "find", &json!([1001])).await);
    assert_eq!((by_name.code(), by_name.message()), (Code::NotFound, "no item 1001"));
    assert_eq!(by_name.service_error::<ShopError>().unwrap().unwrap(), ShopError::Missing(1001));
    let panicked = shop.panic().await.unwrap_err();
    assert_eq!((panicked.code(), panicked.outcome()), (Code::Internal, Outcome::Answered));
    assert!(panicked.message().contains("panicked"), "{panicked}");

    assert_eq!(client.call("shop", "add", &json!({"b": 2, "a": 1})).await.unwrap(), json!(3));
    assert_eq!(client.call_as::<_, i64>("shop", "add", &(1i64, 2i64)).await.unwrap(), 3);
    assert_eq!(client.call("shop", "who", &json!([])).await.unwrap(), json!(""));
    assert!(client.is_open());
}

#[test]
fn a_codes_number_name_and_http_status_belong_together() {
    let codes: [Code; 17] = std::array::from_fn(|number| Code::from_number(number as u8));
    for (number, code) in codes.into_iter().enumerate() {
        assert_eq!((code as usize, code.to_string().parse()), (number, Ok(code)));
    }
    assert_eq!((Code::from_number(17), Code::from_number(255)), (Code::Unknown, Code::Unknown));
    let unknown = "NotFound".parse::<Code>().unwrap_err();
    assert!(unknown.contains("\"NotFound\"") && unknown.contains("not_found"), "{unknown}");
    assert_eq!((Code::NotFound.name(), format!("{:>10}", Code::Ok).as_str()), ("not_found", "        ok"));
    let statuses = codes.map(Code::http_status);
    assert_eq!(statuses, [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]);
}

#[tokio::test]
async fn a_waiting_call_delays_nobody_and_dropping_it_cancels_it() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = server(shop).await;
    let shop = ShopClient::new(client(&server).await);

    let waiting = tokio::spawn({
        let shop = shop.with(CallOptions::new().deadline(Duration::from_secs(20)));
        async move { shop.wait().await }
    });
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1).await;
    for id in 0..100 {
        assert_eq!(shop.find(id).await.unwrap().id, id);
    }
    assert!(!waiting.is_finished());
    waiting.abort();
    probe.until(|probe| probe.dropped.load(Ordering::SeqCst) == 1).await;

    let waiting = tokio::spawn({
        let shop = shop.clone();
        async move { shop.wait().await }
    });
    probe.until(|probe| probe.started.load(Ordering::SeqCst) >= 2).await;
    probe.go.notify_waiters();
    assert_eq!(waiting.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_deadline_holds_on_both_sides_and_travels() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = server(shop).await;
    let shop = ShopClient::new(client(&server).await);

    let start = Instant::now();
    let error = shop.with(CallOptions::new().deadline(Duration::from_millis(50))).wait().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::Unknown));
    assert!(error.message().contains("no answer from shop.wait within 50ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(50));
    probe.until(|probe| probe.dropped.load(Ordering::SeqCst) == 1).await;

    let remaining = shop.with(CallOptions::new().deadline(Duration::from_secs(90))).remaining_ms().await.unwrap();
    assert!((80_000..=90_000).contains(&remaining), "{remaining}");
    let zero = shop.with(CallOptions::new().deadline(Duration::ZERO)).who().await.unwrap_err();
    assert_eq!((zero.code(), zero.outcome()), (Code::DeadlineExceeded, Outcome::NotSent));
}

#[tokio::test]
async fn interceptors_see_names_and_metadata_on_both_sides() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let server = server
        .intercept(|incoming| match incoming.context.metadata("key") {
            Some("good") => {
                incoming.context.set_caller("alice");
                Ok(())
            }
            _ => Err(ms_rpc::Status::new(Code::Unauthenticated, format!("no key for {}", incoming.method))),
        })
        .serve(ShopServer::new(TestShop::default()));
    let server = server.start().await.unwrap();

    let plain = ShopClient::new(client(&server).await);
    let error = plain.who().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "no key for who"));
    assert_eq!(plain.with(CallOptions::new().metadata("key", "good")).who().await.unwrap(), "");

    let builder = Client::builder().intercept(|outgoing| {
        if outgoing.method == "panic" {
            return Err(ms_rpc::Status::new(Code::PermissionDenied, "not this one"));
        }
        outgoing.metadata.push(("key".to_owned(), "good".to_owned()));
        Ok(())
    });
    let shop = ShopClient::new(builder.connect(&server.address().to_string()).await.unwrap());
    assert_eq!(shop.metadata("key".to_owned()).await.unwrap().as_deref(), Some("good"));
    assert_eq!(shop.panic().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn more_calls_than_the_server_takes_wait_for_their_turn() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = Server::bind("127.0.0.1:0")
        .await
        .unwrap()
        .limits(|limits| limits.max_in_flight = 4)
        .serve(ShopServer::new(shop));
    let server = server.start().await.unwrap();
    let shop = ShopClient::new(client(&server).await);
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.wait().await })
        })
        .collect();
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 4).await;
    let error = shop.with(CallOptions::new().deadline(Duration::from_millis(30))).who().await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::DeadlineExceeded, Outcome::NotSent));
    let queued = tokio::spawn({
        let shop = shop.clone();
        async move { shop.who().await }
    });
    tokio::task::yield_now().await;
    probe.go.notify_waiters();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
    queued.await.unwrap().unwrap();
}

#[tokio::test]
async fn deep_values_are_refused_and_flat_ones_pass() {
    let server = server(TestShop::default()).await;
    let shop = ShopClient::new(client(&server).await);
    let nested = |depth| (0..depth).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))));
    assert_eq!(shop.nested(nested(100)).await.unwrap(), 101);
    let error = shop.nested(nested(200)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("nested deeper than 128"), "{error}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_name() {
    let server = Server::bind("127.0.0.1:0").await.unwrap().limits(|limits| limits.max_frame = 64 << 10);
    let server = server.serve(ShopServer::new(TestShop::default())).start().await.unwrap();
    let shop = ShopClient::new(client(&server).await);
    let error = shop.echo(Blob::from(vec![0; 70_000])).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ResourceExhausted, Outcome::NotSent));
    assert!(error.message().contains("the request to shop.echo has 70"), "{error}");
    assert_eq!(shop.who().await.unwrap(), "");

    // An answer that the client would not take costs that call, and not the connection.
    let wide = crate::server(TestShop::default()).await;
    let narrow = Client::builder().max_frame(4096).connect(&wide.address().to_string()).await.unwrap();
    let shop = ShopClient::new(narrow);
    let error = shop.echo(Blob::from(vec![0; 5000])).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ResourceExhausted, Outcome::Answered));
    assert!(error.message().contains("at most 4096 are sent"), "{error}");
    assert_eq!(shop.who().await.unwrap(), "");
}

#[tokio::test]
async fn methods_that_compute_have_other_threads_at_most_one_per_core() {
    let shop = TestShop::default();
    let probe = shop.probe.clone();
    let server = server(shop).await;
    let shop = ShopClient::new(client(&server).await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let shop = shop.clone();
        calls.spawn(async move { shop.thread().await.unwrap() });
    }
    let threads = calls.join_all().await;
    assert!(!threads.contains(&format!("{:?}", std::thread::current().id())));
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!((1..=cores).contains(&probe.most_computing.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_local_service_behaves_the_same() {
    let shop = TestShop::default();
    let local = ShopClient::new(Local::new(ShopServer::shared(Arc::new(shop))));
    assert_eq!(local.find(5).await.unwrap(), Item::of(5));
    assert!(matches!(local.find(1001).await.unwrap_err(), CallError::Service(ShopError::Missing(1001))));
    assert_eq!(local.panic().await.unwrap_err().code(), Code::Internal);
    let late = local.with(CallOptions::new().deadline(Duration::from_millis(10))).wait().await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_server_describes_itself() {
    let server = server(TestShop::default()).await;
    let client = client(&server).await;
    let services = client.call("ms.describe", "services", &json!([])).await.unwrap();
    assert_eq!(services[0]["name"], "shop");
    let shop = client.call("ms.describe", "service", &json!({"name": "shop"})).await.unwrap();
    assert_eq!(shop["methods"][1], json!({"name": "add", "arguments": ["a", "b"], "idempotent": false}));
}

#[tokio::test]
async fn a_method_that_turns_out_to_compute_moves_to_other_threads() {
    #[ms_rpc::service(name = "mixed")]
    trait Mixed {
        async fn compute(&self) -> String;
        async fn quick(&self) -> String;
    }
    fn thread() -> String {
        format!("{:?}", std::thread::current().id())
    }
    struct Here;
    impl Mixed for Here {
        async fn compute(&self) -> String {
            // By count: what is left of a time on a busy machine may be nothing.
            (0..1_000_000).for_each(|_| std::hint::spin_loop());
            thread()
        }
        async fn quick(&self) -> String {
            thread()
        }
    }
    let server = Server::bind("127.0.0.1:0").await.unwrap().serve(MixedServer::new(Here)).start().await.unwrap();
    let mixed = MixedClient::new(client(&server).await);
    assert_eq!(mixed.quick().await.unwrap(), thread());
    assert_eq!(mixed.compute().await.unwrap(), thread(), "nobody can know yet");
    assert_eq!(mixed.compute().await.unwrap(), thread(), "the first time, the thread may have waited for a processor");
    for _ in 0..10 {
        assert_ne!(mixed.compute().await.unwrap(), thread());
        assert_eq!(mixed.quick().await.unwrap(), thread());
    }
}
