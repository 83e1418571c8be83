//! Elections in ZooKeeper: a queue of nodes in `<base>@election/<service>`, or the one node that its peers contend for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tracing::debug;
use zookeeper_client::{Client, Error, OneshotWatcher, SessionState, Stat};

use super::{
    candidate::{Queued, ZookeeperCandidate},
    layout::{Contest, Layout},
    link::Link,
};
use crate::{
    Election, Instance, Leadership, Master, MasterWatch, RegisterError, ServiceName,
    backoff::Backoff,
    election::{self, Campaigns, MasterCell, Observers},
};

#[derive(Debug)]
pub(super) struct ZookeeperElection {
    link: Arc<Link>,
    layout: Layout,
    campaigns: Campaigns,
    observers: Observers,
}

impl ZookeeperElection {
    pub(super) fn new(link: Arc<Link>, layout: Layout) -> Arc<Self> {
        Arc::new(Self { link, layout, campaigns: Campaigns::default(), observers: Observers::new() })
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), RegisterError> {
        election::close(&self.campaigns, &self.observers, deadline).await
    }
}

#[async_trait]
impl Election for ZookeeperElection {
    async fn campaign(
        &self,
        service: &ServiceName,
        instance: Instance,
        deadline: Duration,
    ) -> Result<Leadership, RegisterError> {
        instance.check()?;
        check(service)?;
        self.layout
            .check(&instance)
            .map_err(|reason| RegisterError::InvalidInstance { instance: instance.id().to_owned(), reason })?;
        let data = self.layout.encode(service, &instance, SystemTime::now());
        let candidate = ZookeeperCandidate::new(self.link.another(), self.layout.contest(service), instance.id(), data);
        self.campaigns.run(self.link.url(), service, instance, deadline, candidate).await
    }

    fn observe(&self, service: &ServiceName) -> MasterWatch {
        let view = View { link: self.link.clone(), layout: self.layout.clone(), contest: self.layout.contest(service) };
        let valid = check(service);
        self.observers.open(Some(self.link.runtime()), |cell| async move {
            match valid {
                Ok(()) => view.follow(&cell).await,
                Err(error) => {
                    cell.fail(error);
                    std::future::pending().await
                }
            }
        })
    }

    async fn master(&self, service: &ServiceName) -> Result<Master, RegisterError> {
        if self.campaigns.is_closed() {
            return Err(RegisterError::Closed { registry: self.link.url().to_owned() });
        }
        check(service)?;
        let contest = &self.layout.contest(service);
        let read = |client: Client| async move {
            let (Contest::Queue(path) | Contest::Node(path)) = contest;
            // A server may lag behind the others; this makes it catch up.
            client.sync(path).await?;
            first(&client, contest).await
        };
        let found = self.link.call("read the master", read).await?.found;
        let nobody = || RegisterError::NoMaster { registry: self.link.url().to_owned(), service: service.to_string() };
        decoded(&self.link, &self.layout, found)?.ok_or_else(nobody)
    }
}

fn check(service: &ServiceName) -> Result<(), RegisterError> {
    super::stored::check_step(service.as_str())
        .map_err(|reason| RegisterError::InvalidName { name: service.to_string(), reason })
}

/// Who is first, and what tells when that may change.
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
                        // It was made in between.
                        (Some(_), _) => continue,
                    },
                    listed => listed?,
                };
                let queued = names.iter().filter_map(|name| Queued::parse(name));
                let Some(queued) = queued.min_by_key(|queued| queued.number) else {
                    return Ok(First { found: None, change });
                };
                (format!("{directory}/{}", queued.name), queued.id.to_owned(), change)
            }
        };
        match client.get_data(&path).await {
            Ok((data, stat)) => return Ok(First { found: Some(Found { path, id, data, stat }), change }),
            // It went in between.
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
}

fn decoded(link: &Link, layout: &Layout, found: Option<Found>) -> Result<Option<Master>, RegisterError> {
    let Some(Found { path, id, data, stat }) = found else { return Ok(None) };
    match layout.candidate(&id, &data) {
        Ok(instance) => Ok(Some(Master::new(instance, stat.czxid.unsigned_abs()))),
        Err(reason) => {
            let reason = format!("{path} is no candidate: {reason}");
            Err(RegisterError::Rejected { registry: link.url().to_owned(), reason })
        }
    }
}

/// Follows one contest.
struct View {
    link: Arc<Link>,
    layout: Layout,
    contest: Contest,
}

impl View {
    /// A full read from time to time corrects whatever a watch may have missed.
    const REREAD: Duration = Duration::from_secs(30);

    async fn follow(&self, cell: &MasterCell) {
        let mut backoff = Backoff::default();
        loop {
            if let Err(error) = self.round(cell, &mut backoff).await {
                debug!("watch of a master: {error}");
                cell.fail(error);
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// One session, for as long as it lives.
    async fn round(&self, cell: &MasterCell, backoff: &mut Backoff) -> Result<(), RegisterError> {
        let session = self.link.session().await?;
        let mut states = session.client.state_watcher();
        loop {
            let read = self.link.bounded(&session, "read the master", first(&session.client, &self.contest)).await?;
            cell.refresh(decoded(&self.link, &self.layout, read.found)?);
            backoff.reset();
            tokio::select! {
                told = timeout(Self::REREAD, session.life.told(read.change.changed())) => {
                    if let Ok(None) = told {
                        return Err(self.link.unreachable("the session has ended"));
                    }
                }
                () = session.over() => return Err(self.link.unreachable("the session was given up")),
                // The next read waits for the connection, and says so if that does not come back.
                state = states.changed() => if state == SessionState::Disconnected {
                    cell.fail(self.link.unreachable("the connection was lost"));
                },
            }
        }
    }
}
