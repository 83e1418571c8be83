use std::io;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Sends a signal to one process that this one started and has not reaped: the number is still its own. After a SIGSTOP, returns
/// when none of its threads runs any more.
pub(crate) fn send(process: u32, signal: Signal) -> io::Result<()> {
    let number = i32::try_from(process).map_err(io::Error::other)?;
    kill(Pid::from_raw(number), signal)?;
    if signal == Signal::SIGSTOP {
        // Threads on other CPUs go on for a moment. What is waited for is left for who reaps the process.
        let ended_or_stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let process = rustix::process::Pid::from_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
        waitid(WaitId::Pid(process), ended_or_stopped)?;
    }
    Ok(())
}
