//! Keeps one instance listed, whatever happens to the registry: one task per registration, the same for every back end.
//!
//! ```text
//! acquire --ok--> held --lost--> (back-off) acquire ...   until deregistered or dropped: release
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
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use crate::{
    About, Instance, RegisterError, ServiceName,
    backoff::{Backoff, Reasons},
};

/// Keeper of one registration in one back end, made by [`Backend::lease`](crate::Backend::lease). Its calls never overlap.
#[async_trait]
pub trait LeaseKeeper: Send + 'static {
    /// Writes the instance under a lease, a session, or whatever ends with this process; again after a loss. An instance of the
    /// same id that is there is replaced, without a gap. Bounded in time, and never cancelled.
    async fn acquire(&mut self) -> Result<(), RegisterError>;

    /// Renews what `acquire` wrote. Returns, with the reason, when the instance may no longer be listed. Not bounded; cancelled by
    /// deregistration at any await.
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
    instance: Instance,
    control: Arc<Control>,
}

impl Registration {
    /// A registration in a registry to which nothing is written.
    pub(crate) fn unlisted(about: &About, instance: Instance) -> Self {
        let (stop, _) = watch::channel(false);
        let (_, state) = watch::channel(RegistrationState::Listed);
        Self { instance, control: Arc::new(Control { about: about.clone(), stop, state, owned: false }) }
    }

    /// The instance as it is listed.
    pub fn instance(&self) -> &Instance {
        &self.instance
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
    /// True if a task stands behind it.
    owned: bool,
}

impl Control {
    /// Returns true if its task has ended.
    fn is_over(&self) -> bool {
        self.state.has_changed().is_err()
    }

    async fn end(&self, deadline: Duration) -> Result<(), RegisterError> {
        self.stop.send_replace(true);
        if !self.owned {
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
        let control = Arc::new(Control { about: about.clone(), stop, state, owned: true });
        let registration = Registration { instance, control };
        let instance = &registration.instance;
        self.hold(service, instance.id(), &registration.control).await?;
        let (first, confirmed) = oneshot::channel();
        let name = format!("`{service}` {} in {}", instance.id(), about.url());
        runtime.spawn(Owner { keeper, name, state: publish, stopped }.run(start, first));
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

struct Owner {
    keeper: Box<dyn LeaseKeeper>,
    name: String,
    state: watch::Sender<RegistrationState>,
    stopped: watch::Receiver<bool>,
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
                tokio::select! {
                    biased;
                    _ = self.stopped.wait_for(|stopped| *stopped) => {
                        self.state.send_replace(RegistrationState::Deregistered);
                        return;
                    }
                    () = connected => {}
                }
            }
        }
        let is_listed = match self.keeper.acquire().await {
            Ok(()) => true,
            Err(error) if caller.is_none() || (is_patient && error.is_transient()) => {
                warn!("{} is not listed yet: {error}", self.name);
                self.promise(&mut caller);
                false
            }
            Err(error) => return self.undo(caller, error).await,
        };
        if is_listed {
            self.state.send_replace(RegistrationState::Listed);
        }
        if caller.is_none_or(|caller| caller.send(Ok(())).is_ok()) {
            self.hold(is_listed).await;
        }
        self.release().await;
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
        loop {
            if is_listed {
                info!("{} is listed", self.name);
                self.state.send_replace(RegistrationState::Listed);
                backoff.reset();
                reasons = Reasons::default();
                let reason = tokio::select! {
                    biased;
                    _ = self.stopped.wait_for(|stopped| *stopped) => return,
                    reason = self.keeper.held() => reason,
                };
                warn!("{} was lost: {reason}", self.name);
                self.state.send_replace(RegistrationState::Lost);
            }
            tokio::select! {
                biased;
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
                () = sleep(backoff.next_delay()) => {}
            }
            // Not cancelled: a write under way may arrive, so its outcome must be known before a release.
            let acquired = self.keeper.acquire().await;
            is_listed = acquired.is_ok();
            if let Err(error) = acquired {
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
        self.state.send_replace(RegistrationState::Deregistered);
    }
}

#[cfg(test)]
mod tests;
