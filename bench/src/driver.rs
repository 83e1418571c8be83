//! A process that makes calls.

use crate::{drive::Drive, implementations::Implementation, peer::Failure, process};

/// Runs the driver until its plan is done.
pub(crate) fn start(drive: &Drive) -> Result<(), Failure> {
    let implementation = Implementation::named(&drive.implementation)?;
    process::allow_many_sockets()?;
    if let Some(cpu) = drive.cpu {
        process::pin(cpu)?;
    }
    let runtime = process::runtime(drive.threads)?;
    let driving = runtime.spawn((implementation.drive)(drive.address, drive.plan));
    let outcome = runtime.block_on(driving)?;
    runtime.shutdown_background();
    outcome
}
