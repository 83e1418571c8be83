//! Keeps one node in ZooKeeper, under a session.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;
use zookeeper_client::{Client, CreateMode, Error, EventType};

use super::{
    layout::Layout,
    link::{Link, Session, is_lost},
    nodes,
    stored::Stored,
    stored::normal,
};
use crate::{Backoff, Instance, LeaseKeeper, RegisterError, ServiceName};

/// One registration.
pub(super) struct ZookeeperKeeper {
    link: Arc<Link>,
    layout: Layout,
    service: ServiceName,
    id: String,
    data: Vec<u8>,
    /// The sessions under which it may be written: what they own of this instance is ours, also where the answer to its
    /// creation was lost. Empty: nothing is written.
    sessions: BTreeSet<i64>,
    /// The node as it was written last, and the session that owns it.
    written: Option<(Session, String)>,
}

impl ZookeeperKeeper {
    pub(super) fn new(link: Arc<Link>, layout: Layout, service: ServiceName, id: String, data: Vec<u8>) -> Self {
        Self { link, layout, service, id, data, sessions: BTreeSet::new(), written: None }
    }

    /// Writes the node until that is confirmed, as long as the session lives. `again`: it may be there from an earlier attempt.
    async fn write(&self, session: &Session, mut again: bool) -> Result<String, Error> {
        loop {
            match self.write_once(&session.client, again).await {
                // Somebody else was at work; or the answer was lost, and what was asked for may be done.
                Err(Error::NodeExists | Error::NoNode) => {}
                Err(error) if is_lost(&error) && !session.is_over() => {}
                written => return written,
            }
            again = true;
            sleep(Link::AGAIN).await;
        }
    }

    async fn write_once(&self, client: &Client, again: bool) -> Result<String, Error> {
        let (link, data) = (&*self.link, &*self.data);
        let Some(path) = self.layout.node(&self.service, &self.id) else {
            return self.write_numbered(client, again).await;
        };
        // In place: a node that is there keeps its order of creation, and no watcher sees it go.
        if again && nodes::owner(client, &path).await? == Some(client.session_id().0) {
            return client.set_data(&path, data, None).await.map(|_| path);
        }
        match nodes::replace(link, client, &[], &path, data, CreateMode::Ephemeral).await {
            // The last to write is listed: this one.
            Err(Error::NodeExists) => {
                let old = [path.clone()];
                nodes::replace(link, client, &old, &path, data, CreateMode::Ephemeral).await
            }
            written => written,
        }
    }

    /// ZooKeeper chooses the name, so that what an earlier attempt wrote has another one.
    async fn write_numbered(&self, client: &Client, again: bool) -> Result<String, Error> {
        let mut old = if again { self.own(client).await? } else { Vec::new() };
        let current = client.session_id().0;
        let Some(kept) = old.iter().position(|(_, owner)| *owner == current) else {
            let path = format!("{}/{}", self.layout.directory(&self.service), normal::PREFIX);
            let old: Vec<_> = old.into_iter().map(|(path, _)| path).collect();
            return nodes::replace(&self.link, client, &old, &path, &self.data, CreateMode::EphemeralSequential).await;
        };
        let (path, _) = old.swap_remove(kept);
        client.set_data(&path, &self.data, None).await?;
        for (older, _) in old {
            nodes::delete(client, &older).await?;
        }
        Ok(path)
    }

    /// The nodes of this instance that are ours, with their owners.
    async fn own(&self, client: &Client) -> Result<Vec<(String, i64)>, Error> {
        let Some(path) = self.layout.node(&self.service, &self.id) else {
            let directory = self.layout.directory(&self.service);
            let mut own = Vec::new();
            for node in nodes::children(client, &directory).await? {
                if self.sessions.contains(&node.owner) && self.is_this(&node) {
                    own.push((format!("{directory}/{}", node.name), node.owner));
                }
            }
            return Ok(own);
        };
        Ok(match nodes::owner(client, &path).await? {
            Some(owner) if self.sessions.contains(&owner) => vec![(path, owner)],
            Some(_) | None => Vec::new(),
        })
    }

    /// Returns true if the node is of this instance: others of the same process are of the same session.
    fn is_this(&self, node: &nodes::Node) -> bool {
        let decoded = node.data.as_ref().map(|data| self.layout.decode(&node.name, data));
        matches!(decoded, Some(Ok(Stored::Instance(instance))) if instance.id() == self.id)
    }

    /// Ok once ZooKeeper has nothing of it any more. Whatever may still be under way on a session that lives is done first, in
    /// its order; one that has ended writes nothing more.
    async fn remove(&mut self) -> Result<(), RegisterError> {
        if self.sessions.is_empty() {
            return Ok(());
        }
        let this = &*self;
        let remove = |client: Client| async move {
            for (path, _) in this.own(&client).await? {
                nodes::delete(&client, &path).await?;
            }
            Ok(())
        };
        this.link.call("remove the instance", remove).await?;
        self.sessions.clear();
        self.written = None;
        Ok(())
    }
}

#[async_trait]
impl LeaseKeeper for ZookeeperKeeper {
    async fn acquire(&mut self) -> Result<(), RegisterError> {
        let end = Instant::now() + self.link.timeout();
        let (session, path) = loop {
            let session = self.link.session().await?;
            let again = !self.sessions.is_empty();
            self.sessions.insert(session.id());
            tokio::select! {
                biased;
                written = timeout_at(end, self.write(&session, again)) => match written {
                    Err(_) => return Err(self.link.late("write the instance")),
                    // The next one may be there at once.
                    Ok(Err(error)) if is_lost(&error) && session.is_over() => sleep(Link::AGAIN).await,
                    Ok(Err(error)) => return Err(self.link.named_at(&self.layout.directory(&self.service), &error)),
                    Ok(Ok(path)) => break (session, path),
                },
                () = session.over() => {}
            }
        };
        // Nodes of earlier sessions have been replaced.
        self.sessions = BTreeSet::from([session.id()]);
        self.written = Some((session, path));
        Ok(())
    }

    fn update(&mut self, instance: &Instance) -> Result<(), RegisterError> {
        self.layout
            .check(instance)
            .map_err(|reason| RegisterError::InvalidInstance { instance: instance.id().to_owned(), reason })?;
        self.data = self.layout.encode(&self.service, instance, SystemTime::now());
        Ok(())
    }

    async fn held(&mut self) -> String {
        let Some((session, path)) = &self.written else { return "nothing is written".to_owned() };
        tokio::select! {
            () = removed(session, path) => "its node was deleted".to_owned(),
            () = session.over() => "its session has ended".to_owned(),
        }
    }

    async fn release(&mut self) -> Result<(), RegisterError> {
        self.remove().await
    }

    /// A write whose answer came too late for its caller is there all the same, as long as the session.
    async fn undo(&mut self) -> Result<(), RegisterError> {
        self.remove().await
    }
}

/// Returns when the node is gone, whoever took it. While the session lives, that is: it does not see its end.
async fn removed(session: &Session, path: &str) {
    let mut backoff = Backoff::default();
    loop {
        match session.client.check_and_watch_stat(path).await {
            Ok((None, _)) => return,
            // Of another session: somebody else has written it since, and it is theirs.
            Ok((Some(_), watcher)) => {
                let event = session.life.told(watcher.changed()).await;
                if event.is_some_and(|event| event.event_type != EventType::Session) {
                    backoff.reset();
                    continue;
                }
            }
            Err(error) => debug!("{path} could not be watched: {error}"),
        }
        sleep(backoff.next_delay()).await;
    }
}
