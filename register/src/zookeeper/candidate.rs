//! One campaign in ZooKeeper, over a session of its own: whatever that session owns where candidates stand is this one's,
//! also where the answer to its creation was lost.

use std::{cmp::Reverse, sync::Arc};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tracing::debug;
use zookeeper_client::{Client, CreateMode, Error};

use super::{
    layout::Contest,
    link::{Link, Session, is_lost},
    nodes,
    queue::Queued,
};
use crate::{Candidate, Moment, RegisterError, Term, backoff::reread};

pub(super) struct ZookeeperCandidate {
    link: Arc<Link>,
    contest: Contest,
    /// Beginning of the name of its node in a queue; ZooKeeper adds ten digits.
    name: String,
    data: Vec<u8>,
    session: Option<Session>,
    /// Path of the node that it has or had under this session.
    path: String,
}

impl ZookeeperCandidate {
    /// `link` is used by this candidate alone.
    pub(super) fn new(link: Link, contest: Contest, id: &str, data: Vec<u8>) -> Self {
        let name = format!("{:016x}-{id}-", fastrand::u64(..));
        Self { link: Arc::new(link), contest, name, data, session: None, path: String::new() }
    }

    fn lost(&self) -> RegisterError {
        self.link.about().unreachable("the session has ended")
    }

    /// The path of its node in a queue under this session, made if it is not there.
    async fn enter(&self, session: &Session, directory: &str) -> Result<String, Error> {
        let path = format!("{directory}/{}", self.name);
        loop {
            let entered = match self.own(&session.client, directory).await {
                Ok(Some(own)) => return Ok(own),
                Ok(None) => {
                    let mode = CreateMode::EphemeralSequential;
                    nodes::replace(&self.link, &session.client, &[], &path, &self.data, mode).await
                }
                Err(error) => Err(error),
            };
            match entered {
                // The answer may be lost, and the node there: it is looked for.
                Err(error) if is_lost(&error) && !session.is_over() => sleep(Link::AGAIN).await,
                Err(Error::NoNode | Error::NodeExists) => sleep(Link::AGAIN).await,
                entered => return entered,
            }
        }
    }

    /// The node in the queue that is of this campaign and this session. One of a session that gave way to this one is removed: until
    /// ZooKeeper ends that by itself, those behind it would wait for nobody.
    async fn own(&self, client: &Client, directory: &str) -> Result<Option<String>, Error> {
        let names = match client.list_children(directory).await {
            Err(Error::NoNode) => return Ok(None),
            names => names?,
        };
        let mut own = None;
        for name in names.iter().filter(|name| name.starts_with(&self.name)) {
            let path = format!("{directory}/{name}");
            match nodes::owner(client, &path).await? {
                Some(owner) if owner == client.session_id().0 => own = Some(path),
                Some(_) => nodes::delete(client, &path).await?,
                None => {}
            }
        }
        Ok(own)
    }

    /// Waits until no node in the queue is before its own. Each waits for the one before it, so that an end wakes one and not
    /// all.
    async fn turn(&self, session: &Session, directory: &str) -> Result<(), RegisterError> {
        let client = &session.client;
        let own = Queued::parse(self.path.rsplit('/').next().unwrap_or_default()).map_or(0, |own| own.number);
        loop {
            let names = self.link.bounded(session, "list the candidates", client.list_children(directory)).await?;
            let before = names.iter().filter_map(|name| Queued::parse(name)).filter(|other| other.number < own);
            let mut before: Vec<_> = before.collect();
            before.sort_by_key(|other| Reverse(other.number));
            let before = nodes::first_owned(client, directory, before.into_iter());
            let Some(before) = self.link.bounded(session, "find the candidate before it", before).await? else {
                return Ok(());
            };
            self.gone(session, &format!("{directory}/{}", before.name)).await?;
        }
    }

    /// Waits until the node of another one may be gone.
    async fn gone(&self, session: &Session, path: &str) -> Result<(), RegisterError> {
        let watching = session.client.check_and_watch_stat(path);
        let (stat, watcher) = self.link.bounded(session, "watch a candidate", watching).await?;
        if stat.is_none() {
            return Ok(());
        }
        tokio::select! {
            // Late: whatever the watch may have missed is seen by the next read.
            told = timeout(reread(), session.life.told(watcher.changed())) => match told {
                Ok(None) => Err(self.lost()),
                Ok(Some(_)) | Err(_) => Ok(()),
            },
            () = session.over() => Err(self.lost()),
        }
    }

    /// Waits until the one node is its own.
    async fn seize(&self, session: &Session, path: &str) -> Result<(), RegisterError> {
        let client = &session.client;
        loop {
            let take = nodes::replace(&self.link, client, &[], path, &self.data, CreateMode::Ephemeral);
            let taken = tokio::select! {
                biased;
                taken = timeout(self.link.timeout(), take) => taken,
                () = session.over() => return Err(self.lost()),
            };
            match taken {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(Error::NodeExists)) => {
                    let owner = self.link.bounded(session, "read the master", nodes::owner(client, path)).await?;
                    match owner {
                        Some(owner) if owner == session.id() => return Ok(()),
                        Some(_) => self.gone(session, path).await?,
                        None => {}
                    }
                }
                Ok(Err(Error::NoNode)) => sleep(Link::AGAIN).await,
                Ok(Err(error)) => return Err(self.link.named(&error)),
                Err(_) => return Err(self.link.late("take the master's place")),
            }
        }
    }

    /// Has ZooKeeper confirm that the session lives and owns the node; then the token. `None`: it does not own it.
    async fn beat(&self, session: &Session, term: &Term) -> Result<Option<u64>, RegisterError> {
        let sent = Moment::now();
        // A server that is cut off from the others reads what it knows, while they may elect another one: it cannot catch up with them.
        let (caught_up, found) = (session.client.sync(&self.path), session.client.check_stat(&self.path));
        let confirming = async {
            caught_up.await?;
            found.await
        };
        let found = self.link.bounded(session, "confirm the candidate", confirming).await?;
        Ok(found.filter(|stat| stat.ephemeral_owner == session.id()).map(|stat| {
            term.confirm(sent, session.client.session_timeout());
            stat.czxid.unsigned_abs()
        }))
    }

    async fn confirmed(&self, session: &Session, term: &Term) -> Result<u64, RegisterError> {
        let gone = || self.link.about().unreachable("its node is gone");
        self.beat(session, term).await?.ok_or_else(gone)
    }

    /// Has it confirmed for ever; returns when the node is not its own.
    async fn beats(&self, session: &Session, term: &Term) -> String {
        loop {
            // Two thirds of the session's time hold three: one may be lost and the next one still comes in time.
            sleep(session.client.session_timeout() / 5).await;
            match self.beat(session, term).await {
                Ok(Some(_)) => {}
                Ok(None) => return "its node was deleted".to_owned(),
                Err(error) => debug!("{}: it could not be confirmed: {error}", self.path),
            }
        }
    }

    /// Returns as soon as the node is not its own any more.
    async fn deposed(&self, session: &Session, term: &Term) {
        loop {
            let watched = self.gone(session, &self.path).await;
            match self.beat(session, term).await {
                Ok(None) => return,
                Ok(Some(_)) if watched.is_ok() => {}
                Ok(Some(_)) | Err(_) => sleep(session.client.session_timeout() / 5).await,
            }
        }
    }
}

#[async_trait]
impl Candidate for ZookeeperCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        let session = self.link.session().await?;
        self.session = Some(session.clone());
        match self.contest.clone() {
            Contest::Queue(directory) => {
                self.path = self.link.bounded(&session, "enter the election", self.enter(&session, &directory)).await?;
                self.confirmed(&session, term).await?;
                self.turn(&session, &directory).await?;
            }
            Contest::Node(path) => {
                self.seize(&session, &path).await?;
                self.path = path;
            }
        }
        self.confirmed(&session, term).await
    }

    async fn held(&mut self, term: &Term) -> String {
        let Some(session) = &self.session else { return "it has no session".to_owned() };
        tokio::select! {
            biased;
            // Not only when it is said to have ended: without a connection it may end, and nobody says so.
            () = session.disconnected() => "the connection to ZooKeeper was lost".to_owned(),
            () = session.over() => "its session has ended".to_owned(),
            () = self.deposed(session, term) => "its node was deleted".to_owned(),
            reason = self.beats(session, term) => reason,
        }
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        let Some(session) = &self.session else { return Ok(()) };
        // Nodes of a session that has ended have ended with it.
        if !session.is_over() {
            let client = &session.client;
            let removing = async {
                // Requests that are still under way on this session are done before.
                let own = match &self.contest {
                    Contest::Queue(directory) => self.own(client, directory).await?,
                    Contest::Node(path) => {
                        let owner = nodes::owner(client, path).await?;
                        (owner == Some(session.id())).then(|| path.clone())
                    }
                };
                match own {
                    Some(path) => nodes::delete(client, &path).await,
                    None => Ok(()),
                }
            };
            self.link.bounded(session, "leave the election", removing).await?;
        }
        self.session = None;
        self.link.leave().await;
        Ok(())
    }
}
