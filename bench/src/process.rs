//! What a process knows and decides about itself: its CPU, its memory, its limits, its runtime.

use std::{fs, num::NonZeroUsize, time::Duration};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
        time::TimeValLike,
    },
    unistd::{Pid, SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::peer::Failure;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Usage {
    /// User and system time of all its threads, in microseconds.
    pub(crate) cpu_us: i64,
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
}

impl Usage {
    /// Of the calling process, now.
    pub(crate) fn now() -> Result<Self, Failure> {
        let spent = getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu_us = spent.user_time().num_microseconds() + spent.system_time().num_microseconds();
        Ok(Self { cpu_us, rss: resident(std::process::id())? })
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(process: u32) -> Result<u64, Failure> {
    let pages: u64 = fs::read_to_string(format!("/proc/{process}/statm"))?
        .split_whitespace()
        .nth(1)
        .ok_or("statm has no second field")?
        .parse()?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.ok_or("the page size is unknown")?;
    Ok(pages * page as u64)
}

/// CPU time of a process so far, in steps of 10 ms.
pub(crate) fn spent(process: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may have spaces. User and system time are fields 14 and 15 (proc(5)).
    let fields = stat.rsplit_once(')').ok_or("stat has no name")?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    let second = sysconf(SysconfVar::CLK_TCK)?.ok_or("the length of a tick is unknown")?;
    Ok(Duration::from_millis(ticks * 1000 / second as u64))
}

/// Pins the calling thread, and those that it starts, to one CPU.
pub(crate) fn pin(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| format!("cannot run on CPU {cpu}: {error}").into())
}

/// Allows as many open sockets as the system lets us have.
pub(crate) fn allow_many_sockets() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// A runtime of that many threads: tokio's current-thread runtime for one.
pub(crate) fn runtime(threads: NonZeroUsize) -> Result<Runtime, Failure> {
    let mut builder = match threads.get() {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads.get() > 1 {
        builder.worker_threads(threads.get());
    }
    Ok(builder.enable_all().build()?)
}

/// Waits until the harness lets go.
pub(crate) async fn stdin_ends() -> Result<(), Failure> {
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}
