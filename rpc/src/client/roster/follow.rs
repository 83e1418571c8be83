//! Follower of a roster: the task that follows a service's list in the registry. It lives on the runtime of a caller; when
//! that runtime ends or is not driven any more, the next caller that notices moves it to its own.

use std::{
    sync::{
        Arc, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ms_register::{Freshness, SnapshotWatch};
use tokio::{
    runtime::{self, Handle},
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::Roster;
use crate::client::{home::STALL, instances::Member};

/// Interval at which the age of a list that is out of date is measured.
const AGE: Duration = Duration::from_secs(5);

/// State of the follower.
#[derive(Debug, Default)]
pub(super) struct Follower {
    place: std::sync::Mutex<Place>,
    /// Wakes the follower: instances are to be looked at again.
    refresh_soon: Arc<Notify>,
    /// Number of times that the follower ran.
    runs: AtomicU64,
    /// The follower was dropped with its runtime.
    lost: AtomicBool,
    /// A caller is looking whether the follower still runs.
    watched: AtomicBool,
}

#[derive(Debug, Default)]
struct Place {
    /// Counts the followers; the last one counts.
    number: u64,
    runtime: Option<runtime::Id>,
    task: Option<AbortHandle>,
}

impl Follower {
    pub(super) fn refresh_soon(&self) {
        self.refresh_soon.notify_one();
    }

    /// Returns true if no follower runs because its runtime has ended.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = &self.lock().task {
            task.abort();
        }
    }
}

impl<M: Member> Roster<M> {
    /// Follows the registry on this runtime from now on, and no longer on another.
    pub(crate) fn follow_on(self: &Arc<Self>, runtime: &Handle) {
        let (number, before) = {
            let mut place = self.follower.lock();
            if place.runtime == Some(runtime.id()) {
                return;
            }
            place.runtime = Some(runtime.id());
            place.number += 1;
            self.follower.lost.store(false, Ordering::Release);
            (place.number, place.task.take())
        };
        before.iter().for_each(AbortHandle::abort);
        // The registry's code does not run under the lock.
        let watch = self.registry.watch(&self.service);
        let refresh_soon = self.follower.refresh_soon.clone();
        let end = End { roster: Arc::downgrade(self), number };
        let task = runtime.spawn(follow(watch, refresh_soon, end));
        let mut place = self.follower.lock();
        if place.number == number {
            place.task = Some(task.abort_handle());
        } else {
            task.abort();
        }
    }

    /// Returns true if no follower runs because its runtime has ended.
    pub(crate) fn is_unfollowed(&self) -> bool {
        self.follower.is_lost()
    }

    /// Makes sure that the registry is followed: moves the follower here if its runtime has ended, and finds out whether
    /// another runtime is driven. Never on the path of a call that finds a connection.
    pub(crate) fn keep_following(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let place = self.follower.lock().runtime;
        if place == Some(runtime.id()) || self.is_forgotten() {
            return;
        }
        if place.is_none() {
            return self.follow_on(&runtime);
        }
        if self.follower.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let watching = Watching(Arc::downgrade(self));
        let runs = self.follower.runs.load(Ordering::Acquire);
        self.follower.refresh_soon();
        runtime.spawn(async move {
            sleep(STALL).await;
            if let Some(roster) = watching.0.upgrade()
                && roster.follower.runs.load(Ordering::Acquire) == runs
            {
                roster.follow_on(&Handle::current());
            }
        });
    }
}

/// Permits the next look when it is dropped.
struct Watching<M: Member>(Weak<Roster<M>>);

impl<M: Member> Drop for Watching<M> {
    fn drop(&mut self) {
        if let Some(roster) = self.0.upgrade() {
            roster.follower.watched.store(false, Ordering::Release);
        }
    }
}

/// Tells the roster that its follower has ended, if no other has taken its place.
struct End<M: Member> {
    roster: Weak<Roster<M>>,
    number: u64,
}

impl<M: Member> Drop for End<M> {
    fn drop(&mut self) {
        let Some(roster) = self.roster.upgrade() else { return };
        let mut place = roster.follower.lock();
        if place.number != self.number {
            return;
        }
        place.runtime = None;
        roster.follower.lost.store(true, Ordering::Release);
        drop(place);
        roster.follower_lost();
    }
}

async fn follow<M: Member>(mut watch: SnapshotWatch, refresh_soon: Arc<Notify>, end: End<M>) {
    let mut snapshot = Some(watch.current());
    let mut closed = false;
    let mut is_lost = false;
    loop {
        let Some(strong) = end.roster.upgrade() else { return };
        strong.follower.runs.fetch_add(1, Ordering::Release);
        let pause = match snapshot.take() {
            Some(snapshot) => {
                strong.log_registry(&snapshot, std::mem::replace(&mut is_lost, snapshot.is_failing()));
                strong.snapshot_changed(snapshot);
                Duration::ZERO
            }
            None => strong.refresh(),
        };
        let forget_at = strong.forget_at();
        if forget_at.is_some_and(|time| time <= Instant::now())
            && strong.forget.as_ref().is_some_and(|forget| (forget.ask)())
        {
            return;
        }
        let is_live = strong.load().snapshot.freshness() == Freshness::Live;
        let in_a_while = (!is_live).then(|| Instant::now() + AGE);
        let next = strong.next_change().into_iter().chain(in_a_while).chain(forget_at).min();
        drop(strong);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let next_change = async {
            match next {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = watch.changed(), if !closed => match changed {
                Ok(changed) => snapshot = Some(changed),
                // The last list stays.
                Err(_) => closed = true,
            },
            () = refresh_soon.notified() => {}
            () = next_change => {}
        }
    }
}
