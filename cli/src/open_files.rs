//! How many files, and so connections, a node may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// As many as the system lets this process have: each registration and each watch is a connection, and by default there are 1,024.
pub(crate) fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        debug!("the limit of open files stays as it is: {error}");
    }
}
