//! Reads and follows the instances of one service.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Instant, timeout, timeout_at};
use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher, SessionState, WatchedEvent};

use super::{
    layout::Layout,
    link::{Link, Session},
    nodes::{self, Node},
    stored::Stored,
};
use crate::{Found, RegisterError, ServiceName, ServicesCell, Skipped, SnapshotCell, backoff::reread};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    link: Arc<Link>,
    layout: Layout,
}

/// Entries of one service by the names of their nodes.
type Listing = BTreeMap<String, Found>;

/// Consequence of an event.
enum Next {
    /// The list may have changed.
    Node(String),
    /// Nothing is known to have changed, and all is read again.
    All,
    Nothing,
}

impl Reader {
    pub(super) fn new(link: Arc<Link>, layout: Layout) -> Self {
        Self { link, layout }
    }

    pub(super) async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        let directory = &self.layout.directory(service);
        let names = |client: Client| async move { nodes::names(&client, directory).await };
        let names = self.link.call("list the instances", names).await?;
        let mut listing = Listing::new();
        // Each within the timeout: a list may be long.
        for some in names.chunks(nodes::TOGETHER) {
            let read = |client: Client| async move { nodes::read(&client, directory, some).await };
            self.put_all(&mut listing, directory, &self.link.call("read the instances", read).await?);
        }
        Ok(self.found(&listing))
    }

    /// The same on one session.
    async fn listing(&self, session: &Session, directory: &str) -> Result<Listing, RegisterError> {
        let client = &session.client;
        let names = self.link.bounded(session, "list the instances", nodes::names(client, directory)).await?;
        let mut listing = Listing::new();
        for some in names.chunks(nodes::TOGETHER) {
            let found = self.link.bounded(session, "read the instances", nodes::read(client, directory, some)).await?;
            self.put_all(&mut listing, directory, &found);
        }
        Ok(listing)
    }

    /// One watch, for as long as its session lives. Events may be lost with the connection, so all is read again after that.
    pub(super) async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        let directory = &self.layout.directory(service);
        let session = self.link.session().await?;
        let client = &session.client;
        let watch = client.watch(directory, AddWatchMode::PersistentRecursive);
        let mut watcher = self.link.bounded(&session, "open a watch", watch).await?;
        loop {
            let mut listing = self.listing(&session, directory).await?;
            cell.refresh(self.found(&listing));
            let due = Instant::now() + reread();
            while let Ok(event) = timeout_at(due, session.life.told(watcher.changed())).await {
                let event = event.ok_or_else(|| self.link.about().unreachable("the session has ended"))?;
                match self.next(directory, event, &session, &mut watcher, cell).await? {
                    Next::All => break,
                    Next::Nothing => {}
                    Next::Node(name) => {
                        let read = nodes::child(client, directory, &name);
                        match self.link.bounded(&session, "read an instance", read).await? {
                            Some(node) => self.put(&mut listing, directory, &node),
                            None => drop(listing.remove(&name)),
                        }
                        cell.refresh(self.found(&listing));
                    }
                }
            }
        }
    }

    /// The names of all services: the children of the base.
    pub(super) async fn services(&self) -> Result<Vec<ServiceName>, RegisterError> {
        let base = self.layout.base();
        let read = |client: Client| async move {
            client.sync(base).await?;
            match client.list_children(base).await {
                Err(Error::NoNode) => Ok(Vec::new()),
                names => names,
            }
        };
        Ok(named(&self.link.call("list the services", read).await?))
    }

    /// The names as they are, and again whenever a child comes or goes, for as long as the session lives.
    pub(super) async fn follow_services(&self, cell: &ServicesCell) -> Result<(), RegisterError> {
        let (base, session) = (self.layout.base(), self.link.session().await?);
        let read = || async {
            Ok(match session.client.list_and_watch_children(base).await {
                Err(Error::NoNode) => (Vec::new(), session.client.check_and_watch_stat(base).await?.1),
                read => read?,
            })
        };
        loop {
            let (names, changed) = self.link.bounded(&session, "list the services", read()).await?;
            cell.refresh(named(&names));
            let lost = tokio::select! {
                // Late: whatever the watch may have missed is seen by the next read.
                told = timeout(reread(), session.life.told(changed.changed())) => match told {
                    Ok(None) => "the session has ended",
                    Ok(Some(_)) | Err(_) => continue,
                },
                () = session.disconnected() => "the connection was lost",
                () = session.over() => "the session is over",
            };
            return Err(self.link.about().unreachable(lost));
        }
    }

    /// The consequence of an event. One that says that the connection was lost: waits until it is there again.
    ///
    /// # Errors
    /// The session has ended, and the watch with it.
    async fn next(
        &self,
        directory: &str,
        mut event: WatchedEvent,
        session: &Session,
        watcher: &mut PersistentWatcher,
        cell: &SnapshotCell,
    ) -> Result<Next, RegisterError> {
        while event.event_type == EventType::Session {
            match event.session_state {
                SessionState::SyncConnected | SessionState::ConnectedReadOnly => return Ok(Next::All),
                SessionState::Disconnected => {
                    cell.fail(&self.link.about().unreachable("the connection was lost"));
                    event = tokio::select! {
                        event = session.life.told(watcher.changed()) => {
                            event.ok_or_else(|| self.link.about().unreachable("the session has ended"))?
                        }
                        () = session.over() => return Err(self.link.about().unreachable("the session was given up")),
                    };
                }
                _ => return Err(self.link.about().unreachable("the session has ended")),
            }
        }
        let below = event.path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
        Ok(match below {
            Some(name) if !name.contains('/') => Next::Node(name.to_owned()),
            Some(_) | None => Next::Nothing,
        })
    }

    fn found(&self, listing: &Listing) -> Vec<Found> {
        self.layout.listed(listing.iter().map(|(name, found)| (name.as_str(), found.clone())))
    }

    fn put_all(&self, listing: &mut Listing, directory: &str, found: &[Node]) {
        found.iter().for_each(|node| self.put(listing, directory, node));
    }

    fn put(&self, listing: &mut Listing, directory: &str, node: &Node) {
        let decoded = match &node.data {
            Some(data) => self.layout.decode(&node.name, data),
            None => Err("it may not be read".to_owned()),
        };
        let found = match decoded {
            Ok(Stored::Instance(instance)) => Ok(instance),
            Ok(Stored::Nothing) => return drop(listing.remove(&node.name)),
            Err(reason) => Err(Skipped::new(format!("{directory}/{}", node.name), reason)),
        };
        listing.insert(node.name.clone(), found);
    }
}

/// The names of services among those of nodes.
fn named(nodes: &[String]) -> Vec<ServiceName> {
    nodes.iter().filter_map(|name| ServiceName::new(name).ok()).collect()
}
