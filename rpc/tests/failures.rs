//! Errors of calls: the instance that they name, their outcome after several attempts, and methods that not all have.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{sync::Arc, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use ms_register::{Memory, MsRegister};
use ms_rpc::{Balancer, CallInfo, CallOptions, ClientProxy, Code, Outcome, RunningServer, Server, Status};
use serde_json::json;
use shop::{Probe, ShopClient, registered};

/// An older version of the service: it has one method of today's.
#[ms_rpc::service(name = "shop")]
trait OldShop {
    async fn add(&self, a: i64, b: i64) -> i64;
}

struct Old;

impl OldShop for Old {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

async fn old(registry: &Arc<Memory>) -> RunningServer {
    let registry: Arc<dyn MsRegister> = registry.clone();
    let server = Server::bind("127.0.0.1:0").await.unwrap().register_with(registry);
    server.serve(OldShopServer::new(Old)).start().await.unwrap()
}

fn proxy(registry: &Arc<Memory>) -> ClientProxy {
    ClientProxy::builder(registry.clone()).balancer(Balancer::RoundRobin).build().unwrap()
}

/// Waits until calls go to all of the instances.
async fn warm(proxy: &ClientProxy, instances: usize) {
    let (info, mut seen) = (CallInfo::default(), std::collections::HashSet::new());
    let shop = ShopClient::new(proxy).with(CallOptions::new().info(&info));
    while seen.len() < instances {
        shop.add(1, 2).await.unwrap();
        seen.insert(info.instance());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_method_that_one_instance_does_not_have_yet_is_called_elsewhere_at_once() {
    let registry = Arc::new(Memory::new());
    let (_new, _) = registered(&registry, "new").await;
    let _old = old(&registry).await;
    let proxy = proxy(&registry);
    warm(&proxy, 2).await;
    let info = CallInfo::default();
    let shop = ShopClient::new(&proxy).with(CallOptions::new().info(&info));
    let mut attempts = 0;
    // More second attempts than the budget has retries, and no back-off.
    for _ in 0..400 {
        assert_eq!(shop.who().await.unwrap(), "new");
        attempts += info.attempts();
    }
    assert!(attempts >= 600, "{attempts} attempts: at least every other call begins with the old one");
}

#[tokio::test]
async fn a_method_that_no_instance_has_is_refused_by_the_second() {
    let registry = Arc::new(Memory::new());
    let first = old(&registry).await;
    let info = CallInfo::default();
    let of_one = proxy(&registry).with(CallOptions::new().info(&info));
    let refused = of_one.call("shop", "who", &json!([])).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome(), info.attempts()), (Code::Unimplemented, Outcome::Refused, 1));
    assert_eq!(refused.instance(), Some(first.address().to_string().as_str()));

    let (_second, _third) = (old(&registry).await, old(&registry).await);
    let proxy = proxy(&registry);
    warm(&proxy, 3).await;
    for _ in 0..50 {
        let call = proxy.with(CallOptions::new().info(&info));
        let refused = call.call("shop", "who", &json!([])).await.unwrap_err();
        assert_eq!((refused.code(), info.attempts()), (Code::Unimplemented, 2));
        assert_eq!(refused.instance(), info.instance().as_deref());
    }
}

#[tokio::test]
async fn an_attempt_that_may_have_been_executed_is_not_forgotten() {
    let registry = Arc::new(Memory::new());
    let (only, probe) = registered(&registry, "only").await;
    let shop = ShopClient::new(proxy(&registry)).with(CallOptions::new().deadline(Duration::from_secs(1)));
    let call = tokio::spawn(async move { shop.wait_idempotent().await });
    probe.until(|probe: &Probe| probe.started.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    let address = only.address().to_string();
    drop(only);
    // The second attempt finds no connection.
    let status = call.await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.outcome()), (Code::Unavailable, Outcome::Unknown), "{status}");
    assert_eq!(status.instance(), Some(address.as_str()));
}

#[tokio::test]
async fn the_refusal_of_a_clients_interceptor_was_not_sent() {
    let registry = Arc::new(Memory::new());
    let refuse = |_: &mut ms_rpc::Outgoing<'_>| Err(Status::new(Code::PermissionDenied, "no token"));
    let proxy = ClientProxy::builder(registry).intercept(refuse).build().unwrap();
    let refused = proxy.call("shop", "who", &json!([])).await.unwrap_err();
    assert_eq!((refused.code(), refused.outcome()), (Code::PermissionDenied, Outcome::NotSent));
    assert_eq!(refused.instance(), None);
}

#[tokio::test]
async fn errors_name_the_instance() {
    let registry = Arc::new(Memory::new());
    let (server, _) = registered(&registry, "a").await;
    let address = server.address().to_string();
    let proxy = proxy(&registry);
    let client = ms_rpc::Client::connect(&address).await.unwrap();
    let short = CallOptions::new().deadline(Duration::from_millis(50));
    for error in [
        ShopClient::new(&proxy).with(short.clone()).wait().await.unwrap_err(),
        ShopClient::new(client.clone()).with(short).wait().await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.instance()), (Code::DeadlineExceeded, Some(address.as_str())));
        let text = error.to_string();
        assert!(text.contains("no answer from shop.wait within 50ms") && text.contains(&address), "{text}");
    }
    // The method's own error, and a handler that broke.
    for error in [
        proxy.call("shop", "find", &json!([1001])).await.unwrap_err(),
        client.call("shop", "find", &json!([1001])).await.unwrap_err(),
        proxy.call("shop", "panic", &json!([])).await.unwrap_err(),
    ] {
        assert_eq!(error.instance(), Some(address.as_str()), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
    }
}

#[tokio::test]
async fn failed_attempts_are_counted_by_instance() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let registry = Arc::new(Memory::new());
    let (_new, _) = registered(&registry, "new").await;
    let old = old(&registry).await;
    let proxy = proxy(&registry);
    warm(&proxy, 2).await;
    let (info, mut failures) = (CallInfo::default(), 0);
    let shop = ShopClient::new(&proxy).with(CallOptions::new().info(&info));
    for _ in 0..10 {
        shop.who().await.unwrap();
        failures += u64::from(info.attempts()) - 1;
    }
    let failed: Vec<_> = snapshots
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "ms_rpc_failed_attempts_total")
        .map(|(key, _, _, value)| {
            let labels = key.key().labels().map(|label| label.value().to_owned()).collect::<Vec<_>>();
            (labels, value)
        })
        .collect();
    let [(labels, DebugValue::Counter(count))] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(*labels, ["shop", old.registrations()[0].instance().id(), "refused"]);
    assert!(failures > 0 && *count == failures, "{count} of {failures}");
}
