//! Reads and follows the instances of one service.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    link::{Answer, Link},
    stored::{self, Listing},
};
use crate::{RegisterError, SnapshotCell, backoff::reread};

/// How long the node holds an answer back: so long it takes to notice one that is frozen, and the timeout.
pub(super) const WAIT: Duration = Duration::from_secs(5);

pub(super) async fn list(link: &Link, path: &str) -> Result<Listing, RegisterError> {
    match link.get("list the instances", path, Duration::ZERO).await? {
        Answer::Body(body) => stored::decode(&body).map_err(|reason| link.about().rejected(reason)),
        Answer::Same | Answer::Missing => Err(link.no_gregister()),
    }
}

/// A full read, and whatever has changed since then. Each answer is a full list again: the node gives one at once to a client
/// that knows another store, or a revision that is not of it.
pub(super) async fn follow(link: &Link, path: &str, cell: &SnapshotCell) -> Result<(), RegisterError> {
    let Listing { mut store, mut revision, found } = list(link, path).await?;
    cell.refresh(found);
    let due = Instant::now() + reread();
    while Instant::now() < due {
        let since = format!("{path}?store={store}&revision={revision}&wait={}", WAIT.as_secs());
        if let Answer::Body(body) = link.get("tell what has changed", &since, WAIT).await? {
            let listing = stored::decode(&body).map_err(|reason| link.about().rejected(reason))?;
            cell.refresh(listing.found);
            (store, revision) = (listing.store, listing.revision);
        }
    }
    Ok(())
}
