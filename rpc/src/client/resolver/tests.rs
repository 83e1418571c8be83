use std::{
    io,
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use ms_register::Memory;

use super::*;
use crate::ClientProxy;

/// Recorder of metrics and writer of logs that looks whether the resolver's locks are free.
#[derive(Clone, Debug, Default)]
struct Lookout(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    resolver: Mutex<Weak<Resolver>>,
    called: AtomicUsize,
    locked: AtomicBool,
}

impl Lookout {
    fn look(&self) {
        let resolver = self.0.resolver.lock().unwrap().upgrade();
        let Some(resolver) = resolver else { return };
        self.0.called.fetch_add(1, Ordering::SeqCst);
        if resolver.roster.is_locked() || resolver.last_error.try_lock().is_err() {
            self.0.locked.store(true, Ordering::SeqCst);
        }
    }
}

impl Recorder for Lookout {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.look();
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.look();
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.look();
        Histogram::noop()
    }
}

impl io::Write for Lookout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn recorders_and_log_subscribers_never_run_under_a_lock() {
    let lookout = Lookout::default();
    let _recorder = metrics::set_default_local_recorder(&lookout);
    let writer = lookout.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
    let _subscriber = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());

    let registry = Arc::new(Memory::new());
    let service: ServiceName = "shop".parse().unwrap();
    (1..=4).for_each(|port| registry.insert(&service, Instance::new("127.0.0.1", port)));
    let proxy = ClientProxy::new(registry.clone());
    let resolver = proxy.resolver("shop").unwrap();
    *lookout.0.resolver.lock().unwrap() = Arc::downgrade(&resolver);
    let mut watch = registry.watch(&service);
    let seen = |n: usize| {
        let resolver = resolver.clone();
        async move {
            while resolver.instances().len() != n {
                tokio::task::yield_now().await;
            }
        }
    };
    seen(4).await;
    // A failed dial, an ejection, a held instance, and a removed instance.
    let calls = proxy.with(crate::CallOptions::new().deadline(Duration::from_millis(100)));
    calls.call("shop", "find", &serde_json::json!([])).await.unwrap_err();
    let endpoint = resolver.roster.load().all[0].clone();
    let unknown = Status::new(Code::Unavailable, "");
    resolver.roster.eject(endpoint.ejection(), &unknown);
    registry.set_down(true);
    registry.set_down(false);
    registry.wipe();
    watch.wait_for(|snapshot| snapshot.instances().is_empty()).await.unwrap();
    seen(4).await;
    resolver.roster.is_gone("127.0.0.1:1");
    assert!(lookout.0.called.load(Ordering::SeqCst) > 20, "{lookout:?}");
    assert!(!lookout.0.locked.load(Ordering::SeqCst));
}
