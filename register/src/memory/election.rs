//! The reference implementation of elections: a queue of candidates for each service, and the first one leads.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::{State, Store, URL};
use crate::{
    Election, Instance, Leadership, Master, MasterWatch, RegisterError, ServiceName,
    election::{self, Campaigns, Candidate, MasterCell, Observers, Term},
};

/// The candidates of all services, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Seats {
    by_service: HashMap<ServiceName, VecDeque<Master>>,
    /// Counts all that ever came; it survives the loss of all else.
    last: u64,
}

impl Seats {
    fn first(&self, service: &ServiceName) -> Option<&Master> {
        self.by_service.get(service)?.front()
    }

    fn take(&mut self, service: &ServiceName, instance: &Instance) -> u64 {
        self.last += 1;
        let seats = self.by_service.entry(service.clone()).or_default();
        seats.push_back(Master::new(instance.clone(), self.last));
        self.last
    }

    fn has(&self, service: &ServiceName, token: u64) -> bool {
        self.by_service.get(service).is_some_and(|seats| seats.iter().any(|seat| seat.token == token))
    }

    fn leave(&mut self, service: &ServiceName, token: u64) {
        if let Some(seats) = self.by_service.get_mut(service) {
            seats.retain(|seat| seat.token != token);
            if seats.is_empty() {
                self.by_service.remove(service);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_service.clear();
    }
}

#[derive(Debug)]
pub(super) struct MemoryElection {
    store: Arc<Store>,
    campaigns: Campaigns,
    observers: Observers,
}

impl MemoryElection {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, campaigns: Campaigns::default(), observers: Observers::new() }
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        election::close(&self.campaigns, &self.observers, deadline).await
    }
}

#[async_trait]
impl Election for MemoryElection {
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError> {
        instance.check()?;
        let candidate = MemoryCandidate {
            store: self.store.clone(),
            service: service.clone(),
            instance: instance.clone(),
            token: None,
        };
        self.campaigns.run(URL, service, instance, deadline, candidate).await
    }

    /// Outside a runtime it shows nothing.
    fn observe(&self, service: &ServiceName) -> MasterWatch {
        let (store, service) = (self.store.clone(), service.clone());
        self.observers
            .open(Handle::try_current().ok().as_ref(), |cell| async move { follow(&store, &service, &cell).await })
    }

    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError> {
        let state = self.store.lock();
        state.check_open()?;
        state.check_up()?;
        let nobody = || RegisterError::NoMaster { registry: URL.to_owned(), service: service.to_string() };
        state.seats.first(service).cloned().ok_or_else(nobody)
    }
}

async fn follow(store: &Store, service: &ServiceName, cell: &MasterCell) {
    loop {
        let voted = store.voted.notified();
        {
            let state = store.lock();
            match state.check_up() {
                Ok(()) => cell.refresh(state.seats.first(service).cloned()),
                Err(error) => cell.fail(error),
            }
        }
        voted.await;
    }
}

struct MemoryCandidate {
    store: Arc<Store>,
    service: ServiceName,
    instance: Instance,
    /// Its seat.
    token: Option<u64>,
}

impl MemoryCandidate {
    /// Takes a seat, unless it has one; whether it leads.
    fn stand(&mut self, state: &mut State) -> Option<u64> {
        let token = match self.token.filter(|token| state.seats.has(&self.service, *token)) {
            Some(token) => token,
            None => {
                self.store.voted.notify_waiters();
                state.seats.take(&self.service, &self.instance)
            }
        };
        self.token = Some(token);
        state.seats.first(&self.service).filter(|first| first.token == token).map(|first| first.token)
    }
}

#[async_trait]
impl Candidate for MemoryCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        loop {
            let store = self.store.clone();
            let voted = store.voted.notified();
            {
                let mut state = store.lock();
                state.check_up()?;
                if let Some(token) = self.stand(&mut state) {
                    // Nothing ends a seat but a word that reaches its holder.
                    term.confirm(u64::MAX);
                    return Ok(token);
                }
            }
            voted.await;
        }
    }

    async fn held(&mut self, _: &Term) -> String {
        loop {
            let store = self.store.clone();
            let voted = store.voted.notified();
            if !self.token.is_some_and(|token| store.lock().seats.has(&self.service, token)) {
                return "its seat was removed".to_owned();
            }
            voted.await;
        }
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        let Some(token) = self.token else { return Ok(()) };
        let mut state = self.store.lock();
        state.check_up()?;
        state.seats.leave(&self.service, token);
        drop(state);
        self.store.voted.notify_waiters();
        Ok(())
    }
}
