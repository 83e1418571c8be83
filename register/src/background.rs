//! A registry that need not be up when its users start: it is connected to in the background, for as long as it takes.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use crate::{
    Election, Instance, MsRegister, RegisterError, Registration, RegistrationState, ServiceName, SnapshotWatch,
    backoff::Backoff,
    owner::Ward,
    watch::{SnapshotCell, Watches},
};

/// How long a confirmation is waited for; the registry's own client goes on trying after it.
const DEREGISTER: Duration = Duration::from_secs(30);

/// Whoever waits for the registry learns of its return within this time, and the time that connecting takes.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is known of a registry before it answers.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) url: String,
    pub(crate) scope: String,
    pub(crate) expiry: Duration,
    pub(crate) propagation: Duration,
}

/// How far the connecting is.
#[derive(Clone, Debug)]
enum Link {
    Down(RegisterError),
    Up(Arc<dyn MsRegister>),
    Closed,
}

/// Delegates to the registry as soon as that is there.
#[derive(Debug)]
pub(crate) struct Background {
    facts: Facts,
    runtime: Handle,
    link: watch::Sender<Link>,
    watches: Watches,
    /// The task that connects, and one for each registration that was asked for before.
    tasks: Mutex<JoinSet<()>>,
}

impl Background {
    /// Calls `connect` until it succeeds. Needs a tokio runtime.
    pub(crate) fn start<C, F>(facts: Facts, connect: C) -> Result<Arc<dyn MsRegister>, RegisterError>
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Arc<dyn MsRegister>, RegisterError>> + Send + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| RegisterError::NoRuntime { registry: facts.url.clone() })?;
        let reason = "it is being connected to".to_owned();
        let link = watch::Sender::new(Link::Down(RegisterError::Unreachable { registry: facts.url.clone(), reason }));
        let background = Self { runtime, link, facts, watches: Watches::default(), tasks: Mutex::default() };
        background.tasks().spawn_on(establish(background.link.clone(), connect), &background.runtime);
        Ok(Arc::new(background))
    }

    /// The registry, or why there is none.
    fn inner(&self) -> Result<Arc<dyn MsRegister>, RegisterError> {
        match &*self.link.borrow() {
            Link::Up(inner) => Ok(inner.clone()),
            Link::Down(error) => Err(error.clone()),
            Link::Closed => Err(RegisterError::Closed { registry: self.facts.url.clone() }),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MsRegister for Background {
    /// Returns at once when the registry is away: the instance is listed when it comes up.
    async fn register(&self, service: &ServiceName, instance: Instance) -> Result<Registration, RegisterError> {
        instance.check()?;
        match self.inner() {
            Err(error @ RegisterError::Closed { .. }) => return Err(error),
            Ok(inner) => match inner.register(service, instance.clone()).await {
                Err(RegisterError::Unreachable { .. } | RegisterError::Timeout { .. }) => {}
                registered => return registered,
            },
            Err(_) => {}
        }
        warn!("`{service}` {} is listed as soon as {} can be reached", instance.id(), self.facts.url);
        let (registration, ward) = Registration::with_ward(&self.facts.url, instance.clone());
        let list = list_later(self.link.subscribe(), service.clone(), instance, ward);
        self.tasks().spawn_on(list, &self.runtime);
        Ok(registration)
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Instance>, RegisterError> {
        self.inner()?.list(service).await
    }

    fn watch(&self, service: &ServiceName) -> SnapshotWatch {
        let (link, name) = (self.link.subscribe(), service.clone());
        self.watches.open(&self.runtime, service, |cell| follow(link, name, cell))
    }

    async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        let end = Instant::now() + deadline;
        let before = self.link.send_replace(Link::Closed);
        self.watches.close();
        let mut tasks = std::mem::take(&mut *self.tasks());
        let ended = timeout_at(end, async { while tasks.join_next().await.is_some() {} }).await;
        let left = end.saturating_duration_since(Instant::now());
        match before {
            Link::Up(inner) => inner.close(left).await?,
            Link::Down(_) | Link::Closed => {}
        }
        ended.map_err(|_| RegisterError::Timeout {
            registry: self.facts.url.clone(),
            operation: "confirm the deregistration",
            after: deadline,
        })
    }

    fn url(&self) -> &str {
        &self.facts.url
    }

    fn scope(&self) -> Option<&str> {
        Some(&self.facts.scope)
    }

    fn expiry(&self) -> Duration {
        self.facts.expiry
    }

    fn propagation(&self) -> Duration {
        self.facts.propagation
    }

    fn election(&self) -> Result<Arc<dyn Election>, RegisterError> {
        self.inner()?.election()
    }
}

/// Registrations outlive the registry client that made them, as with every back end.
impl Drop for Background {
    fn drop(&mut self) {
        self.watches.close();
        self.tasks().detach_all();
    }
}

/// Connects until that succeeds, or the registry is closed, or nobody waits for it any more.
async fn establish<C, F>(link: watch::Sender<Link>, connect: C)
where
    C: Fn() -> F,
    F: Future<Output = Result<Arc<dyn MsRegister>, RegisterError>>,
{
    let mut backoff = Backoff::default();
    let mut end = link.subscribe();
    let connecting = async {
        loop {
            match connect().await {
                Ok(inner) => {
                    info!("connected to {}", inner.url());
                    link.send_if_modified(|link| replace_if_down(link, Link::Up(inner.clone())));
                    return;
                }
                Err(error) => {
                    debug!("{error}");
                    link.send_if_modified(|link| replace_if_down(link, Link::Down(error)));
                }
            }
            let is_wanted = link.sender_count() > 1 || link.receiver_count() > 1;
            if !is_wanted {
                return;
            }
            sleep(backoff.next_delay().min(LONGEST_PAUSE)).await;
        }
    };
    tokio::select! {
        () = connecting => {}
        () = closed(&mut end) => {}
    }
}

fn replace_if_down(link: &mut Link, new: Link) -> bool {
    let down = matches!(link, Link::Down(_));
    if down {
        *link = new;
    }
    down
}

/// Waits for the registry; `None` when it is closed first.
async fn up(link: &mut watch::Receiver<Link>) -> Option<Arc<dyn MsRegister>> {
    match &*link.wait_for(|link| !matches!(link, Link::Down(_))).await.ok()? {
        Link::Up(inner) => Some(inner.clone()),
        Link::Down(_) | Link::Closed => None,
    }
}

/// Waits until the registry is closed: for ever, if it is only dropped.
async fn closed(link: &mut watch::Receiver<Link>) {
    if link.wait_for(|link| matches!(link, Link::Closed)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Registers when the registry comes up, and deregisters when that is asked for.
async fn list_later(mut link: watch::Receiver<Link>, service: ServiceName, instance: Instance, mut ward: Ward) {
    let registered = async {
        let inner = up(&mut link).await?;
        let mut backoff = Backoff::default();
        loop {
            match inner.register(&service, instance.clone()).await {
                Ok(registration) => return Some(registration),
                Err(RegisterError::Closed { .. }) => return None,
                Err(error) => warn!("`{service}` {} is not listed yet: {error}", instance.id()),
            }
            sleep(backoff.next_delay()).await;
        }
    };
    let registration = tokio::select! {
        registration = registered => registration,
        () = ward.stopped() => None,
    };
    if let Some(registration) = registration {
        let mut state = registration.state();
        loop {
            ward.publish(*state.borrow_and_update());
            tokio::select! {
                changed = state.changed() => if changed.is_err() { break },
                () = ward.stopped() => break,
                () = closed(&mut link) => break,
            }
        }
        if let Err(error) = registration.deregister(DEREGISTER).await {
            warn!("{error}");
        }
    }
    ward.publish(RegistrationState::Deregistered);
}

/// Shows what the registry's own watch shows, and until then why there is none.
async fn follow(mut link: watch::Receiver<Link>, service: ServiceName, cell: SnapshotCell) {
    let inner = loop {
        match &*link.borrow_and_update() {
            Link::Up(inner) => break inner.clone(),
            Link::Down(error) => cell.fail(error),
            Link::Closed => return,
        }
        if link.changed().await.is_err() {
            return;
        }
    };
    let mut watch = inner.watch(&service);
    let mut snapshot = watch.current();
    loop {
        cell.mirror(snapshot);
        match watch.changed().await {
            Ok(changed) => snapshot = changed,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Freshness, Memory};

    /// A registry in memory that is there after so many tries.
    fn after(tries: u32) -> (Arc<Memory>, Arc<dyn MsRegister>) {
        let memory = Arc::new(Memory::new());
        let facts = Facts {
            url: "test://".to_owned(),
            scope: memory.scope().unwrap().to_owned(),
            expiry: Duration::ZERO,
            propagation: Duration::ZERO,
        };
        let (behind, left) = (memory.clone(), Arc::new(AtomicU32::new(tries)));
        let connect = move || {
            let (memory, left) = (behind.clone(), left.clone());
            async move {
                if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let reason = "not there yet".to_owned();
                    return Err(RegisterError::Unreachable { registry: "test://".to_owned(), reason });
                }
                Ok(memory as Arc<dyn MsRegister>)
            }
        };
        (memory, Background::start(facts, connect).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_before_is_done_when_it_is_up() {
        let (memory, registry) = after(3);
        let goods: ServiceName = "goods".parse().unwrap();
        let mut watch = registry.watch(&goods);
        watch.wait_for(|snapshot| snapshot.is_failing()).await.unwrap();
        assert_eq!(watch.current().freshness(), Freshness::Never);
        let error = registry.list(&goods).await.unwrap_err().to_string();
        assert!(error.contains("not there yet"), "{error}");

        let registration = registry.register(&goods, Instance::new("h", 80)).await.unwrap();
        let mut state = registration.state();
        assert_eq!(*state.borrow(), RegistrationState::Lost);
        state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
        watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
        assert_eq!(registry.list(&goods).await.unwrap().len(), 1);

        memory.wipe();
        watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
        registration.deregister(Duration::from_secs(1)).await.unwrap();
        assert!(memory.list(&goods).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_outlives_its_client() {
        let (memory, registry) = after(3);
        let goods: ServiceName = "goods".parse().unwrap();
        let registration = registry.register(&goods, Instance::new("h", 80)).await.unwrap();
        drop(registry);
        let mut state = registration.state();
        state.wait_for(|state| *state == RegistrationState::Listed).await.unwrap();
        registration.deregister(Duration::from_secs(1)).await.unwrap();
        assert!(memory.list(&goods).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_listed_is_deregistered_at_once() {
        let (_, registry) = after(u32::MAX);
        let goods: ServiceName = "goods".parse().unwrap();
        let registration = registry.register(&goods, Instance::new("h", 80)).await.unwrap();
        registration.deregister(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_deregisters_and_ends_the_watches() {
        for tries in [0, u32::MAX] {
            let (memory, registry) = after(tries);
            let goods: ServiceName = "goods".parse().unwrap();
            let mut watch = registry.watch(&goods);
            let registration = registry.register(&goods, Instance::new("h", 80)).await.unwrap();
            if tries == 0 {
                watch.wait_for(|snapshot| snapshot.instances().len() == 1).await.unwrap();
            }
            registry.close(Duration::from_secs(1)).await.unwrap();
            while watch.changed().await.is_ok() {}
            assert!(matches!(registry.list(&goods).await, Err(RegisterError::Closed { .. })));
            if tries == 0 {
                assert!(matches!(memory.list(&goods).await, Err(RegisterError::Closed { .. })));
            }
            drop(registration);
        }
    }
}
