//! Carries one candidate through its campaign and its term: one task each, the same for every back end.
//!
//! ```text
//! contend --first--> lead --lost, resigned, dropped--> withdraw
//!    `--deadline, dropped, refused--> withdraw
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use super::{Master, Term};
use crate::{About, Instance, RegisterError, ServiceName, backoff::Backoff, meter};

/// One campaign in one back end, made by [`ElectionBackend::candidate`](crate::ElectionBackend::candidate). Its calls never
/// overlap.
#[async_trait]
pub trait Candidate: Send + 'static {
    /// Enters the election, or goes on with an earlier entry, and waits until it is first; then the token of its term. It
    /// reports every confirmation of the registry to `term`. After an error it is called again. Not bounded; cancelled at any
    /// await by the end of the campaign.
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError>;

    /// Has the term confirmed again and again; returns, with the reason, when it is lost. Not bounded; cancelled at any await.
    async fn held(&mut self, term: &Term) -> String;

    /// Takes back whatever it may have written; Ok is confirmed by the registry, or needs no confirmation since the writes
    /// have ended by themselves. Bounded in time, and tried again after an error.
    async fn withdraw(&mut self) -> Result<(), RegisterError>;
}

/// A term as the master of a service. Made by [`Election::campaign`](super::Election::campaign).
///
/// A term that ends, for whatever reason, does not come back: campaign again. Dropping it resigns in the background, as far
/// as the runtime and the registry still run; [`resign`](Self::resign) confirms it.
#[derive(Debug)]
#[must_use = "dropping a leadership resigns it"]
pub struct Leadership {
    master: Master,
    control: Arc<Control>,
}

impl Leadership {
    /// The fencing token: higher than that of every term of this service before. Give it to whatever the leader writes to;
    /// see [`Election`](super::Election) for why.
    pub fn token(&self) -> u64 {
        self.master.token
    }

    /// The instance that campaigned, and the token.
    pub fn master(&self) -> &Master {
        &self.master
    }

    /// Returns true if this process may take itself for the leader at this moment: nobody else can have been elected yet. False after
    /// two thirds of the lease's or the session's time without a confirmed renewal, counted from the moment when that was asked
    /// for; in ZooKeeper also as soon as the connection is lost. Once false it stays false.
    ///
    /// The answer comes from a clock, not from the registry. Ask right before each act, and let the act carry the [`token`](Self::token).
    pub fn is_leader(&self) -> bool {
        self.control.term.is_live()
    }

    /// Waits until it is lost. Asking [`is_leader`](Self::is_leader) sees it at least as early.
    pub async fn lost(&self) {
        self.control.term.over().await;
    }

    /// Gives the leadership up, and waits until the registry confirms: then the next candidate may lead.
    ///
    /// # Errors
    /// [`RegisterError::Timeout`] when `deadline` passes first. `is_leader` was false before; the withdrawal goes on in the
    /// background, and the registry drops the leadership by itself when its lease ends.
    pub async fn resign(self, deadline: Duration) -> Result<(), RegisterError> {
        self.control.clone().end(deadline).await
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.control.stop();
    }
}

#[derive(Debug)]
struct Control {
    about: About,
    term: Arc<Term>,
    stop: watch::Sender<bool>,
    /// Open until all is withdrawn.
    withdrawn: watch::Receiver<()>,
}

impl Control {
    fn stop(&self) {
        // First here: from now on nobody takes this one for the leader.
        self.term.end();
        self.stop.send_replace(true);
    }

    async fn end(&self, deadline: Duration) -> Result<(), RegisterError> {
        self.stop();
        let mut withdrawn = self.withdrawn.clone();
        let ended = async { while withdrawn.changed().await.is_ok() {} };
        let late = |_| self.about.late("confirm the resignation", deadline);
        timeout_at(after(deadline), ended).await.map_err(late)
    }
}

/// Stops the campaign of a caller that went away.
struct Waiting(Option<Arc<Control>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.stop();
        }
    }
}

/// The campaigns and terms of one registry client.
#[derive(Debug, Default)]
pub(crate) struct Campaigns {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    controls: Vec<Arc<Control>>,
    closed: bool,
}

impl Campaigns {
    /// Runs a campaign to its end; see [`Election::campaign`](super::Election::campaign).
    pub(crate) async fn run(
        &self,
        about: &About,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
        candidate: Box<dyn Candidate>,
    ) -> Result<Leadership, RegisterError> {
        let end = after(deadline);
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| about.no_runtime())?;
        let (stop, stopped) = watch::channel(false);
        let (withdrawing, withdrawn) = watch::channel(());
        let term = Arc::new(Term::new());
        let control = Arc::new(Control { about: about.clone(), term: term.clone(), stop, withdrawn });
        {
            let mut held = self.lock();
            if held.closed {
                return Err(about.closed());
            }
            held.controls.retain(|control| control.withdrawn.has_changed().is_ok());
            held.controls.push(control.clone());
        }
        let mut waiting = Waiting(Some(control.clone()));
        let (elected, outcome) = oneshot::channel();
        let (problem, problems) = watch::channel(None);
        let name = format!("`{service}` {} in {}", instance.id(), about.url());
        let facts = (about.clone(), service.clone());
        let task = Task { candidate, name, facts, term, stopped, problem, _withdrawing: withdrawing };
        runtime.spawn(task.run(elected));
        let token = match timeout_at(end, outcome).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(about.closed()))?,
            Err(_) => {
                let problem = problems.borrow().clone().filter(|_| !control.term.is_confirmed());
                return Err(problem.unwrap_or_else(|| about.late("elect it", deadline)));
            }
        };
        waiting.0 = None;
        Ok(Leadership { master: Master::new(instance, token), control })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Resigns everything, all at once, and refuses what comes after.
    pub(crate) async fn end_all(&self, deadline: Duration) -> Result<(), RegisterError> {
        let controls = {
            let mut held = self.lock();
            held.closed = true;
            std::mem::take(&mut held.controls)
        };
        controls.iter().for_each(|control| control.stop());
        let end = after(deadline);
        let mut result = Ok(());
        for control in controls {
            let ended = control.end(end.saturating_duration_since(Instant::now())).await;
            result = result.and(ended);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some take the longest time there is for no deadline.
fn after(deadline: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    Instant::now() + deadline.min(YEARS)
}

struct Task {
    candidate: Box<dyn Candidate>,
    name: String,
    facts: (About, ServiceName),
    term: Arc<Term>,
    stopped: watch::Receiver<bool>,
    /// Last failure, for the caller whose time is over.
    problem: watch::Sender<Option<RegisterError>>,
    /// Dropped last: then all is withdrawn.
    _withdrawing: watch::Sender<()>,
}

impl Task {
    async fn run(mut self, elected: oneshot::Sender<Result<u64, RegisterError>>) {
        let mut stopped = self.stopped.clone();
        let outcome = tokio::select! {
            biased;
            // An error: the caller and the registry client are gone.
            _ = stopped.wait_for(|stopped| *stopped) => None,
            outcome = self.contend() => Some(outcome),
        };
        let token = outcome.as_ref().and_then(|outcome| outcome.as_ref().ok().copied());
        // An error here: the caller has stopped waiting.
        let is_awaited = outcome.is_some_and(|outcome| elected.send(outcome).is_ok());
        if let Some(token) = token.filter(|_| is_awaited) {
            info!("{} is the master, token {token}", self.name);
            let (about, service) = &self.facts;
            meter::leads(about, service, true);
            let lost = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => None,
                () = self.term.over() => Some("nothing confirmed it in time".to_owned()),
                reason = self.candidate.held(&self.term) => Some(reason),
            };
            match lost {
                Some(reason) => {
                    meter::deposed(about, service);
                    warn!("{} is no longer the master: {reason}", self.name);
                }
                None => info!("{} resigns", self.name),
            }
            meter::leads(about, service, false);
        }
        self.term.end();
        let mut backoff = Backoff::default();
        while let Err(error) = self.candidate.withdraw().await {
            debug!("{} has not withdrawn yet: {error}", self.name);
            sleep(backoff.next_delay()).await;
        }
    }

    /// Until it is elected, or an error that waiting does not change.
    async fn contend(&mut self) -> Result<u64, RegisterError> {
        let mut backoff = Backoff::default();
        loop {
            match self.candidate.elected(&self.term).await {
                Ok(token) if self.term.begin() => return Ok(token),
                Ok(_) => debug!("{} was elected, and nothing confirmed it in time", self.name),
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => {
                    debug!("{} goes on with its campaign: {error}", self.name);
                    self.problem.send_replace(Some(error));
                }
            }
            sleep(backoff.next_delay().min(Self::LONGEST_PAUSE)).await;
        }
    }

    /// A registry that is back has a new master within a second.
    const LONGEST_PAUSE: Duration = Duration::from_millis(500);
}
