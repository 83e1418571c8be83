//! Several registries as one, to move from one to another.

mod keeper;

use std::{collections::HashSet, fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    About, Backend, Found, Freshness, Instance, LeaseKeeper, MsRegister, RegisterError, Registry, ServiceName,
    Snapshot, SnapshotCell,
};

use keeper::UnionKeeper;

/// `union:etcd://..|nacos://..`: what any of several registries lists, and registrations in all of them.
///
/// One registry that is away takes nothing out of service: its last list counts, and it is written to when it is back. An
/// instance that several list is one, as the first of them describes it.
///
/// To move from one registry to another: give servers and clients the union of both, restart them one by one, and then once more
/// with the new registry alone. Scopes are not compared meanwhile, and there are no elections: campaign in one of the registries.
pub type Union = Registry<UnionBackend>;

/// The back end of [`Union`].
pub struct UnionBackend {
    about: About,
    members: Vec<Arc<dyn MsRegister>>,
}

/// Time limit of one request to all members.
const TIMEOUT: Duration = Duration::from_secs(3);

impl UnionBackend {
    /// Asks all members at once, each in a task of its own; the answers come in the order of the members.
    async fn ask<T, F>(&self, ask: impl Fn(Arc<dyn MsRegister>) -> F) -> Vec<Result<T, RegisterError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegisterError>> + Send + 'static,
    {
        all(self.members.iter().cloned().map(ask)).await
    }

    /// Answers of all members, one after the other.
    ///
    /// # Errors
    /// None answers; or those that do have nothing, and one does not answer: what that has is not known.
    async fn answers<T, F>(&self, ask: impl Fn(Arc<dyn MsRegister>) -> F) -> Result<Vec<T>, RegisterError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Vec<T>, RegisterError>> + Send + 'static,
    {
        let (mut found, mut failed) = (Vec::new(), None);
        for answer in self.ask(ask).await {
            match answer {
                Ok(more) => found.extend(more),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(RegisterError::Closed { .. }) if found.is_empty() => Err(self.about.closed()),
            Some(error) if found.is_empty() && error.is_transient() => Err(self.about.unreachable(error)),
            Some(error) if found.is_empty() => Err(self.about.rejected(error)),
            _ => Ok(found),
        }
    }
}

/// Runs all in tasks of their own, and waits for all; results come in the order of the futures. A future that panics is late.
async fn all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = Result<T, RegisterError>> + Send + 'static>,
) -> Vec<Result<T, RegisterError>> {
    let mut tasks = JoinSet::new();
    for (index, future) in futures.enumerate() {
        tasks.spawn(async move { (index, future.await) });
    }
    let mut results: Vec<_> = tasks.join_all().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Waits for one of several futures that may be dropped; for ever without any.
async fn first<T>(futures: impl Iterator<Item = impl Future<Output = T> + Send>) -> T {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        let mut polled = futures.iter_mut().map(|future| future.as_mut().poll(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Instances of several registries, the first of each id and address.
fn merged(instances: impl IntoIterator<Item = Instance>) -> Vec<Found> {
    let (mut ids, mut addresses) = (HashSet::new(), HashSet::new());
    let is_first = |one: &Instance| {
        let is_new = !ids.contains(one.id()) && addresses.insert(one.address());
        ids.insert(one.id().to_owned());
        is_new
    };
    instances.into_iter().filter(is_first).map(Ok).collect()
}

/// Shows what the members know together.
fn show(about: &About, snapshots: &[Snapshot], cell: &SnapshotCell) {
    let now = std::time::Instant::now();
    let known = merged(snapshots.iter().flat_map(|snapshot| snapshot.instances().iter().cloned()));
    let count = |freshness| snapshots.iter().filter(|snapshot| snapshot.freshness() == freshness).count();
    let (live, failing) = (count(Freshness::Live), snapshots.iter().find(|snapshot| snapshot.is_failing()));
    // One that cannot be read may have some.
    if live == snapshots.len() || live > 0 && !known.is_empty() {
        cell.refresh(known);
    } else if let Some(failing) =
        failing.filter(|_| snapshots.iter().all(|one| one.is_failing() || one.age(now).is_some()))
    {
        let error = about.unreachable(failing.state(now));
        let age = snapshots.iter().filter_map(|snapshot| snapshot.age(now)).min();
        cell.restore(known, age.unwrap_or_default(), &error);
        cell.fail(&error);
    }
    // Else the first answers are still to come.
}

#[async_trait]
impl Backend for UnionBackend {
    /// The members. Those that connect in the background hold up no start.
    type Config = Vec<Arc<dyn MsRegister>>;

    fn new(members: Self::Config) -> Result<Self, RegisterError> {
        let urls: Vec<_> = members.iter().map(|member| member.url()).collect();
        let longest = |time: fn(&dyn MsRegister) -> Duration| {
            members.iter().map(|member| time(&**member)).max().unwrap_or_default()
        };
        let about = About::new(format!("union:{}", urls.join("|")))
            .with_expiry(longest(|member| member.expiry()))
            .with_propagation(longest(|member| member.propagation()));
        if members.len() < 2 {
            return Err(about.invalid("give two registries or more: `union:etcd://..|nacos://..`"));
        }
        Ok(Self { about, members })
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn expiry(&self) -> Duration {
        self.members.iter().map(|member| member.expiry()).max().unwrap_or_default()
    }

    /// One member that answers is enough.
    async fn connect(&self) -> Result<(), RegisterError> {
        const AGAIN: Duration = Duration::from_millis(50);
        let (probe, end) = (ServiceName::new("ms.probe")?, Instant::now() + TIMEOUT);
        loop {
            let answers = self.ask(|member| {
                let probe = probe.clone();
                async move { member.list(&probe).await }
            });
            let mut reasons = Vec::new();
            for answer in answers.await {
                match answer {
                    Ok(_) => return Ok(()),
                    // Rights for one's own services suffice.
                    Err(RegisterError::Rejected { reason, .. }) if reason.contains("permission denied") => {
                        return Ok(());
                    }
                    Err(error) => reasons.push(error.to_string()),
                }
            }
            if Instant::now() >= end {
                return Err(self.about.unreachable(reasons.join("; ")));
            }
            sleep(AGAIN).await;
        }
    }

    fn lease(&self, service: &ServiceName, instance: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        Some(Box::new(UnionKeeper::new(self.about.clone(), &self.members, service.clone(), instance.clone())))
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        let list = |member: Arc<dyn MsRegister>| {
            let service = service.clone();
            async move { member.list(&service).await }
        };
        Ok(merged(self.answers(list).await?))
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        let mut watches: Vec<_> = self.members.iter().map(|member| member.watch(service)).collect();
        loop {
            let snapshots: Vec<_> = watches.iter().map(|watch| watch.current()).collect();
            show(&self.about, &snapshots, cell);
            let changed = first(watches.iter_mut().map(|watch| watch.changed()));
            changed.await.map_err(|error| self.about.unreachable(error))?;
        }
    }

    fn names_services(&self) -> bool {
        true
    }

    async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        self.answers(|member| async move { member.services().await }).await
    }

    async fn close(&self) {
        // Errors: registrations have ended before, so there is nothing that could be left behind.
        drop(self.ask(|member| async move { member.close(TIMEOUT).await }).await);
    }
}

impl fmt::Debug for UnionBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnionBackend").field("members", &self.members).finish_non_exhaustive()
    }
}
