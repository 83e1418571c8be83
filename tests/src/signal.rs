use std::io;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Sends a signal to one process that this one started and has not reaped: the number is still its own.
pub(crate) fn send(process: u32, signal: Signal) -> io::Result<()> {
    let number = i32::try_from(process).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(number), signal)?)
}
