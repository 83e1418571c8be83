//! Keeps one instance listed, whatever happens to the registry: one task per registration, the same for every back end.
//!
//! ```text
//! acquire --ok--> held --lost--> (back-off) acquire ...   until deregistered or dropped: release
//!    `--error--> the caller of `register` (first time), else back-off and again, for ever
//! ```

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use crate::{Instance, RegisterError, ServiceName, backoff::Backoff};

/// What a back end does for one registration. A *tenure* is one period of being listed: a lease, a session.
#[async_trait]
pub(crate) trait Tenant: Send + 'static {
    type Tenure: Send;

    /// Writes the instance. It is bounded in time by the back end.
    async fn acquire(&mut self) -> Result<Self::Tenure, RegisterError>;

    /// Keeps the tenure alive; returns, with the reason, when the instance may no longer be listed. Cancelled by
    /// deregistration at any await.
    async fn held(&mut self, tenure: &mut Self::Tenure) -> String;

    /// Removes the instance; Ok is confirmed by the registry. Bounded in time, and tried again after an error.
    async fn release(&mut self, tenure: &mut Self::Tenure) -> Result<(), RegisterError>;

    /// After a first acquisition that failed: takes back a write that may have arrived, or may yet. Bounded in time, and
    /// tried again after an error. Nothing to do where such a write ends by itself.
    async fn undo(&mut self) -> Result<(), RegisterError> {
        Ok(())
    }
}

/// Whether an instance is listed at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// The registry confirmed it, and nothing has contradicted that since.
    Listed,
    /// It was lost; the owner tries to write it again.
    Lost,
    /// It was deregistered, confirmed by the registry.
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
    pub(crate) fn unlisted(registry: &str, instance: Instance) -> Self {
        let (stop, _) = watch::channel(false);
        let (_, state) = watch::channel(RegistrationState::Listed);
        Self { instance, control: Arc::new(Control { registry: registry.to_owned(), stop, state, owned: false }) }
    }

    /// A registration whose fate somebody else decides.
    pub(crate) fn with_ward(registry: &str, instance: Instance) -> (Self, Ward) {
        let (stop, stopped) = watch::channel(false);
        let (publish, state) = watch::channel(RegistrationState::Lost);
        let control = Arc::new(Control { registry: registry.to_owned(), stop, state, owned: true });
        (Self { instance, control }, Ward { stopped, publish })
    }

    /// The instance as it is listed.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Whether it is listed at the moment, to be watched.
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

/// The other side of a [`Registration`].
#[derive(Debug)]
pub(crate) struct Ward {
    stopped: watch::Receiver<bool>,
    publish: watch::Sender<RegistrationState>,
}

impl Ward {
    /// Waits until the registration is deregistered or dropped.
    pub(crate) async fn stopped(&mut self) {
        // An error: all owners of the sending side are gone.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }

    pub(crate) fn publish(&self, state: RegistrationState) {
        self.publish.send_replace(state);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.control.stop.send_replace(true);
    }
}

#[derive(Debug)]
struct Control {
    registry: String,
    stop: watch::Sender<bool>,
    state: watch::Receiver<RegistrationState>,
    /// Whether a task stands behind it.
    owned: bool,
}

impl Control {
    /// Whether its task has ended.
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
            Err(_) => Err(RegisterError::Timeout {
                registry: self.registry.clone(),
                operation: "confirm the deregistration",
                after: deadline,
            }),
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
    /// How long a registration waits for the end of an earlier one with the same id.
    const PREDECESSOR: Duration = Duration::from_secs(3);

    /// Acquires, and starts the owner. The acquisition runs to its end even if the caller is cancelled: then it is
    /// released again.
    pub(crate) async fn start<T: Tenant>(
        &self,
        registry: &str,
        service: &ServiceName,
        instance: Instance,
        tenant: T,
    ) -> Result<Registration, RegisterError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| RegisterError::NoRuntime { registry: registry.to_owned() })?;
        let (registration, Ward { stopped, publish }) = Registration::with_ward(registry, instance);
        let instance = &registration.instance;
        self.hold(service, instance.id(), &registration.control).await?;
        let (first, confirmed) = oneshot::channel();
        let owner =
            Owner { tenant, name: format!("`{service}` {} in {registry}", instance.id()), state: publish, stopped };
        runtime.spawn(owner.run(first));
        confirmed.await.unwrap_or_else(|_| Err(RegisterError::NoRuntime { registry: registry.to_owned() }))?;
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

    #[cfg(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper"))]
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
                    return Err(RegisterError::Closed { registry: control.registry.clone() });
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
            timeout_at(end, over).await.map_err(|_| RegisterError::Timeout {
                registry: control.registry.clone(),
                operation: "deregister the earlier instance of this id",
                after: Self::PREDECESSOR,
            })?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Owner<T> {
    tenant: T,
    name: String,
    state: watch::Sender<RegistrationState>,
    stopped: watch::Receiver<bool>,
}

impl<T: Tenant> Owner<T> {
    async fn run(mut self, first: oneshot::Sender<Result<(), RegisterError>>) {
        let mut tenure = match self.tenant.acquire().await {
            Ok(tenure) => tenure,
            Err(error) => {
                // An error here: the caller has stopped waiting.
                let _ = first.send(Err(error));
                let mut backoff = Backoff::default();
                while let Err(error) = self.tenant.undo().await {
                    debug!("{} may still be listed: {error}", self.name);
                    sleep(backoff.next_delay()).await;
                }
                return;
            }
        };
        if first.send(Ok(())).is_ok() {
            info!("{} is listed", self.name);
            self.state.send_replace(RegistrationState::Listed);
            tenure = self.hold(tenure).await;
        }
        self.release(tenure).await;
    }

    /// Returns the last tenure when deregistration is asked for.
    async fn hold(&mut self, mut tenure: T::Tenure) -> T::Tenure {
        let mut backoff = Backoff::default();
        loop {
            let reason = tokio::select! {
                biased;
                _ = self.stopped.wait_for(|stopped| *stopped) => return tenure,
                reason = self.tenant.held(&mut tenure) => reason,
            };
            warn!("{} was lost: {reason}", self.name);
            self.state.send_replace(RegistrationState::Lost);
            loop {
                tokio::select! {
                    biased;
                    _ = self.stopped.wait_for(|stopped| *stopped) => return tenure,
                    () = sleep(backoff.next_delay()) => {}
                }
                // Not cancelled: a write under way may arrive, so its outcome must be known before a release.
                match self.tenant.acquire().await {
                    Ok(next) => {
                        tenure = next;
                        backoff.reset();
                        break;
                    }
                    Err(error) => debug!("{}: {error}", self.name),
                }
            }
            info!("{} is listed again", self.name);
            self.state.send_replace(RegistrationState::Listed);
        }
    }

    async fn release(&mut self, mut tenure: T::Tenure) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.tenant.release(&mut tenure).await {
            debug!("{} is not deregistered yet: {error}", self.name);
            sleep(backoff.next_delay()).await;
        }
        info!("{} is deregistered", self.name);
        self.state.send_replace(RegistrationState::Deregistered);
    }
}

#[cfg(test)]
mod tests;
