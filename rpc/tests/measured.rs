//! Counts and times of all calls, as a recorder sees them.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{collections::BTreeMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use ms_register::{Instance, Static};
use ms_rpc::{CallOptions, ClientProxy, Server};
use shop::{ShopClient, ShopServer, TestShop};

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_on_each_side_by_method_and_code() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    recorder.install().unwrap();

    let server = Server::bind("127.0.0.1:0").await.unwrap().measured().serve(ShopServer::new(TestShop::default()));
    let server = server.start().await.unwrap();
    let registry = Static::new(vec![Instance::new("127.0.0.1", server.address().port())]);
    let proxy = ClientProxy::builder(std::sync::Arc::new(registry)).measured().build().unwrap();
    let shop = ShopClient::new(&proxy);
    let calls: Vec<_> = (0..100).map(|n| shop.add(n, 1)).collect();
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
    for _ in 0..3 {
        shop.find(1001).await.unwrap_err();
    }
    shop.with(CallOptions::new().deadline(Duration::from_millis(200))).wait().await.unwrap_err();
    shop.panic().await.unwrap_err();
    // Time that jumps while nothing else happens: the next publication is due.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (mut calls, mut buckets) = (BTreeMap::new(), BTreeMap::new());
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let labels: BTreeMap<_, _> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        let DebugValue::Counter(value) = value else { continue };
        let label = |name: &str| labels.get(name).map(|value| (*value).to_owned()).unwrap_or_default();
        match key.key().name() {
            "ms_rpc_calls_total" => {
                assert_eq!(label("service"), "shop");
                calls.insert((label("side"), label("method"), label("code")), value);
            }
            "ms_rpc_call_seconds_bucket" if label("method") == "wait" => {
                buckets.insert((label("side"), label("le")), value);
            }
            _ => {}
        }
    }
    for side in ["client", "server"] {
        let counted = |method: &str, code: &str| {
            calls.get(&(side.to_owned(), method.to_owned(), code.to_owned())).copied().unwrap_or_default()
        };
        assert_eq!(counted("add", "ok"), 100, "{calls:?}");
        assert_eq!(counted("find", "not_found"), 3, "{calls:?}");
        assert_eq!(counted("wait", "deadline_exceeded") + counted("wait", "cancelled"), 1, "{calls:?}");
        assert_eq!(counted("panic", "internal"), 1, "{calls:?}");
        let bucket = |le: &str| buckets.get(&(side.to_owned(), le.to_owned())).copied();
        assert_eq!((bucket("0.1"), bucket("0.5"), bucket("+Inf")), (Some(0), Some(1), Some(1)), "{buckets:?}");
    }
}
