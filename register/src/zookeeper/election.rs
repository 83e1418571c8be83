//! Elections in ZooKeeper: a queue of nodes in `<base>@election/<service>`, or the one node that its peers contend for.

use std::time::SystemTime;

use async_trait::async_trait;
use tokio::time::timeout;
use zookeeper_client::{Client, Error, OneshotWatcher, SessionState, Stat};

use super::{
    ZookeeperBackend,
    candidate::ZookeeperCandidate,
    layout::{Contest, Layout},
    link::Link,
    nodes,
    queue::Queued,
};
use crate::{Candidate, ElectionBackend, Instance, Master, MasterCell, RegisterError, ServiceName, backoff::reread};

#[async_trait]
impl ElectionBackend for ZookeeperBackend {
    fn candidate(&self, service: &ServiceName, instance: &Instance) -> Box<dyn Candidate> {
        let data = self.layout.encode_candidate(service, instance, SystemTime::now());
        let (link, contest) = (self.link.another(), self.layout.contest(service));
        Box::new(ZookeeperCandidate::new(link, contest, instance.id(), data))
    }

    async fn master(&self, service: &ServiceName) -> Result<Option<Master>, RegisterError> {
        let contest = &self.layout.contest(service);
        let read = |client: Client| async move {
            let (Contest::Queue(path) | Contest::Node(path)) = contest;
            // A server may lag behind the others; this makes it catch up.
            client.sync(path).await?;
            first(&client, contest).await
        };
        let found = self.link.call("read the master", read).await?.found;
        decoded(&self.link, &self.layout, found)
    }

    /// One session, for as long as it lives.
    async fn follow_master(&self, service: &ServiceName, cell: &MasterCell) -> Result<(), RegisterError> {
        let (link, contest) = (&self.link, self.layout.contest(service));
        let session = link.session().await?;
        let mut states = session.client.state_watcher();
        loop {
            let read = link.bounded(&session, "read the master", first(&session.client, &contest)).await?;
            cell.refresh(decoded(link, &self.layout, read.found)?);
            tokio::select! {
                told = timeout(reread(), session.life.told(read.change.changed())) => {
                    if let Ok(None) = told {
                        return Err(link.about().unreachable("the session has ended"));
                    }
                }
                () = session.over() => return Err(link.about().unreachable("the session was given up")),
                // The next read waits for the connection, and says so if that does not come back.
                state = states.changed() => if state == SessionState::Disconnected {
                    cell.fail(link.about().unreachable("the connection was lost"));
                },
            }
        }
    }
}

/// The first candidate, and the watch that ends when that may change.
struct First {
    found: Option<Found>,
    change: OneshotWatcher,
}

/// A candidate's node.
struct Found {
    path: String,
    id: String,
    data: Vec<u8>,
    stat: Stat,
}

async fn first(client: &Client, contest: &Contest) -> Result<First, Error> {
    loop {
        let (path, id, change) = match contest {
            Contest::Node(path) => {
                let (stat, change) = client.check_and_watch_stat(path).await?;
                if stat.is_none() {
                    return Ok(First { found: None, change });
                }
                (path.clone(), String::new(), change)
            }
            Contest::Queue(directory) => {
                let (names, change) = match client.list_and_watch_children(directory).await {
                    Err(Error::NoNode) => match client.check_and_watch_stat(directory).await? {
                        (None, change) => return Ok(First { found: None, change }),
                        // The directory was made in between.
                        (Some(_), _) => continue,
                    },
                    listed => listed?,
                };
                let mut queued: Vec<_> = names.iter().filter_map(|name| Queued::parse(name)).collect();
                queued.sort_by_key(|queued| queued.number);
                let Some(first) = nodes::first_owned(client, directory, queued.into_iter()).await? else {
                    return Ok(First { found: None, change });
                };
                (format!("{directory}/{}", first.name), first.id.to_owned(), change)
            }
        };
        match client.get_data(&path).await {
            Ok((data, stat)) => return Ok(First { found: Some(Found { path, id, data, stat }), change }),
            // The node went in between.
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
}

fn decoded(link: &Link, layout: &Layout, found: Option<Found>) -> Result<Option<Master>, RegisterError> {
    let Some(Found { path, id, data, stat }) = found else { return Ok(None) };
    match layout.candidate(&id, &data) {
        Ok(instance) => Ok(Some(Master::new(instance, stat.czxid.unsigned_abs()))),
        Err(reason) => Err(link.about().rejected(format!("{path} is no candidate: {reason}"))),
    }
}
