//! One campaign in gregister: a place in the node's queue, which is renewed again and again, while one more request waits for news
//! of it.

use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, body::Bytes};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info};

use super::{
    link::{Answer, Link},
    source::WAIT,
    stored::{self, Place},
};
use crate::{Backoff, Candidate, Instance, Moment, RegisterError, Term};

pub(super) struct GregisterCandidate {
    link: Link,
    /// Its name is chosen here, and known to nobody else: what is in the queue under it is ours, whether the answer arrived or not.
    path: String,
    body: Bytes,
    /// The time that was asked for, and then the time that the node gave.
    ttl: Duration,
    /// The store that it entered: in another one it is nobody.
    store: String,
    /// Token of its term, if it leads.
    token: Option<u64>,
    /// True if anything may be written.
    entered: bool,
}

impl GregisterCandidate {
    pub(super) fn new(link: Link, contest: &str, instance: &Instance, ttl: Duration) -> Self {
        let path = format!("{contest}/{:016x}", fastrand::u64(..));
        let body = stored::encode_candidate(instance, ttl).into();
        Self { link, path, body, ttl, store: String::new(), token: None, entered: false }
    }

    /// A fifth of the lease: of the renewals in two thirds of it, one may be lost and the next one still comes in time.
    fn beat(&self) -> Duration {
        self.ttl / 5
    }

    async fn enter(&self) -> Result<Place, RegisterError> {
        let entering = self.link.ask("enter the election", Method::PUT, &self.path, self.body.clone(), Duration::ZERO);
        self.read(entering.await?)?.ok_or_else(|| self.link.no_gregister())
    }

    /// Its place, as an answer says. `None`: it has none.
    fn read(&self, answer: Answer) -> Result<Option<Place>, RegisterError> {
        match answer {
            Answer::Body(body) => {
                stored::decode_place(&body).map(Some).map_err(|reason| self.link.about().rejected(reason))
            }
            Answer::Missing => Ok(None),
            Answer::Same => Err(self.link.no_gregister()),
        }
    }

    /// In the store that it entered.
    fn own(&self, place: Option<Place>) -> Option<Place> {
        place.filter(|place| place.store == self.store)
    }

    /// Renews the lease, over whatever breaks; returns when its place has another token than it knows of, or `None` when it is gone.
    ///
    /// A renewal waits for no other one: where answers take long, each still counts from when it was asked for.
    async fn renew(&self, term: &Term) -> Option<Place> {
        let mut beats = interval(self.beat());
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            let renewed = tokio::select! {
                _ = beats.tick() => {
                    under_way.spawn(renewal(self.link.clone(), format!("{}/renew", self.path), self.ttl));
                    continue;
                }
                Some(Ok(renewed)) = under_way.join_next() => renewed,
            };
            let (sent, answer) = renewed;
            match answer.and_then(|answer| self.read(answer)).map(|place| self.own(place)) {
                Ok(Some(place)) => {
                    term.confirm(sent, place.ttl);
                    if place.token != self.token {
                        return Some(place);
                    }
                }
                Ok(None) => return None,
                Err(error) => debug!("{}: its lease could not be renewed: {error}", self.path),
            }
        }
    }

    /// Waits for the same without renewing anything: the node answers as soon as it happens.
    async fn news(&self) -> Option<Place> {
        let term = self.token.map(|token| format!("&term={token}")).unwrap_or_default();
        let path = format!("{}?wait={}{term}", self.path, WAIT.as_secs());
        let mut backoff = Backoff::default();
        loop {
            let told = self.link.get("tell its turn", &path, WAIT).await;
            match told.and_then(|answer| self.read(answer)).map(|place| self.own(place)) {
                Ok(Some(place)) if place.token == self.token => backoff.reset(),
                Ok(place) => return place,
                Err(error) => {
                    debug!("{}: there is no news of it: {error}", self.path);
                    sleep(backoff.next_delay().min(self.beat())).await;
                }
            }
        }
    }

    /// Has its lease renewed until its place has another token than it knows of; `None`: it is gone.
    async fn stay(&self, term: &Term) -> Option<Place> {
        tokio::select! {
            place = self.renew(term) => place,
            place = self.news() => place,
        }
    }
}

/// One renewal, with the moment when it was asked for. An answer that comes after the whole lease confirms nothing any more.
async fn renewal(link: Link, path: String, ttl: Duration) -> (Moment, Result<Answer, RegisterError>) {
    let sent = Moment::now();
    let renewing = link.ask("renew the lease", Method::POST, &path, Bytes::new(), Duration::ZERO);
    (sent, link.about().within(ttl, "renew the lease", renewing).await)
}

#[async_trait]
impl Candidate for GregisterCandidate {
    async fn elected(&mut self, term: &Term) -> Result<u64, RegisterError> {
        self.entered = true;
        let sent = Moment::now();
        // A candidate in the queue keeps its seat.
        let Place { store, elects, ttl, token } = self.enter().await?;
        term.confirm(sent, ttl);
        (self.store, self.ttl, self.token) = (store, ttl, None);
        if !elects {
            info!("{} in {}: its store is new, and elects nobody yet", self.path, self.link.about().url());
        }
        let token = match token {
            Some(token) => Some(token),
            None => self.stay(term).await.and_then(|place| place.token),
        };
        self.token = token;
        token.ok_or_else(|| self.link.about().unreachable("its place in the queue is gone"))
    }

    async fn held(&mut self, term: &Term) -> String {
        // Its own token changes only with its place.
        self.stay(term).await;
        "its lease has ended, or it was removed".to_owned()
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        if self.entered {
            let leaving = self.link.ask("leave the election", Method::DELETE, &self.path, Bytes::new(), Duration::ZERO);
            // Gone: done, too.
            leaving.await?;
        }
        Ok(())
    }
}
