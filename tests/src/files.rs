use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Failure;

/// Lets this process open so many files and sockets, or as many as the system lets it have if that is less.
pub(crate) fn allow_at_most(files: u64) -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, files.min(most), most)?)
}

/// Makes sure that this process, and those that it starts, can open so many files and sockets.
pub(crate) fn need(files: u64) -> Result<(), Failure> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if most < files {
        return Err(format!("{files} open files are needed, {most} are allowed: run `ulimit -Hn {files}` first").into());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, now.max(files), most)?)
}
