mod election;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    Election, Instance, MsRegister, RegisterError, Registration, ServiceName, SnapshotWatch,
    owner::{Owners, Tenant},
    watch::SnapshotCell,
};

use election::{MemoryElection, Seats};

const URL: &str = "memory://";

/// `memory://`: a registry within this process. The reference implementation of the contract, and what tests use.
///
/// Share it as one `Arc`: each [`Memory::new`] is a registry of its own.
#[derive(Debug)]
pub struct Memory {
    store: Arc<Store>,
    owners: Owners,
    election: Arc<MemoryElection>,
    scope: String,
}

impl Memory {
    /// An empty registry.
    pub fn new() -> Self {
        // Names this registry, so that servers of another one in the same process are told apart.
        let scope = format!("memory/{:016x}", fastrand::u64(..));
        let store = Arc::<Store>::default();
        let election = Arc::new(MemoryElection::new(store.clone()));
        Self { store, owners: Owners::default(), election, scope }
    }

    /// Pretends an outage: while `down`, reads and writes fail and watches go stale.
    pub fn set_down(&self, down: bool) {
        let mut state = self.store.lock();
        state.down = down;
        for service in state.cells.keys().cloned().collect::<Vec<_>>() {
            state.publish(&service);
        }
        drop(state);
        self.store.voted.notify_waiters();
    }

    /// Forgets all instances and candidates, as a registry does that restarts on empty data. Owners write theirs again.
    pub fn wipe(&self) {
        let mut state = self.store.lock();
        for service in std::mem::take(&mut state.instances).into_keys() {
            state.publish(&service);
        }
        state.seats.clear();
        drop(state);
        self.store.removed.notify_waiters();
        self.store.voted.notify_waiters();
    }

    /// Writes an instance the way a stranger would: unchecked, without an owner. Replaces one of the same id.
    pub fn insert(&self, service: &ServiceName, instance: Instance) {
        let mut state = self.store.lock();
        state.instances.entry(service.clone()).or_default().insert(instance.id().to_owned(), instance);
        state.publish(service);
    }

    /// Removes an instance behind its owner's back, if it is there.
    pub fn remove(&self, service: &ServiceName, id: &str) {
        let mut state = self.store.lock();
        if let Some(instances) = state.instances.get_mut(service) {
            instances.remove(id);
        }
        state.publish(service);
        drop(state);
        self.store.removed.notify_waiters();
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl MsRegister for Memory {
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        self.store.lock().check_open()?;
        let tenant = MemoryTenant { store: self.store.clone(), service: service.clone(), instance: instance.clone() };
        self.owners.start(URL, service, instance, tenant).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        let state = self.store.lock();
        state.check_open()?;
        state.check_up()?;
        Ok(state.list(service))
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let mut state = self.store.lock();
        if state.closed {
            return SnapshotCell::new().subscribe();
        }
        state.cells.retain(|name, cell| cell.is_watched() || name == service);
        let watch = state.cells.entry(service.clone()).or_insert_with(SnapshotCell::new).subscribe();
        state.publish(service);
        watch
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let (ended, resigned) = tokio::join!(self.owners.end_all(deadline), self.election.close(deadline));
        let mut state = self.store.lock();
        state.closed = true;
        state.cells.clear();
        ended.and(resigned)
    }

    fn url(&self) -> &str {
        URL
    }

    fn scope(&self) -> Option<&str> {
        Some(&self.scope)
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        Ok(self.election.clone())
    }
}

#[derive(Debug, Default)]
struct Store {
    state: Mutex<State>,
    removed: Notify,
    /// Told of whatever may change who leads.
    voted: Notify,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    instances: HashMap<ServiceName, BTreeMap<String, Instance>>,
    cells: HashMap<ServiceName, SnapshotCell>,
    seats: Seats,
    down: bool,
    closed: bool,
}

impl State {
    fn list(&self, service: &ServiceName) -> Vec<Instance> {
        self.instances.get(service).map(|instances| instances.values().cloned().collect()).unwrap_or_default()
    }

    fn publish(&self, service: &ServiceName) {
        let Some(cell) = self.cells.get(service) else { return };
        match self.check_up() {
            Ok(()) => cell.refresh(self.list(service)),
            Err(error) => cell.fail(&error),
        }
    }

    fn check_up(&self) -> Result<(), RegisterError> {
        if self.down {
            return Err(RegisterError::Unreachable { registry: URL.to_owned(), reason: "set down".to_owned() });
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), RegisterError> {
        if self.closed {
            return Err(RegisterError::Closed { registry: URL.to_owned() });
        }
        Ok(())
    }
}

struct MemoryTenant {
    store: Arc<Store>,
    service: ServiceName,
    instance: Instance,
}

impl MemoryTenant {
    fn is_listed(&self) -> bool {
        let state = self.store.lock();
        state.instances.get(&self.service).is_some_and(|instances| instances.contains_key(self.instance.id()))
    }
}

#[async_trait]
impl Tenant for MemoryTenant {
    type Tenure = ();

    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let mut state = self.store.lock();
        state.check_up()?;
        let instances = state.instances.entry(self.service.clone()).or_default();
        instances.insert(self.instance.id().to_owned(), self.instance.clone());
        state.publish(&self.service);
        Ok(())
    }

    async fn held(&mut self, (): &mut ()) -> String {
        loop {
            let store = self.store.clone();
            let removed = store.removed.notified();
            if !self.is_listed() {
                return "it was removed".to_owned();
            }
            removed.await;
        }
    }

    async fn release(&mut self, (): &mut ()) -> Result<(), RegisterError> {
        let mut state = self.store.lock();
        state.check_up()?;
        if let Some(instances) = state.instances.get_mut(&self.service) {
            instances.remove(self.instance.id());
        }
        state.publish(&self.service);
        Ok(())
    }
}
