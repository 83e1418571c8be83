//! Five processes that campaign for one service, and are killed, frozen and cut off from their registry: never do two of them lead
//! at once, and a new one leads in time.

mod candidate;
mod sink;
mod terms;

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{task::AbortHandle, time::sleep};

pub use candidate::run as run_candidate;
use sink::Sink;

use crate::{Failure, Row, Server, process::Process, signal};

const CANDIDATES: usize = 5;

/// What is done, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Ordeal {
    /// So often the leader is killed, and started again when another one leads.
    pub kills: u32,
    /// So often the leader is frozen for longer than its lease lasts.
    pub stops: u32,
    /// So often the registry is frozen for longer than its leases last.
    pub pauses: u32,
    /// How long a new leader may take beyond the lease's time and the server's granularity. One second is the goal, on a machine
    /// that has time for it; beside other tests it needs more.
    pub slack: Duration,
}

/// The lease's or the session's time in all of it.
const TTL: Duration = Duration::from_secs(3);
/// What the servers look for expired leases and sessions in, as the harness configures them.
const GRANULARITY: Duration = Duration::from_millis(500);
const FROZEN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it against a registry of its own; `program` is the candidate's executable.
///
/// # Errors
/// What broke in the harness.
pub async fn contested(program: impl Into<PathBuf>, server: Server, ordeal: Ordeal) -> Result<Row, Failure> {
    let url = match server.url() {
        url if url.starts_with("zookeeper") => format!("{url}?session={}", TTL.as_secs()),
        url => format!("{url}?ttl={}", TTL.as_secs()),
    };
    let Ordeal { kills, stops, pauses, slack } = ordeal;
    let mut row = Row::new(format!(
        "{CANDIDATES} candidates at {}: {kills} kills, {stops} SIGSTOPs of {FROZEN:?}, {pauses} pauses of the registry of {FROZEN:?}",
        url.split(':').next().unwrap_or_default()
    ));
    let mut scene = Scene::start(program.into(), url).await?;
    let (mut waits, stall) = (Waits::default(), Stall::start());
    scene.sink.leader_after(0, PATIENCE).await?;
    for _ in 0..kills {
        waits.kills.push(scene.kill().await?);
    }
    let mut refused = 0;
    // One that had just lost by itself when it was to be frozen counts for nothing.
    for _ in 0..2 * stops {
        if refused == stops {
            break;
        }
        let (time, is_refused) = scene.stop().await?;
        waits.stops.push(time);
        refused += u32::from(is_refused);
    }
    for _ in 0..pauses {
        let token = scene.sink.leader().1;
        server.freeze()?;
        sleep(FROZEN).await;
        server.thaw()?;
        let thawed = Instant::now();
        scene.sink.leader_after(token, PATIENCE).await?;
        waits.pauses.push(thawed.elapsed());
    }
    let (sink, logs) = scene.end().await?;

    let terms = terms::read(logs.path(), CANDIDATES)?;
    let (overlaps, gap) = terms::overlaps(&terms);
    row.count("leaderships that overlap", overlaps, 0);
    row.count("tokens that do not grow with the terms", terms::falling(&terms), 0);
    let seen = sink.seen();
    row.count("writes of a leader that the sink refuses", seen.leaders_refused, 0);
    row.count("frozen leaders whose old token is refused", refused.into(), stops.into());
    let bound = TTL + GRANULARITY + slack;
    for (what, times) in [("kill", &waits.kills), ("SIGSTOP", &waits.stops), ("pause", &waits.pauses)] {
        if let Some(longest) = times.iter().max() {
            row.within(&format!("a new master after a {what}"), Some(*longest), bound);
            row.note(format!("after a {what}: {times:.2?}"));
        }
    }
    row.note(format!(
        "{} terms, {} looks at is_leader, {} writes taken, {} with an old token refused, shortest time between two terms {gap:.1?}",
        terms.len(),
        terms.iter().map(|term| term.looks).sum::<u64>(),
        seen.taken,
        seen.stale_refused,
    ));
    row.note(format!("the machine itself stood still for up to {:.2?}", stall.longest()));
    for term in &terms {
        row.note(term.to_string());
    }
    Ok(row)
}

/// How long it took until another one led.
#[derive(Default)]
struct Waits {
    kills: Vec<Duration>,
    stops: Vec<Duration>,
    pauses: Vec<Duration>,
}

/// How late timers are: on a busy machine all of the figures are as late.
struct Stall {
    longest: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Stall {
    const TICK: Duration = Duration::from_millis(10);

    fn start() -> Self {
        let longest = Arc::<AtomicU64>::default();
        let seen = longest.clone();
        let task = tokio::spawn(async move {
            loop {
                let begin = Instant::now();
                sleep(Self::TICK).await;
                let late = begin.elapsed().saturating_sub(Self::TICK);
                seen.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { longest, task: task.abort_handle() }
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scene {
    program: PathBuf,
    url: String,
    sink: Sink,
    logs: TempDir,
    candidates: Vec<Option<Process>>,
}

impl Scene {
    async fn start(program: PathBuf, url: String) -> Result<Self, Failure> {
        let logs = tempfile::Builder::new().prefix("ms-election-").tempdir()?;
        let candidates = (0..CANDIDATES).map(|_| None).collect();
        let mut scene = Self { program, url, sink: Sink::start().await?, logs, candidates };
        for index in 0..CANDIDATES {
            scene.launch(index).await?;
        }
        Ok(scene)
    }

    async fn launch(&mut self, index: usize) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.arg(&self.url).arg(index.to_string()).arg(self.sink.address().to_string());
        command.arg(terms::log(self.logs.path(), index));
        let mut process = Process::start(&mut command, &self.logs.path().join(format!("{index}.errors")))?;
        process.ready(|line| line == "ready").await?;
        self.candidates[index] = Some(process);
        Ok(())
    }

    fn candidate(&mut self, index: usize) -> Result<&mut Option<Process>, Failure> {
        self.candidates.get_mut(index).ok_or_else(|| "a candidate that was not started leads".into())
    }

    async fn kill(&mut self) -> Result<Duration, Failure> {
        let (leader, token) = self.sink.leader();
        let process = self.candidate(leader)?.take().ok_or("the leader has ended")?;
        let begin = Instant::now();
        process.kill().await?;
        self.sink.leader_after(token, PATIENCE).await?;
        let time = begin.elapsed();
        self.launch(leader).await?;
        Ok(time)
    }

    /// How long it took, and whether the leader that was frozen tried its old token on the sink and was refused.
    async fn stop(&mut self) -> Result<(Duration, bool), Failure> {
        let (leader, token) = self.sink.leader();
        let process = self.candidate(leader)?.as_ref().ok_or("the leader has ended")?.number();
        let begin = Instant::now();
        signal::send(process, Signal::SIGSTOP)?;
        let elected = self.sink.leader_after(token, PATIENCE).await.map(|()| begin.elapsed());
        sleep(FROZEN.saturating_sub(begin.elapsed())).await;
        signal::send(process, Signal::SIGCONT)?;
        let time = elected?;
        Ok((time, self.sink.end_of(token, PATIENCE).await?))
    }

    /// Ends all of them; their logs remain.
    async fn end(self) -> Result<(Sink, TempDir), Failure> {
        for process in self.candidates.into_iter().flatten() {
            process.kill().await?;
        }
        Ok((self.sink, self.logs))
    }
}
