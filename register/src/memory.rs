mod election;
mod lease;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    About, Backend, ElectionBackend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, ServicesCell,
    SnapshotCell,
};

use election::Seats;
use lease::MemoryKeeper;

/// `memory://`: a registry within this process. The reference implementation of the contract, and what tests use.
///
/// Share it as one `Arc`: each [`Memory::new`] is a registry of its own.
pub type Memory = Registry<MemoryBackend>;

/// The back end of [`Memory`]. Cheap to clone; all clones are one registry.
#[derive(Clone, Debug)]
pub struct MemoryBackend(Arc<Store>);

impl Memory {
    /// An empty registry.
    pub fn new() -> Self {
        Self::of(MemoryBackend::empty())
    }

    /// Pretends an outage: while `down`, reads and writes fail and watches go stale.
    pub fn set_down(&self, down: bool) {
        self.backend().0.change(|state| {
            state.down = down;
            state.publish_all();
        });
    }

    /// Forgets all instances and candidates, as a registry does that restarts on empty data. Owners write theirs again.
    pub fn wipe(&self) {
        self.backend().0.change(|state| {
            state.instances.clear();
            state.seats.clear();
            state.publish_all();
        });
    }

    /// Writes an instance the way a stranger would: unchecked, without an owner. Replaces one of the same id.
    pub fn insert(&self, service: &ServiceName, instance: Instance) {
        self.backend().0.change(|state| state.insert(service, instance));
    }

    /// Removes an instance behind its owner's back, if it is there.
    pub fn remove(&self, service: &ServiceName, id: &str) {
        self.backend().0.change(|state| state.remove(service, id));
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackend {
    fn empty() -> Self {
        // Names this registry, so that servers of another one in the same process are told apart.
        let about = About::new("memory://").with_scope(format!("memory/{:016x}", fastrand::u64(..)));
        Self(Arc::new(Store { about, state: Mutex::default(), changed: Notify::new() }))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    type Config = ();

    const IS_REMOTE: bool = false;

    fn new((): ()) -> Result<Self, RegisterError> {
        Ok(Self::empty())
    }

    fn about(&self) -> &About {
        &self.0.about
    }

    async fn connect(&self) -> Result<(), RegisterError> {
        Ok(())
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        Some(Box::new(MemoryKeeper::new(self.0.clone(), service, instance)))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(self.0.up()?.list(service))
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        let show = |store: &Store| {
            match store.up() {
                Ok(state) => cell.refresh(state.list(service)),
                Err(error) => cell.fail(&error),
            }
            None
        };
        self.0.until(show).await
    }

    fn feed(&self, service: &ServiceName, cell: &SnapshotCell) -> bool {
        let mut state = self.0.lock();
        state.cells.retain(|_, cell| cell.is_watched());
        state.cells.insert(service.clone(), cell.clone());
        state.publish(service);
        true
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        let show = |store: &Store| {
            match store.up() {
                Ok(state) => cell.refresh(state.instances.keys().cloned().collect()),
                Err(error) => cell.fail(error),
            }
            None
        };
        self.0.until(show).await
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        Ok(self.0.up()?.instances.keys().cloned().collect())
    }

    fn elections(&self) -> Option<&dyn ElectionBackend> {
        Some(self)
    }

    async fn close(&self) {
        self.0.lock().cells.clear();
    }
}

#[derive(Debug)]
struct Store {
    about: About,
    state: Mutex<State>,
    /// Notified of every change.
    changed: Notify,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless an outage is pretended.
    fn up(&self) -> Result<MutexGuard<'_, State>, RegisterError> {
        let state = self.lock();
        if state.down { Err(self.about.unreachable("set down")) } else { Ok(state) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_waiters();
        changed
    }

    /// The same, unless an outage is pretended.
    fn change_up<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, RegisterError> {
        let changed = change(&mut *self.up()?);
        self.changed.notify_waiters();
        Ok(changed)
    }

    /// Waits until `look`, asked after every change, finds something.
    async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T> + Send) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = look(self) {
                return found;
            }
            changed.await;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    instances: HashMap<ServiceName, BTreeMap<String, Instance>>,
    cells: HashMap<ServiceName, SnapshotCell>,
    seats: Seats,
    down: bool,
}

impl State {
    fn list(&self, service: &ServiceName) -> Vec<Found> {
        self.instances.get(service).into_iter().flat_map(BTreeMap::values).cloned().map(Ok).collect()
    }

    fn has(&self, service: &ServiceName, id: &str) -> bool {
        self.instances.get(service).is_some_and(|instances| instances.contains_key(id))
    }

    fn insert(&mut self, service: &ServiceName, instance: Instance) {
        self.instances.entry(service.clone()).or_default().insert(instance.id().to_owned(), instance);
        self.publish(service);
    }

    fn remove(&mut self, service: &ServiceName, id: &str) {
        if let Some(instances) = self.instances.get_mut(service) {
            instances.remove(id);
            if instances.is_empty() {
                self.instances.remove(service);
            }
        }
        self.publish(service);
    }

    fn publish(&self, service: &ServiceName) {
        let Some(cell) = self.cells.get(service) else { return };
        if self.down {
            cell.fail(&About::new("memory://").unreachable("set down"));
        } else {
            cell.refresh(self.list(service));
        }
    }

    fn publish_all(&self) {
        self.cells.keys().for_each(|service| self.publish(service));
    }
}
