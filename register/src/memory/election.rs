//! The reference implementation of elections: a queue of candidates for each service, and the first one leads.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{MemoryBackend, Store};
use crate::{Candidate, ElectionBackend, Instance, Master, MasterCell, Moment, RegisterError, ServiceName, Term};

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

#[async_trait]
impl ElectionBackend for MemoryBackend {
    fn candidate(&self, service: &ServiceName, instance: &Instance) -> Box<dyn Candidate> {
        let (store, service, instance) = (self.0.clone(), service.clone(), instance.clone());
        Box::new(MemoryCandidate { store, service, instance, token: None })
    }

    async fn master(&self, service: &ServiceName) -> Result<Option<Master>, RegisterError> {
        Ok(self.0.up()?.seats.first(service).cloned())
    }

    async fn follow_master(&self, service: &ServiceName, cell: &MasterCell) -> Result<(), RegisterError> {
        let show = |store: &Store| {
            match store.up() {
                Ok(state) => cell.refresh(state.seats.first(service).cloned()),
                Err(error) => cell.fail(error),
            }
            None
        };
        self.0.until(show).await
    }
}

struct MemoryCandidate {
    store: Arc<Store>,
    service: ServiceName,
    instance: Instance,
    /// Token of its seat; `None`: it has none.
    token: Option<u64>,
}

#[async_trait]
impl Candidate for MemoryCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        let (service, instance) = (&self.service, &self.instance);
        let seat = self.store.change_up(|state| match self.token.filter(|token| state.seats.has(service, *token)) {
            Some(token) => token,
            None => state.seats.take(service, instance),
        })?;
        self.token = Some(seat);
        let first = |store: &Store| match store.up() {
            Err(error) => Some(Err(error)),
            Ok(state) if !state.seats.has(service, seat) => Some(Err(store.about.unreachable("its seat was removed"))),
            Ok(state) => state.seats.first(service).filter(|first| first.token == seat).map(|_| Ok(())),
        };
        self.store.until(first).await?;
        // Nothing ends a seat but a word that reaches its holder.
        term.confirm(Moment::now(), Duration::MAX);
        Ok(seat)
    }

    async fn held(&mut self, _: &Term) -> String {
        let is_gone = |store: &Store| {
            let has = self.token.is_some_and(|token| store.lock().seats.has(&self.service, token));
            (!has).then_some(())
        };
        self.store.until(is_gone).await;
        "its seat was removed".to_owned()
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        let Some(token) = self.token else { return Ok(()) };
        self.store.change_up(|state| state.seats.leave(&self.service, token))
    }
}
