//! Keeps one instance listed, whatever happens to the registry: one task per registration, the same for every back end.
//!
//! ```text
//! acquire --ok--> held --lost--> (back-off) acquire ...   until deregistered or dropped: release
//!    ^             `--updated--> acquire
//!    `--error--> the caller of `register` (first time), else back-off and again, for ever
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use crate::{
    About, Instance, RegisterError, ServiceName,
    backoff::{Backoff, Reasons},
    meter,
};

/// Keeper of one registration in one back end, made by [`Backend::lease`](crate::Backend::lease). Its calls never overlap.
#[async_trait]
pub trait LeaseKeeper: Send + 'static {
    /// Writes the instance under a lease, a session, or whatever ends with this process; again after a loss. An instance of the
    /// same id that is there is replaced, without a gap. Bounded in time, and never cancelled.
    async fn acquire(&mut self) -> Result<(), RegisterError>;

    /// Takes other weight and metadata of the same instance: what `acquire`, which is called next, writes in place of the old
    /// ones. It speaks to nobody.
    ///
    /// # Errors
    /// Values that this kind of registry cannot hold; then the old ones stay.
    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError>;

    /// Renews what `acquire` wrote. Returns, with the reason, when the instance may no longer be listed. Not bounded; cancelled by
    /// deregistration and updates at any await.
    async fn held(&mut self) -> String;

    /// Removes the instance, unless another process has written it since. Ok is confirmed by the registry. Bounded in time, never
    /// cancelled, and tried again after an error.
    async fn release(&mut self) -> Result<(), RegisterError>;

    /// Takes back a first acquisition that failed: a write that may have arrived, or may yet. Bounded in time, and tried again
    /// after an error. Nothing to do by default, which is right where such a write ends by itself.
    async fn undo(&mut self) -> Result<(), RegisterError> {
        Ok(())
    }
}

/// Moment at which the caller of a registration gets it.
pub(crate) enum Start {
    /// With the first confirmation.
    Confirmed,
    /// At once if the registry cannot be reached: it is listed later. The future ends when the registry is connected to.
    Eventually(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// State of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// The registry confirmed it, and nothing has contradicted that since.
    Listed,
    /// Lost; the owner tries to write it again.
    Lost,
    /// Deregistered, confirmed by the registry.
    Deregistered,
}

/// Keeps one instance listed until it is deregistered or dropped.
///
/// Dropping it deregisters in the background, as far as the runtime and the registry still run;
/// [`deregister`](Self::deregister) confirms it.
#[derive(Debug)]
#[must_use = "dropping a registration takes the instance off the registry"]
pub struct Registration {
    control: Arc<Control>,
}

impl Registration {
    /// A registration in a registry to which nothing is written.
    pub(crate) fn unlisted(about: &About, instance: Instance) -> Self {
        let (_, state) = watch::channel(RegistrationState::Listed);
        let (stop, _) = watch::channel(false);
        let instance = watch::Sender::new(instance);
        Self { control: Arc::new(Control { about: about.clone(), stop, state, instance, updates: None }) }
    }

    /// The instance as it is listed.
    pub fn instance(&self) -> Instance {
        self.control.instance.borrow().clone()
    }

    /// Lists the instance with this weight and metadata from now on, without a moment in which it is not listed. Returns when the
    /// registry has confirmed; id, host and port must be those of [`instance`](Self::instance).
    ///
    /// # Errors
    /// [`RegisterError::InvalidInstance`] for another address or id and for what the registry cannot hold, and its refusal: then
    /// the old ones stay. [`RegisterError::Timeout`] when `deadline` passes first: they are written as soon as the registry takes
    /// them.
    pub async fn update(&self, instance: Instance, deadline: Duration) -> Result<(), RegisterError> {
        self.control.update(instance, deadline).await
    }

    /// Its state, to be watched.
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.control.state.clone()
    }

    /// Takes the instance off the registry, and waits until the registry confirms.
    ///
    /// # Errors
    /// [`RegisterError::Timeout`] when `deadline` passes first; the owner goes on trying, and the registry drops the
    /// instance by itself when its lease ends.
    pub async fn deregister(self, deadline: Duration) -> Result<(), RegisterError> {
        self.control.clone().end(deadline).await
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.control.stop.send_replace(true);
    }
}

#[derive(Debug)]
struct Control {
    about: About,
    stop: watch::Sender<bool>,
    state: watch::Receiver<RegistrationState>,
    /// The instance as it was written last.
    instance: watch::Sender<Instance>,
    /// To the task that stands behind it, if there is one.
    updates: Option<mpsc::Sender<Update>>,
}

/// Request to list other weight and metadata, answered when they are.
type Update = (Instance, oneshot::Sender<Result<(), RegisterError>>);

impl Control {
    /// Returns true if its task has ended.
    fn is_over(&self) -> bool {
        self.state.has_changed().is_err()
    }

    async fn end(&self, deadline: Duration) -> Result<(), RegisterError> {
        self.stop.send_replace(true);
        if self.updates.is_none() {
            return Ok(());
        }
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| *state == RegistrationState::Deregistered);
        match timeout_at(Instant::now() + deadline, ended).await {
            // An owner that is gone ended with its runtime: there is nobody left to wait for.
            Ok(_) => Ok(()),
            Err(_) => Err(self.about.late("confirm the deregistration", deadline)),
        }
    }

    async fn update(&self, instance: Instance, deadline: Duration) -> Result<(), RegisterError> {
        instance.check()?;
        {
            let listed = self.instance.borrow();
            if (listed.id(), listed.host(), listed.port()) != (instance.id(), instance.host(), instance.port()) {
                return Err(RegisterError::InvalidInstance {
                    instance: instance.id().to_owned(),
                    reason: format!(
                        "an update keeps id and address, here `{}` at {}: deregister, and register the other",
                        listed.id(),
                        listed.address()
                    ),
                });
            }
        }
        let Some(updates) = &self.updates else {
            self.instance.send_replace(instance);
            return Ok(());
        };
        let (answer, answered) = oneshot::channel();
        let updating = async {
            // An error: the owner has ended, or ends.
            updates.send((instance, answer)).await.map_err(|_| self.about.closed())?;
            answered.await.unwrap_or_else(|_| Err(self.about.closed()))
        };
        self.about.within(deadline, "write the instance", updating).await
    }
}

/// The registrations of one registry client: each id of a service is held once, and `close` ends them all.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_id: HashMap<(ServiceName, String), Arc<Control>>,
    closed: bool,
}

impl Owners {
    /// Longest wait of a registration for the end of an earlier one with the same id.
    const PREDECESSOR: Duration = Duration::from_secs(3);

    /// Acquires, and starts the owner. The acquisition runs to its end even if the caller is cancelled: then it is
    /// released again.
    pub(crate) async fn start(
        &self,
        about: &About,
        service: &ServiceName,
        instance: Instance,
        keeper: Box<dyn LeaseKeeper>,
        start: Start,
    ) -> Result<Registration, RegisterError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| about.no_runtime())?;
        let (stop, stopped) = watch::channel(false);
        let (publish, state) = watch::channel(RegistrationState::Lost);
        let name = format!("`{service}` {} in {}", instance.id(), about.url());
        let (id, instance) = (instance.id().to_owned(), watch::Sender::new(instance));
        let (updates, updated) = mpsc::channel(1);
        let listed = instance.clone();
        let control = Arc::new(Control { about: about.clone(), stop, state, instance, updates: Some(updates) });
        let registration = Registration { control };
        self.hold(service, &id, &registration.control).await?;
        let (first, confirmed) = oneshot::channel();
        let updates = Updates { requests: updated, waiting: Vec::new() };
        let facts = about.clone();
        runtime.spawn(
            Owner { keeper, name, about: facts, state: publish, stopped, listed, was_listed: false, updates }
                .run(start, first),
        );
        confirmed.await.unwrap_or_else(|_| Err(about.no_runtime()))?;
        Ok(registration)
    }

    /// Deregisters everything, all at once, and refuses what comes after. The first error is returned after all have
    /// ended or timed out.
    pub(crate) async fn end_all(&self, deadline: Duration) -> Result<(), RegisterError> {
        let controls: Vec<_> = {
            let mut held = self.lock();
            held.closed = true;
            held.by_id.drain().map(|(_, control)| control).collect()
        };
        for control in &controls {
            control.stop.send_replace(true);
        }
        let end = Instant::now() + deadline;
        let mut result = Ok(());
        for control in controls {
            let ended = control.end(end.saturating_duration_since(Instant::now())).await;
            result = result.and(ended);
        }
        result
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes the id for `control`. Two owners of one id would undo each other's writes, so an earlier one must have
    /// ended: one that is listed is a refusal, one that is being deregistered is waited for.
    async fn hold(&self, service: &ServiceName, id: &str, control: &Arc<Control>) -> Result<(), RegisterError> {
        let end = Instant::now() + Self::PREDECESSOR;
        loop {
            let mut ending = {
                let mut held = self.lock();
                if held.closed {
                    return Err(control.about.closed());
                }
                held.by_id.retain(|_, control| !control.is_over());
                match held.by_id.entry((service.clone(), id.to_owned())) {
                    Entry::Vacant(entry) => {
                        entry.insert(control.clone());
                        return Ok(());
                    }
                    Entry::Occupied(entry) if *entry.get().stop.borrow() => entry.get().state.clone(),
                    Entry::Occupied(_) => {
                        return Err(RegisterError::InvalidInstance {
                            instance: id.to_owned(),
                            reason: format!("this process has it registered as `{service}`: deregister that first"),
                        });
                    }
                }
            };
            let over = async { while ending.changed().await.is_ok() {} };
            let late = |_| control.about.late("deregister the earlier instance of this id", Self::PREDECESSOR);
            timeout_at(end, over).await.map_err(late)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until deregistration is asked for.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    // An error: the registration was dropped, which asks for it too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct Owner {
    keeper: Box<dyn LeaseKeeper>,
    name: String,
    about: About,
    state: watch::Sender<RegistrationState>,
    stopped: watch::Receiver<bool>,
    /// The instance as it was written last.
    listed: watch::Sender<Instance>,
    was_listed: bool,
    updates: Updates,
}

struct Updates {
    requests: mpsc::Receiver<Update>,
    /// Updates that the keeper has taken and not yet written.
    waiting: Vec<Update>,
}

impl Owner {
    async fn run(mut self, start: Start, caller: oneshot::Sender<Result<(), RegisterError>>) {
        let (mut caller, is_patient) = (Some(caller), matches!(start, Start::Eventually(_)));
        if let Start::Eventually(mut connected) = start {
            let is_connected = tokio::select! {
                biased;
                () = &mut connected => true,
                () = std::future::ready(()) => false,
            };
            if !is_connected {
                self.promise(&mut caller);
                loop {
                    tokio::select! {
                        biased;
                        () = asked(&mut self.stopped) => {
                            self.show(RegistrationState::Deregistered);
                            return;
                        }
                        () = &mut connected => break,
                        Some(update) = self.updates.requests.recv() => self.take(update),
                    }
                }
            }
        }
        let is_listed = match self.acquire().await {
            Ok(()) => true,
            Err(error) if caller.is_none() || (is_patient && error.is_transient()) => {
                warn!("{} is not listed yet: {error}", self.name);
                self.promise(&mut caller);
                false
            }
            Err(error) => return self.undo(caller, error).await,
        };
        if is_listed {
            self.show(RegistrationState::Listed);
        }
        if caller.is_none_or(|caller| caller.send(Ok(())).is_ok()) {
            self.hold(is_listed).await;
        }
        self.release().await;
    }

    /// Publishes its state, and counts.
    fn show(&mut self, state: RegistrationState) {
        let before = self.state.send_replace(state);
        let change = i8::from(state == RegistrationState::Listed) - i8::from(before == RegistrationState::Listed);
        if change != 0 {
            meter::listed(&self.about, f64::from(change));
        }
        if change > 0 && self.was_listed {
            meter::regained(&self.about);
        }
        self.was_listed |= change > 0;
    }

    /// Hands an update to the keeper, unless that refuses it.
    fn take(&mut self, (instance, answer): Update) {
        match self.keeper.update(&instance) {
            Ok(()) => self.updates.waiting.push((instance, answer)),
            // An error here: the caller has stopped waiting, as below.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Writes what the keeper has, and answers the updates that are written or refused with it. Not cancelled: a write under way
    /// may arrive, so its outcome must be known before a release.
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let written = self.keeper.acquire().await.inspect_err(|error| meter::failed(&self.about, error));
        if written.as_ref().is_err_and(RegisterError::is_transient) {
            return written;
        }
        let updates = std::mem::take(&mut self.updates.waiting);
        match (&written, updates.last()) {
            (Ok(()), Some((instance, _))) => drop(self.listed.send_replace(instance.clone())),
            (Err(_), Some(_)) => {
                let before = self.listed.borrow().clone();
                if let Err(error) = self.keeper.update(&before) {
                    warn!("{}: {error}", self.name);
                }
            }
            (_, None) => {}
        }
        for (_, answer) in updates {
            drop(answer.send(written.clone()));
        }
        written
    }

    fn promise(&self, caller: &mut Option<oneshot::Sender<Result<(), RegisterError>>>) {
        if let Some(caller) = caller.take() {
            warn!("{} is listed as soon as the registry can be reached", self.name);
            // An error: the caller has stopped waiting, and its registration with it.
            let _ = caller.send(Ok(()));
        }
    }

    async fn undo(mut self, caller: Option<oneshot::Sender<Result<(), RegisterError>>>, error: RegisterError) {
        if let Some(caller) = caller {
            // An error here: the caller has stopped waiting.
            let _ = caller.send(Err(error));
        }
        let mut backoff = Backoff::default();
        while let Err(error) = self.keeper.undo().await {
            debug!("{} may still be listed: {error}", self.name);
            sleep(backoff.next_delay()).await;
        }
    }

    /// Returns when deregistration is asked for.
    async fn hold(&mut self, mut is_listed: bool) {
        let (mut backoff, mut reasons) = (Backoff::default(), Reasons::default());
        let mut is_updated = false;
        loop {
            if is_listed {
                if !is_updated {
                    info!("{} is listed", self.name);
                }
                self.show(RegistrationState::Listed);
                backoff.reset();
                reasons = Reasons::default();
                let lost = tokio::select! {
                    biased;
                    () = asked(&mut self.stopped) => return,
                    Some(update) = self.updates.requests.recv() => Err(update),
                    reason = self.keeper.held() => Ok(reason),
                };
                match lost {
                    Err(update) => {
                        self.take(update);
                        is_updated = true;
                    }
                    Ok(reason) => {
                        warn!("{} was lost: {reason}", self.name);
                        meter::lost(&self.about, &reason);
                        self.show(RegistrationState::Lost);
                        is_updated = false;
                    }
                }
            }
            if !is_updated {
                tokio::select! {
                    biased;
                    () = asked(&mut self.stopped) => return,
                    Some(update) = self.updates.requests.recv() => self.take(update),
                    () = sleep(backoff.next_delay()) => {}
                }
            }
            let acquired = self.acquire().await;
            is_listed = acquired.is_ok();
            if let Err(error) = acquired {
                is_updated = false;
                self.show(RegistrationState::Lost);
                reasons.tell(&self.name, &error);
            }
        }
    }

    async fn release(&mut self) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.keeper.release().await {
            debug!("{} is not deregistered yet: {error}", self.name);
            sleep(backoff.next_delay()).await;
        }
        info!("{} is deregistered", self.name);
        self.show(RegistrationState::Deregistered);
    }
}

#[cfg(test)]
mod tests;
