use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::{Found, Freshness, LeaseKeeper, Memory, MemoryBackend, RegistrationState};

/// A registry in memory that is there after some tries.
#[derive(Debug)]
struct Late {
    memory: MemoryBackend,
    tries_left: AtomicU32,
}

#[async_trait]
impl Backend for Late {
    type Config = (MemoryBackend, u32);

    fn new((memory, tries): Self::Config) -> Result<Self, RegisterError> {
        Ok(Self { memory, tries_left: tries.into() })
    }

    fn about(&self) -> &About {
        self.memory.about()
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        let count = |left: u32| left.checked_sub(1);
        match self.tries_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(_) => Err(self.about().unreachable("not there yet")),
            Err(_) => Ok(()),
        }
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        self.memory.lease(service, instance)
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        self.memory.list(service).await
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        self.memory.follow(service, cell).await
    }
}

/// The registry that is there after `tries`, and a client of the same that always is.
fn after(tries: u32) -> (Memory, Registry<Late>) {
    let memory = MemoryBackend::new(()).unwrap();
    (Registry::of(memory.clone()), Registry::connect_in_background((memory, tries)).unwrap())
}

fn goods() -> ServiceName {
    "goods".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn early_requests_are_done_when_it_is_up() {
    let (memory, registry) = after(3);
    let mut watch = registry.watch(&goods());
    watch.wait_for(|snapshot| snapshot.is_failing()).await.unwrap();
    assert_eq!(watch.current().freshness(), Freshness::Never);
    let error = registry.list(&goods()).await.unwrap_err().to_string();
    assert!(error.contains("not there yet"), "{error}");

    let registration = registry.register(&goods(), Instance::new("h", 80)).await.unwrap();
    let mut state = registration.state();
    assert_eq!(*state.borrow(), RegistrationState::Lost);
    state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
    watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
    assert_eq!(registry.list(&goods()).await.unwrap().len(), 1);

    memory.wipe();
    watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
    registration.deregister(Duration::from_secs(1)).await.unwrap();
    assert!(memory.list(&goods()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_registration_outlives_its_client() {
    let (memory, registry) = after(3);
    let registration = registry.register(&goods(), Instance::new("h", 80)).await.unwrap();
    drop(registry);
    let mut state = registration.state();
    state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
    registration.deregister(Duration::from_secs(1)).await.unwrap();
    assert!(memory.list(&goods()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_goes_away_again_lists_later() {
    let (memory, registry) = after(0);
    let mut state = registry.register(&goods(), Instance::new("h", 80)).await.unwrap().state();
    state.wait_for(|state| *state == RegistrationState::Deregistered).await.unwrap();
    memory.set_down(true);
    let registration = registry.register(&goods(), Instance::new("h", 80)).await.unwrap();
    assert_eq!(*registration.state().borrow(), RegistrationState::Lost);
    memory.set_down(false);
    registration.state().wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_never_listed_is_deregistered_at_once() {
    let (_, registry) = after(u32::MAX);
    let registration = registry.register(&goods(), Instance::new("h", 80)).await.unwrap();
    registration.deregister(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_deregisters_and_ends_the_watches() {
    for tries in [0, u32::MAX] {
        let (memory, registry) = after(tries);
        let mut watch = registry.watch(&goods());
        let registration = registry.register(&goods(), Instance::new("h", 80)).await.unwrap();
        if tries == 0 {
            watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
        }
        registry.close(Duration::from_secs(1)).await.unwrap();
        while watch.changed().await.is_ok() {}
        assert!(matches!(registry.list(&goods()).await, Err(RegisterError::Closed { .. })));
        assert!(memory.list(&goods()).await.unwrap().is_empty());
        drop(registration);
    }
}

#[test]
fn what_happens_is_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let happen = async {
        let memory = Memory::new();
        let registration = memory.register(&goods(), Instance::new("h", 80)).await.unwrap();
        let kept = memory.register(&goods(), Instance::new("h", 81)).await.unwrap();
        let mut state = registration.state();
        memory.remove(&goods(), "h:80");
        state.wait_for(|state| *state == RegistrationState::Lost).await.unwrap();
        state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
        kept.deregister(Duration::from_secs(1)).await.unwrap();
        let leader = memory.election().unwrap();
        let leader = leader.campaign(&goods(), Instance::new("h", 80), Duration::from_secs(1)).await.unwrap();
        memory.set_down(true);
        memory.list(&goods()).await.unwrap_err();
        memory.services().await.unwrap_err();
        memory.set_down(false);
        memory.wipe();
        leader.lost().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    metrics::with_local_recorder(&recorder, || runtime.block_on(happen));
    let mut found: Vec<_> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels = key.key().labels().filter(|label| label.key() != "registry");
            let labels: String = labels.map(|label| format!(" {}={}", label.key(), label.value())).collect();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(_) => f64::NAN,
            };
            format!("{}{labels} {value}", key.key().name())
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "ms_register_deposed_total service=goods 1",
            "ms_register_failed_total reason=unreachable 2",
            "ms_register_leads service=goods 0",
            "ms_register_listed 1",
            "ms_register_lost_total reason=it was removed 2",
            "ms_register_regained_total 2",
        ]
    );
}
