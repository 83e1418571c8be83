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
