//! The engine: one thread owns the state and the file; readers see what is on the disk.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    clock,
    elections::{Elections, Key},
    log::{Log, OpenError, Unwritten},
    state::{Refusal, Request, State, View},
    turns::Turns,
};

/// A running node. Cheap to clone; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<View>>,
}

/// The node has stopped: what it confirmed is safe, what it did not may be there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Failed;

enum Command {
    Do {
        request: Request,
        reply: oneshot::Sender<Result<bool, Undone>>,
    },
    /// To be told when the candidate is not at the place that this token says.
    Turn {
        seat: Key,
        token: Option<u64>,
        told: oneshot::Sender<()>,
    },
}

/// How a request can end without being done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undone {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Node {
    /// Requests that wait; more wait outside.
    const QUEUE: usize = 1_024;
    /// Requests that share a sync.
    const BATCH: usize = 256;
    /// How late the end of a lease may be noticed.
    const TICK: Duration = Duration::from_millis(250);

    /// Default for the longest lease of a candidate: 10 s.
    pub const CANDIDATE_TTL: Duration = Duration::from_secs(10);

    /// Opens the directory, which is made if it is not there. It blocks for as long as the disk takes; it needs a tokio
    /// runtime, in which leases run.
    ///
    /// No lease of a candidate is longer than `candidate_ttl`, at least 1 s: a longer one is cut to this. A new store elects
    /// nobody before it has run for so long, since a candidate may still lead by the word of a lost store. So a longer time
    /// delays the first election, and a shorter one than in the lost store may give two leaders.
    ///
    /// # Errors
    /// The directory cannot be used, for the reason that is given.
    pub fn open(directory: &Path, candidate_ttl: Duration) -> Result<Self, OpenError> {
        let (mut log, changes) = Log::open(directory)?;
        // The time, in milliseconds: so tokens go on growing where data was lost, as far as clocks do.
        let elections = Elections::new(candidate_ttl.max(Duration::from_secs(1)), clock::now_millis());
        let state = State::replay(changes, fastrand::u64(1..=u64::MAX), elections);
        log.settle(&state.as_changes())?;
        let (commands, received) = mpsc::channel(Self::QUEUE);
        let (publish, view) = watch::channel(Arc::new(state.view()));
        std::thread::Builder::new().name("gregister".to_owned()).spawn(move || run(state, log, received, &publish))?;
        tokio::spawn(tick(commands.downgrade()));
        Ok(Self { commands, view })
    }

    /// Returns when the node has stopped by itself.
    pub async fn failed(&self) -> Failed {
        let mut view = self.view.clone();
        while view.changed().await.is_ok() {}
        Failed
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Waits until a view fulfils `wanted`, at most for `wait`; returns the last one.
    pub(crate) async fn wait_for(
        &self,
        wait: Duration,
        mut wanted: impl FnMut(&View) -> bool,
    ) -> Result<Arc<View>, Failed> {
        let mut view = self.view.clone();
        match tokio::time::timeout(wait, view.wait_for(|view| wanted(view))).await {
            Ok(Ok(found)) => Ok(found.clone()),
            Ok(Err(_)) => Err(Failed),
            Err(_) => Ok(self.view()),
        }
    }

    /// Done when it is on the disk.
    pub(crate) async fn ask(&self, request: Request) -> Result<bool, Undone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Do { request, reply }).await.map_err(|_| Failed)?;
        answer.await.map_err(|_| Failed)?
    }

    /// Waits until the candidate is not in the queue with this token, or without one, at most for `wait`. Nothing that happens to
    /// others wakes it.
    pub(crate) async fn turn(&self, seat: Key, token: Option<u64>, wait: Duration) -> Result<(), Failed> {
        let (told, turned) = oneshot::channel();
        self.commands.send(Command::Turn { seat, token, told }).await.map_err(|_| Failed)?;
        match tokio::time::timeout(wait, turned).await {
            Ok(Err(_)) => Err(Failed),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode { commands: self.commands.downgrade(), view: self.view.clone() }
    }
}

/// A node that may have ended.
#[derive(Debug)]
pub(crate) struct WeakNode {
    commands: mpsc::WeakSender<Command>,
    view: watch::Receiver<Arc<View>>,
}

impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        Some(Node { commands: self.commands.upgrade()?, view: self.view.clone() })
    }
}

/// The thread: as many requests as wait are handled, written and synced together, and then answered.
fn run(mut state: State, mut log: Log, mut received: mpsc::Receiver<Command>, publish: &watch::Sender<Arc<View>>) {
    let begin = Instant::now();
    let mut answers = Vec::with_capacity(Node::BATCH);
    let mut turns = Turns::default();
    while let Some(first) = received.blocking_recv() {
        let mut next = Some(first);
        let mut handled = 0;
        while let Some(command) = next {
            match command {
                Command::Do { request, reply } => {
                    let answer = state.handle(request, begin.elapsed());
                    answers.push((reply, answer, state.is_changed()));
                }
                Command::Turn { seat, token, told } => turns.add(seat, token, told),
            }
            handled += 1;
            next = if handled < Node::BATCH { received.try_recv().ok() } else { None };
        }
        let stored = store(&mut state, &mut log, publish);
        if stored.is_err() {
            state.restore(&publish.borrow());
        }
        for (reply, answer, is_changed) in answers.drain(..) {
            // Requests before the first change do not depend on any change.
            let answer = match &stored {
                Err(error) if is_changed => Err(error.clone().into()),
                _ => answer.map_err(Undone::from),
            };
            // An error: nobody waits any more.
            let _ = reply.send(answer);
        }
        turns.tell(&mut state);
    }
}

fn store(state: &mut State, log: &mut Log, publish: &watch::Sender<Arc<View>>) -> Result<(), Unwritten> {
    let changes = state.take_changes();
    if changes.is_empty() {
        return Ok(());
    }
    log.write(&changes, || state.as_changes())?;
    publish.send_replace(Arc::new(state.view()));
    Ok(())
}

/// Lets time pass for the leases.
async fn tick(commands: mpsc::WeakSender<Command>) {
    let mut ticks = interval(Node::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(commands) = commands.upgrade() else { return };
        let (reply, _) = oneshot::channel();
        if commands.send(Command::Do { request: Request::Tick, reply }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
