//! Balancing for programs that carry bytes by other means than a proxy's connections.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ms_register::{Instance, MsRegister, ServiceName};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    balance::{Balancing, Clock, Key, LoadEstimate, LoadEstimates, PickContext},
    config::HoldConfig,
    ejection::{EjectionConfig, EjectionState},
    instances::{Bound, Member},
    options::LONGEST,
    request::not_sent,
    roster::{Roster, Settings},
};
use crate::{Code, Outcome, Status};

/// Picks instances of one service for a program that carries the bytes itself, such as an HTTP reverse proxy: balancers,
/// zones and selectors, instances held while their registry is in doubt, and outlier ejection, as a
/// [`ClientProxy`](crate::ClientProxy) has them. Cheap to clone; clones share everything.
///
/// ```
/// # use std::time::{Duration, Instant};
/// use ms_rpc::{Balancer, Outcome, Picker};
///
/// # async fn send(_: String) -> std::io::Result<()> { Ok(()) }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = ms_register::connect("memory://").await?;
/// let picker = Picker::new(registry, "pages", Balancer::P2c)?;
/// picker.wait_ready(Duration::from_secs(3)).await?;
/// let (pick, began) = (picker.pick(Some(b"customer-7"), &[])?, Instant::now());
/// let outcome = match send(pick.address()).await {
///     Ok(()) => Outcome::Answered,
///     Err(_) => Outcome::Unknown,
/// };
/// pick.finish(outcome, began.elapsed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Picker(Arc<Roster<Picked>>);

impl Picker {
    /// A picker with default ejection. It follows the registry's lists of `service` from now on, until it and its picks are
    /// dropped.
    ///
    /// # Errors
    /// `InvalidArgument`: an illegal name. `FailedPrecondition`: no tokio runtime around it.
    pub fn new(registry: Arc<dyn MsRegister>, service: &str, balancing: impl Into<Balancing>) -> Result<Self, Status> {
        Self::with_ejection(registry, service, balancing, EjectionConfig::default())
    }

    /// A picker with other settings of ejection.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and for [`EjectionConfig::check`].
    pub fn with_ejection(
        registry: Arc<dyn MsRegister>,
        service: &str,
        balancing: impl Into<Balancing>,
        ejection: EjectionConfig,
    ) -> Result<Self, Status> {
        ejection.check()?;
        let name = ServiceName::new(service)?;
        let runtime = Handle::try_current()
            .map_err(|_| not_sent(Code::FailedPrecondition, "a picker is made within a tokio runtime"))?;
        let (balancing, hold) = (balancing.into(), HoldConfig::default());
        let settings = Settings { balancing, ejection, hold, bound: Bound::NONE, forget: None };
        let roster = Roster::new(name, registry, settings, Picked::new);
        roster.follow_on(&runtime);
        Ok(Self(roster))
    }

    /// Picks an instance, without waiting. `key` is what hashing balancers hash; to [`Balancer::IpHash`](crate::Balancer) it
    /// is an address as text. `avoid` are ids of instances that were tried before: one of them is picked only if there is no
    /// other.
    ///
    /// # Errors
    /// `Unavailable`: no instance is listed, selected or connected, or the registry has not answered yet
    /// ([`wait_ready`](Self::wait_ready) waits for that). `FailedPrecondition`: all have weight 0. `Internal`: a custom
    /// balancer failed.
    pub fn pick(&self, key: Option<&[u8]>, avoid: &[&str]) -> Result<Pick, Status> {
        let instances = self.0.load();
        if instances.unsettled && self.0.is_unfollowed() {
            self.0.keep_following();
        }
        if instances.listed.slots().is_empty()
            && let Some(status) = self.0.nothing(&instances)
        {
            return Err(status);
        }
        self.0.clock().set(Instant::now());
        let call = PickContext { key: key.map(Key::new), bytes: key, clock: self.0.clock() };
        let slot = match avoid {
            [] => instances.pick(&call)?,
            _ => instances.pick_other(&call, |slot| avoid.contains(&instances.all[slot as usize].instance.id()))?,
        };
        let slot = slot.ok_or_else(|| self.0.not_connected(&instances, None))?;
        let picked = instances.all[slot as usize].clone();
        picked.state.load.enter();
        Ok(Pick { picked, roster: self.0.clone() })
    }

    /// Waits until an instance can be picked: for the registry's first list, and for a connected instance.
    ///
    /// # Errors
    /// As for [`pick`](Self::pick): at once if the registry lists no instance to call, else after `timeout`.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), Status> {
        let deadline = Instant::now() + timeout.min(LONGEST);
        let _waiting = self.0.waiting();
        self.0.keep_following();
        loop {
            let changed = self.0.changed();
            let instances = self.0.instances();
            if instances.live > 0 {
                return Ok(());
            }
            if instances.listed.slots().is_empty()
                && let Some(status) = self.0.nothing(&instances)
            {
                return Err(status);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(self.0.not_connected(&instances, None));
            }
        }
    }

    /// Says whether instance `id` can be reached, for programs that keep connections: while it cannot, it is not picked. Each
    /// instance counts as connected until this says otherwise, also when it comes back with another address. An instance that
    /// cannot be reached and is not listed any more is given up at once.
    pub fn set_connected(&self, id: &str, connected: bool) {
        let instances = self.0.load();
        let Some(slot) = Roster::find(&instances, id) else { return };
        if instances.all[slot].state.connected.swap(connected, Ordering::AcqRel) == connected {
            return;
        }
        if !connected {
            self.0.is_gone(id);
        }
        self.0.connections_changed();
    }

    /// Instances that picks choose from: those that the registry lists, and those whose removal is held.
    pub fn instances(&self) -> Vec<Instance> {
        self.0.load().all.iter().map(|picked| Instance::clone(&picked.instance)).collect()
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picker").field(&self.0.service()).finish()
    }
}

/// A picked instance. It counts as one call in flight until it is finished or dropped.
///
/// Dropped without [`finish`](Self::finish), as by a request that is cancelled, it says nothing about the instance.
#[must_use = "dropped, it does not count as a call in flight"]
pub struct Pick {
    picked: Arc<Picked>,
    roster: Arc<Roster<Picked>>,
}

impl Pick {
    /// Returns false if the registry does not list the instance any more, and its removal is held. Programs that learn late that an
    /// instance is gone pick another one then, with the id in `avoid`.
    pub fn is_listed(&self) -> bool {
        let id = self.picked.instance.id();
        self.roster.load().snapshot.instances().iter().any(|listed| listed.id() == id)
    }

    /// Reports the end of the call: `took` is the time until the answer, or until it was given up.
    ///
    /// - [`Outcome::Answered`], whatever the answer says: the load estimate learns `took`.
    /// - [`Outcome::Refused`]: the instance answered that it did not execute the call, as with HTTP 429 or 503. The load
    ///   estimate doubles, so that fast refusals attract no calls.
    /// - [`Outcome::NotSent`] and [`Outcome::Unknown`]: no answer came - no connection, a connection that ended, silence until
    ///   the deadline. Several in a row eject the instance: see [`EjectionConfig`].
    pub fn finish(self, outcome: Outcome, took: Duration) {
        let (State { load, ejection, .. }, now) = (&*self.picked.state, Instant::now());
        match outcome {
            Outcome::Answered => {
                load.answered(took, now);
                ejection.answered();
            }
            Outcome::Refused => {
                load.refused(now);
                ejection.answered();
            }
            Outcome::NotSent => {
                load.refused(now);
                self.roster.unanswered(ejection, &"it could not be reached");
            }
            Outcome::Unknown => {
                load.answered(took, now);
                self.roster.unanswered(ejection, &format_args!("none came within {took:?}"));
            }
        }
    }
}

impl Deref for Pick {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.picked.instance
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.picked.state.load.leave();
    }
}

impl fmt::Debug for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pick").field(&self.id()).finish()
    }
}

/// One instance of a picker.
#[derive(Debug)]
struct Picked {
    instance: Arc<Instance>,
    state: Arc<State>,
}

/// State that outlives a change of weight or metadata.
#[derive(Debug)]
struct State {
    load: Arc<LoadEstimate>,
    ejection: EjectionState,
    connected: AtomicBool,
}

impl Picked {
    fn new(instance: Instance, clock: &Arc<Clock>) -> Self {
        let load = Arc::new(LoadEstimate::new(clock.clone()));
        let state = State { load, ejection: EjectionState::default(), connected: AtomicBool::new(true) };
        Self { instance: Arc::new(instance), state: Arc::new(state) }
    }
}

impl Member for Picked {
    type Ready = ();

    fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    fn with_instance(&self, instance: Arc<Instance>) -> Self {
        Self { instance, state: self.state.clone() }
    }

    fn ejection(&self) -> &EjectionState {
        &self.state.ejection
    }

    fn loads(&self) -> LoadEstimates {
        LoadEstimates::One(self.state.load.clone())
    }

    fn is_connected(&self) -> bool {
        self.state.connected.load(Ordering::Acquire)
    }

    fn ready(&self) -> Option<()> {
        None
    }
}
