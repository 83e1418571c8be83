//! Resolver of one service for a proxy: picks an instance with a connection, and dials those without. A pick reads shared
//! immutable data: no lock, no I/O.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ms_register::{Freshness, Instance, MsRegister, ServiceName};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    balance::{Clock, PickContext},
    connection::Change,
    endpoint::{Dialler, Endpoint, EndpointNumber, Shared},
    instances::{Instances, Member},
    options::ClientConfig,
    request::{CallRequest, callers_address, not_sent},
    retry::Budget,
    roster::{Roster, Settings},
};
use crate::{Code, Outcome, Status, meter, shard::Cursor};

/// Longest time after which a waiter for a connection picks again.
const PICK_AGAIN: Duration = Duration::from_millis(50);

/// Picks that may meet a connection that has just ended.
const PICKS: usize = 4;

#[derive(Debug)]
pub(crate) struct Resolver {
    roster: Arc<Roster<Endpoint>>,
    config: Arc<ClientConfig>,
    /// Failure of the last dial, for messages.
    last_error: Mutex<Option<Status>>,
    /// Turns of the instances without a connection to be dialled.
    next_dial: Cursor,
    budget: Budget,
    started: Instant,
}

/// Connection for one attempt, and its instance.
pub(crate) struct Picked {
    pub(crate) endpoint: EndpointNumber,
    pub(crate) connection: Shared,
}

/// Instances of earlier attempts.
pub(crate) type Tried = Vec<EndpointNumber>;

impl Resolver {
    /// A resolver that does not follow the registry yet.
    pub(crate) fn new(
        service: ServiceName,
        registry: Arc<dyn MsRegister>,
        config: Arc<ClientConfig>,
        settings: Settings,
    ) -> Self {
        let (endpoints, connections) = (AtomicU64::new(0), config.discovery.connections_per_instance);
        let make = move |instance, _: &Arc<Clock>| {
            let number = EndpointNumber(endpoints.fetch_add(1, Ordering::Relaxed));
            Endpoint::new(number, instance, connections)
        };
        Self {
            roster: Roster::new(service, registry, settings, make),
            last_error: Mutex::new(None),
            next_dial: Cursor::default(),
            budget: Budget::new(&config.retry),
            config,
            started: Instant::now(),
        }
    }

    /// Follows the registry on this runtime from now on, and no longer on another.
    pub(crate) fn follow_on(&self, runtime: &Handle) {
        self.roster.follow_on(runtime);
    }

    /// Returns true if no instance is listed or held.
    pub(crate) fn lists_none(&self) -> bool {
        self.roster.lists_none()
    }

    /// Forgets the service, if its time has come and no call waits; returns true if so.
    pub(crate) fn forget(&self) -> bool {
        self.roster.forget()
    }

    /// Returns true if the proxy has forgotten the service: calls need another resolver.
    #[inline]
    pub(crate) fn is_forgotten(&self) -> bool {
        self.roster.is_forgotten()
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes a retry from the budget; false if nothing is left.
    pub(crate) fn grants_retry(&self) -> bool {
        let granted = self.budget.withdraw(self.started.elapsed());
        meter::budget(self.service(), self.budget.saved(), granted);
        granted
    }

    /// Returns true if the call may go to more than one instance.
    pub(crate) fn has_others(&self, request: &CallRequest<'_>) -> bool {
        request.instance.is_none() && self.roster.load().listed.slots().len() > 1
    }

    /// Instances that calls choose from at the moment.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.roster.load().all.iter().map(|endpoint| Instance::clone(endpoint.instance())).collect()
    }

    /// Id of an instance that is still listed.
    pub(crate) fn id_of(&self, number: EndpointNumber) -> Option<String> {
        let instances = self.roster.load();
        let found = instances.all.iter().find(|endpoint| endpoint.number() == number);
        found.map(|endpoint| endpoint.instance().id().to_owned())
    }

    /// An open connection to an instance, if possible to an instance that was not tried. Without any, waits until the call's
    /// deadline.
    #[inline]
    pub(crate) async fn connection(
        self: &Arc<Self>,
        request: &CallRequest<'_>,
        tried: &Tried,
    ) -> Result<Picked, Status> {
        match self.pick(request, tried)? {
            Some(picked) => Ok(picked),
            // On the heap: the calls that need not wait are smaller for it.
            None => Box::pin(self.wait_for_connection(request, tried)).await,
        }
    }

    /// Without waiting: one of the instances that have a connection. An instance without a connection is dialled meanwhile.
    fn pick(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Option<Picked>, Status> {
        let instances = self.roster.load();
        if instances.unsettled && self.roster.is_unfollowed() {
            self.roster.keep_following();
        }
        if let Some(id) = request.instance {
            return self.pick_instance(&instances, id);
        }
        if instances.listed.slots().is_empty() {
            self.roster.found_none();
            return self.roster.nothing(&instances).map_or(Ok(None), Err);
        }
        if instances.unsettled {
            match instances.of_key(&self.pick_context(request)) {
                Some(slot) => self.dial_wanted(&instances, slot),
                None => self.dial_next(&instances),
            }
        }
        let is_tried = |slot: u32| tried.contains(&instances.all[slot as usize].number());
        // A connection may have ended since the list was made; then another pick finds another one.
        for _ in 0..PICKS {
            let picked = match instances.only() {
                Some(only) => Some(only),
                None if tried.is_empty() => instances.pick(&self.pick_context(request))?,
                None => instances.pick_other(&self.pick_context(request), is_tried)?,
            };
            let Some(slot) = picked else { break };
            let endpoint = &instances.all[slot as usize];
            let turn = endpoint.turn();
            let ready = instances.ready[slot as usize].as_ref().map(|ready| &ready[turn]);
            let connection = match ready.filter(|connection| connection.is_open()) {
                Some(connection) => Some(connection.share()),
                None => endpoint.connection(turn, self, false),
            };
            if let Some(connection) = connection {
                return Ok(Some(Picked { endpoint: endpoint.number(), connection }));
            }
        }
        Ok(None)
    }

    #[inline]
    fn pick_context<'a>(&'a self, request: &CallRequest<'a>) -> PickContext<'a> {
        let key = match request.key {
            None if self.roster.balancing().hashes_addresses() => callers_address(),
            key => key.map(|key| key.hashes),
        };
        PickContext { key, bytes: request.key.map(|key| &*key.bytes), clock: self.roster.clock() }
    }

    /// The instance of this id, if it is connected; else it is dialled meanwhile.
    fn pick_instance(self: &Arc<Self>, instances: &Instances<Endpoint>, id: &str) -> Result<Option<Picked>, Status> {
        let Some(at) = Roster::find(instances, id) else {
            self.roster.found_none();
            return match instances.snapshot.freshness() {
                Freshness::Never if !instances.snapshot.is_failing() => Ok(None),
                _ => {
                    let (service, url) = (self.service(), self.roster.registry().url());
                    Err(not_sent(Code::Unavailable, format!("no instance {id:?} of `{service}` in {url}")))
                }
            };
        };
        let endpoint = &instances.all[at];
        let connection = endpoint.connection(endpoint.turn(), self, true);
        if connection.is_none()
            && let Some(reason) = endpoint.last_failure()
        {
            let message = format!("{id} of `{}` could not be reached the last time: {reason}", self.service());
            return Err(not_sent(Code::Unavailable, message));
        }
        Ok(connection.map(|connection| Picked { endpoint: endpoint.number(), connection }))
    }

    /// Dials one of the instances without a connection, each in its turn.
    fn dial_next(self: &Arc<Self>, instances: &Instances<Endpoint>) {
        let slots = instances.listed.slots();
        let at = self.next_dial.advance() % slots.len() as u32;
        let endpoint = &instances.all[slots[at as usize] as usize];
        if !endpoint.is_connected() {
            endpoint.connection(endpoint.turn(), self, instances.live == 0);
        }
    }

    /// Dials the instance that a key belongs to, in a list too long to connect all of it.
    fn dial_wanted(self: &Arc<Self>, instances: &Instances<Endpoint>, slot: u32) {
        let endpoint = &instances.all[slot as usize];
        if !instances.has_room() || endpoint.is_connected() {
            return;
        }
        endpoint.connection(endpoint.turn(), self, instances.live == 0);
        if endpoint.has_failed() {
            self.dial_next(instances);
        }
    }

    async fn wait_for_connection(self: &Arc<Self>, request: &CallRequest<'_>, tried: &Tried) -> Result<Picked, Status> {
        let _waiting = self.roster.waiting();
        self.roster.keep_following();
        let deadline = request.deadline();
        loop {
            let changed = self.roster.changed();
            if self.is_forgotten() {
                let message = format!("`{}` has just been forgotten, since no instance is listed", self.service());
                return Err(not_sent(Code::Unavailable, message));
            }
            if let Some(picked) = self.pick(request, tried)? {
                return Ok(picked);
            }
            // Then another instance is dialled too: the first may never answer.
            let again = deadline.min(Instant::now() + PICK_AGAIN);
            tokio::select! {
                () = changed => {}
                () = sleep_until(again) => {}
            }
            if Instant::now() >= deadline {
                let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(self.roster.not_connected(&self.roster.load(), last_error.as_ref()));
            }
        }
    }

    /// Error for an empty list; `None` while the registry has not answered.
    pub(crate) fn nothing(&self, instances: &Instances<Endpoint>) -> Option<Status> {
        self.roster.nothing(instances)
    }

    /// The list, once something is listed; waits for the registry's first answer until the deadline.
    pub(crate) async fn listed(&self, deadline: Instant) -> Result<Arc<Instances<Endpoint>>, Status> {
        self.roster.listed(deadline).await
    }

    /// Records a failed attempt: an instance that does not answer is ejected, so that calls leave it alone for a while.
    pub(crate) fn attempt_failed(&self, picked: &Picked, status: &Status) {
        let state = picked.connection.ejection();
        if status.is_silence() {
            self.roster.unanswered(state, status);
        } else if status.outcome() != Outcome::NotSent {
            state.answered();
        }
    }
}

impl Resolver {
    /// The instance, unless it has dropped out of the list, or of the subset that this client connects.
    fn connected(&self, id: &str) -> Option<Arc<Endpoint>> {
        let instances = self.roster.load();
        let slot = Roster::find(&instances, id)?;
        let is_listed = instances.listed.slots().binary_search(&(slot as u32)).is_ok();
        is_listed.then(|| instances.all[slot].clone())
    }
}

impl Dialler for Resolver {
    fn service(&self) -> &str {
        self.roster.service()
    }

    fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    fn scope(&self) -> Option<&str> {
        self.roster.registry().scope()
    }

    fn clock(&self) -> &Arc<Clock> {
        self.roster.clock()
    }

    fn keep_following(&self) {
        self.roster.keep_following();
    }

    fn dialled(&self, error: Option<Status>) {
        if error.is_some() {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        }
        self.roster.connections_changed();
    }

    fn closed(&self, id: &str, why: Change) {
        if why == Change::WentAway {
            self.roster.is_gone(id);
        }
        self.roster.connections_changed();
    }

    fn dial(self: &Arc<Self>, id: &str, at: usize) {
        if let Some(endpoint) = self.connected(id) {
            endpoint.dial_again(at, self);
        }
    }

    fn replace(self: &Arc<Self>, id: &str, at: usize) {
        if let Some(endpoint) = self.connected(id) {
            endpoint.dial_anew(at, self);
        }
    }

    fn is_gone(&self, id: &str) {
        self.roster.is_gone(id);
    }
}
