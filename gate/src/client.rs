//! The gates, for back ends: pushes, users, groups.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use ms_register::Instance;
use ms_rpc::{Blob, CallOptions, ClientProxy, Code, Context, Outcome, Status, TypedClient};

use crate::{GATES, Member, MemberId, backend::MessagesClient, node::GateNodeClient};

/// Metadata of a forwarded message: how often it was forwarded.
const HOPS: &str = "gate-hops";
/// Forwards of one message at most: more are a circle.
const MOST_HOPS: u32 = 8;
/// Users whose gates are remembered.
const REMEMBERED: usize = 100_000;

/// Client of all gates, for back ends and for handlers of a gate. Cheap to clone; clones share what they remember.
///
/// A push queues a message at the member's gate; nobody waits for the client. It is made at most once: a push whose outcome is
/// unknown is an error, and not made again.
#[derive(Clone)]
pub struct GateClient {
    pub(crate) gates: GateNodeClient,
    pub(crate) group: Arc<str>,
    proxy: ClientProxy,
    /// Gates by user.
    places: Arc<Mutex<HashMap<String, Arc<str>>>>,
}

/// Result of a push to several members.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pushed {
    /// Members for which the message is queued.
    pub reached: u64,
    /// Members that were named and are not connected any more.
    pub missed: Vec<MemberId>,
    /// Gates that did not answer; whether their members get the message is not known.
    pub failed: Vec<(String, Status)>,
}

impl GateClient {
    /// A client of the gates that the registry of `proxy` lists.
    pub fn new(proxy: ClientProxy) -> Self {
        Self::named(GATES, proxy)
    }

    /// The same where the service of the gates has another name: see [`Gate::named`](crate::Gate::named).
    pub fn named(group: &str, proxy: ClientProxy) -> Self {
        let gates = GateNodeClient::named(group, &proxy);
        Self { gates, group: group.into(), proxy, places: Arc::default() }
    }

    /// Client of one gate.
    pub(crate) fn at(&self, gate: &str) -> GateNodeClient {
        self.gates.with(CallOptions::new().instance(gate))
    }

    /// Sends a message to one member. False: it is not connected any more.
    ///
    /// # Errors
    /// Its gate cannot be reached, or did not answer in time.
    pub async fn push(&self, member: &MemberId, msg_id: u32, data: impl Into<Blob>) -> Result<bool, Status> {
        let missed = self.at(&member.gate).push(vec![member.number], msg_id, data.into()).await?;
        Ok(missed.is_empty())
    }

    /// Sends a message to these members, by one call for each of their gates.
    pub async fn push_many(&self, members: &[MemberId], msg_id: u32, data: impl Into<Blob>) -> Pushed {
        let data = data.into();
        let mut by_gate: BTreeMap<&Arc<str>, Vec<u64>> = BTreeMap::new();
        for member in members {
            by_gate.entry(&member.gate).or_default().push(member.number);
        }
        let pushes = by_gate.into_iter().map(async |(gate, numbers)| {
            let count = numbers.len();
            (gate, count, self.at(gate).push(numbers, msg_id, data.clone()).await)
        });
        let mut pushed = Pushed::default();
        for (gate, count, result) in join_all(pushes).await {
            match result {
                Ok(missed) => {
                    pushed.reached += (count - missed.len()) as u64;
                    pushed.missed.extend(missed.into_iter().map(|number| MemberId { gate: gate.clone(), number }));
                }
                Err(status) => pushed.failed.push((gate.to_string(), status)),
            }
        }
        pushed
    }

    /// Sends a message to all members of all gates.
    ///
    /// # Errors
    /// No gate is listed. Gates that fail are in the result.
    pub async fn push_all(&self, msg_id: u32, data: impl Into<Blob>) -> Result<Pushed, Status> {
        let data = &data.into();
        let pushed = self.gates.broadcast(|gate| async move { gate.push_all(msg_id, data.clone()).await }).await?;
        Ok(sum(pushed))
    }

    /// Sends a message to the members in a group, at all gates.
    ///
    /// # Errors
    /// No gate is listed. Gates that fail are in the result.
    pub async fn push_group(&self, group: &str, msg_id: u32, data: impl Into<Blob>) -> Result<Pushed, Status> {
        let data = &data.into();
        let push = |gate: GateNodeClient| async move { gate.push_group(group.to_owned(), msg_id, data.clone()).await };
        Ok(sum(self.gates.broadcast(push).await?))
    }

    /// Sends a message to the member that `user` is bound to. False: there is none.
    ///
    /// # Errors
    /// No gate is listed, or the user's gate cannot be reached or did not answer in time.
    pub async fn push_user(&self, user: &str, msg_id: u32, data: impl Into<Blob>) -> Result<bool, Status> {
        let data = data.into();
        if let Some(gate) = self.place(user) {
            match self.at(&gate).push_user(user.to_owned(), msg_id, data.clone()).await {
                Ok(true) => return Ok(true),
                Err(status) if status.outcome() == Outcome::Unknown => return Err(status),
                // Elsewhere by now, or nowhere.
                Ok(false) | Err(_) => {}
            }
        }
        let Some(member) = self.find(user).await? else { return Ok(false) };
        self.at(&member.id.gate).push_user(user.to_owned(), msg_id, data).await
    }

    /// The member that `user` is bound to: asks all gates.
    ///
    /// # Errors
    /// No gate is listed; or the gates that answered do not know the user, and others did not answer.
    pub async fn find(&self, user: &str) -> Result<Option<Member>, Status> {
        let answers = self.gates.broadcast(|gate| async move { gate.find(user.to_owned()).await }).await?;
        let mut failure = None;
        for (_, answer) in answers {
            match answer {
                Ok(Some(member)) => {
                    self.remember(user, &member.id.gate);
                    return Ok(Some(member));
                }
                Ok(None) => {}
                Err(status) => failure = Some(status),
            }
        }
        self.forget(user);
        failure.map_or(Ok(None), Err)
    }

    /// Binds `user` to a member, in place of the connection that the user had before, at whatever gate that is. False: there is no such
    /// member any more.
    ///
    /// # Errors
    /// The member's gate cannot be reached, or did not answer in time.
    pub async fn bind(&self, member: &MemberId, user: &str) -> Result<bool, Status> {
        let Some(at) = self.at(&member.gate).bind(member.number, user.to_owned()).await? else { return Ok(false) };
        self.remember(user, &member.gate);
        // A gate that does not answer keeps the user of an older connection: what is remembered, and the later time, go before it.
        let _ = self.gates.broadcast(|gate| async move { gate.unbind(user.to_owned(), at).await }).await;
        Ok(true)
    }

    /// Adds a member to a group, which need not exist. False: there is no such member any more.
    ///
    /// # Errors
    /// The member's gate cannot be reached, or did not answer in time.
    pub async fn enter(&self, member: &MemberId, group: &str) -> Result<bool, Status> {
        self.at(&member.gate).enter(member.number, group.to_owned()).await
    }

    /// Takes a member out of a group. False: there is no such member any more.
    ///
    /// # Errors
    /// The member's gate cannot be reached, or did not answer in time.
    pub async fn exit(&self, member: &MemberId, group: &str) -> Result<bool, Status> {
        self.at(&member.gate).exit(member.number, group.to_owned()).await
    }

    /// Closes a member's connection, after what is queued for it. False: there is no such member any more.
    ///
    /// # Errors
    /// The member's gate cannot be reached, or did not answer in time.
    pub async fn close(&self, member: &MemberId) -> Result<bool, Status> {
        self.at(&member.gate).close(member.number).await
    }

    /// Hands a client's message on to another group of back ends, or to one instance of it; returns its answer. The message counts
    /// its forwards, of which it may have 8.
    ///
    /// # Errors
    /// `FailedPrecondition`: it was forwarded 8 times, so most likely in a circle. Else those of the call.
    pub async fn forward(
        &self,
        group: &str,
        instance: Option<&str>,
        (from, msg_id, data): (Member, u32, Blob),
    ) -> Result<Option<Blob>, Status> {
        let hops = Context::current().and_then(|context| context.metadata(HOPS)?.parse().ok()).unwrap_or(0_u32);
        if hops >= MOST_HOPS {
            let text = format!("message {msg_id} was forwarded {hops} times: do its back ends forward it in a circle?");
            return Err(Status::new(Code::FailedPrecondition, text));
        }
        let options = CallOptions::new().key(from.id.to_string()).metadata(HOPS, (hops + 1).to_string());
        let options = match instance {
            Some(id) => options.instance(id),
            None => options,
        };
        MessagesClient::named(group, &self.proxy).with(options).message(from, msg_id, data).await
    }

    fn place(&self, user: &str) -> Option<Arc<str>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }

    fn remember(&self, user: &str, gate: &Arc<str>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= REMEMBERED {
            places.clear();
        }
        places.insert(user.to_owned(), gate.clone());
    }

    fn forget(&self, user: &str) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(user);
    }
}

impl fmt::Debug for GateClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateClient").field("group", &self.group).finish_non_exhaustive()
    }
}

fn sum(results: Vec<(Instance, Result<u64, Status>)>) -> Pushed {
    let mut pushed = Pushed::default();
    for (gate, result) in results {
        match result {
            Ok(reached) => pushed.reached += reached,
            Err(status) => pushed.failed.push((gate.id().to_owned(), status)),
        }
    }
    pushed
}
