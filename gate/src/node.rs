//! The RPC service of a gate, which back ends and other gates call.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ms_rpc::{Blob, Context};
use tokio::time::timeout;

use crate::{
    Member,
    directory::{Changes, Cursor},
    frame::Frame,
    outbox::End,
    shared::Shared,
};

/// Time that an answer to [`GateNode::changes`] takes to be written, before the caller's deadline.
const MARGIN: Duration = Duration::from_millis(500);

/// What a gate does for those that know it: its own members alone.
#[ms_rpc::service(name = "gate")]
pub(crate) trait GateNode {
    /// Queues a message for each of these members; returns those that get none.
    async fn push(&self, numbers: Vec<u64>, msg_id: u32, data: Blob) -> Vec<u64>;
    /// Queues a message for all members; returns their number.
    async fn push_all(&self, msg_id: u32, data: Blob) -> u64;
    /// Queues a message for the members in a group; returns their number.
    async fn push_group(&self, group: String, msg_id: u32, data: Blob) -> u64;
    /// Queues a message for the member that this user is bound to; false: there is none here.
    async fn push_user(&self, user: String, msg_id: u32, data: Blob) -> bool;
    /// Binds a user to a member; returns the time of that, in microseconds since 1970. `None`: there is no such member.
    async fn bind(&self, number: u64, user: String) -> Option<u64>;
    /// Takes the user from a member that was bound before this time; returns true if there was one.
    #[idempotent]
    async fn unbind(&self, user: String, before: u64) -> bool;
    /// The member that a user is bound to.
    #[idempotent]
    async fn find(&self, user: String) -> Option<Member>;
    /// Adds a member to a group; false: there is no such member.
    #[idempotent]
    async fn enter(&self, number: u64, group: String) -> bool;
    /// Takes a member out of a group; false: there is no such member.
    #[idempotent]
    async fn exit(&self, number: u64, group: String) -> bool;
    /// Closes a member's connection; false: there is no such member.
    #[idempotent]
    async fn close(&self, number: u64) -> bool;
    /// Members that came and went since `cursor`; waits for the first such change, up to the call's deadline.
    #[idempotent]
    async fn changes(&self, ctx: Context, cursor: Cursor) -> Changes;
}

/// The service of one gate.
pub(crate) struct Node(pub(crate) Arc<Shared>);

impl Node {
    fn push_to(&self, members: Vec<crate::shared::Recipient>, msg_id: u32, data: &Blob) -> u64 {
        let frame = Frame::encode(msg_id, data);
        let reached = members.into_iter().filter(|to| self.0.push(to, frame.clone())).count();
        reached as u64
    }
}

impl GateNode for Node {
    async fn push(&self, numbers: Vec<u64>, msg_id: u32, data: Blob) -> Vec<u64> {
        let frame = Frame::encode(msg_id, &data);
        let recipients: Vec<_> = {
            let members = self.0.members();
            numbers.iter().map(|number| (*number, members.get(*number))).collect()
        };
        let missed =
            recipients.into_iter().filter(|(_, to)| !to.as_ref().is_some_and(|to| self.0.push(to, frame.clone())));
        missed.map(|(number, _)| number).collect()
    }

    async fn push_all(&self, msg_id: u32, data: Blob) -> u64 {
        let all = self.0.members().all();
        self.push_to(all, msg_id, &data)
    }

    async fn push_group(&self, group: String, msg_id: u32, data: Blob) -> u64 {
        let members = self.0.members().of_group(&group);
        self.push_to(members, msg_id, &data)
    }

    async fn push_user(&self, user: String, msg_id: u32, data: Blob) -> bool {
        let to = {
            let members = self.0.members();
            members.of_user(&user).and_then(|member| members.get(member.id.number))
        };
        self.push_to(to.into_iter().collect(), msg_id, &data) == 1
    }

    async fn bind(&self, number: u64, user: String) -> Option<u64> {
        let at = microseconds();
        self.0.members().bind(number, &user, at).map(|_| at)
    }

    async fn unbind(&self, user: String, before: u64) -> bool {
        self.0.members().unbind(&user, before).is_some()
    }

    async fn find(&self, user: String) -> Option<Member> {
        self.0.members().of_user(&user)
    }

    async fn enter(&self, number: u64, group: String) -> bool {
        self.0.members().enter(number, &group)
    }

    async fn exit(&self, number: u64, group: String) -> bool {
        self.0.members().exit(number, &group)
    }

    async fn close(&self, number: u64) -> bool {
        self.0.members().get(number).is_some_and(|to| to.end(End::Closed))
    }

    async fn changes(&self, ctx: Context, cursor: Cursor) -> Changes {
        let mut changed = self.0.changed();
        let found = async {
            loop {
                let changes = self.0.members().since(cursor);
                // A call that waits would hold up the shutdown.
                if changes.cursor != cursor || changes.is_reset || self.0.is_ending() {
                    return changes;
                }
                // An error: the gate ends, and so does this call.
                let _ = changed.changed().await;
            }
        };
        let nothing = Changes { cursor, ..Changes::default() };
        timeout(ctx.remaining().saturating_sub(MARGIN), found).await.unwrap_or(nothing)
    }
}

/// Time of day, in microseconds.
pub(crate) fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
