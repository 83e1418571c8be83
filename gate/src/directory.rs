//! Directory of one gate: its members, their users, and the groups that they are in. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{Member, MemberId};

/// Departures that are kept for followers; one that is further behind compares whole lists.
const DEPARTURES: usize = 16_384;
/// Members, and departures, in one answer.
const PAGE: usize = 4_096;

/// Members of a gate, each with its `T`: what is pushed to it.
#[derive(Debug)]
pub(crate) struct Directory<T> {
    gate: Arc<str>,
    /// Number of the first member, which names this run of the gate.
    epoch: u64,
    next: u64,
    members: BTreeMap<u64, Entry<T>>,
    users: HashMap<Arc<str>, Bound>,
    groups: HashMap<Arc<str>, HashSet<u64>>,
    departures: VecDeque<u64>,
    /// Number of departures before those that are kept.
    forgotten: u64,
}

#[derive(Debug)]
struct Entry<T> {
    to: T,
    user: Option<Arc<str>>,
    address: Arc<str>,
    groups: Vec<Arc<str>>,
}

/// Connection of a user.
#[derive(Clone, Copy, Debug)]
struct Bound {
    number: u64,
    /// Time of the binding, in microseconds since 1970: of two connections of one user the later binding counts.
    at: u64,
}

/// Place of a follower in the changes of one gate. The default one is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Run of the gate.
    pub epoch: u64,
    /// Number of the last member that was told.
    pub after: u64,
    /// Departures that were told.
    pub departures: u64,
}

/// Members that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Place after these changes.
    pub cursor: Cursor,
    /// The follower has missed departures, or the gate has started again: the members of this answer and of the following ones, up
    /// to one without `more`, are all that there are.
    pub is_reset: bool,
    /// Members that came.
    pub joined: Vec<Member>,
    /// Numbers of those that went. Some may never have been told.
    pub left: Vec<u64>,
    /// More can be asked for at once.
    pub more: bool,
}

impl<T: Clone> Directory<T> {
    /// An empty directory, whose numbers begin at `first`.
    pub(crate) fn new(gate: Arc<str>, first: u64) -> Self {
        Self {
            gate,
            epoch: first,
            next: first,
            members: BTreeMap::new(),
            users: HashMap::new(),
            groups: HashMap::new(),
            departures: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Adds a member, of which nothing is bound yet.
    pub(crate) fn join(&mut self, address: Arc<str>, to: T) -> Member {
        let number = self.next;
        self.next += 1;
        let entry = Entry { to, user: None, address, groups: Vec::new() };
        let member = self.member(number, &entry);
        self.members.insert(number, entry);
        member
    }

    /// Removes a member, if it is there.
    pub(crate) fn leave(&mut self, number: u64) {
        let Some(entry) = self.members.remove(&number) else { return };
        if let Some(user) = entry.user {
            self.users.remove(&user);
        }
        for group in entry.groups {
            self.take_out(&group, number);
        }
        if self.departures.len() == DEPARTURES {
            self.departures.pop_front();
            self.forgotten += 1;
        }
        self.departures.push_back(number);
    }

    /// Binds `user` to a member, in place of the user that the member had, and of the member that the user had here. `None`:
    /// there is no such member. Else the member that lost the user.
    pub(crate) fn bind(&mut self, number: u64, user: &str, at: u64) -> Option<Option<u64>> {
        let user: Arc<str> = user.into();
        let entry = self.members.get_mut(&number)?;
        if let Some(before) = entry.user.replace(user.clone()) {
            self.users.remove(&before);
        }
        let before = self.users.insert(user, Bound { number, at }).map(|before| before.number);
        let displaced = before.filter(|before| *before != number);
        if let Some(entry) = displaced.and_then(|before| self.members.get_mut(&before)) {
            entry.user = None;
        }
        Some(displaced)
    }

    /// Takes `user` from the member that was bound before `at`; returns that member.
    pub(crate) fn unbind(&mut self, user: &str, before: u64) -> Option<u64> {
        let bound = *self.users.get(user).filter(|bound| bound.at < before)?;
        self.users.remove(user);
        self.members.get_mut(&bound.number)?.user = None;
        Some(bound.number)
    }

    /// Adds a member to a group. Returns false without such a member.
    pub(crate) fn enter(&mut self, number: u64, group: &str) -> bool {
        let Some(entry) = self.members.get_mut(&number) else { return false };
        if !entry.groups.iter().any(|known| **known == *group) {
            let name = self.groups.get_key_value(group).map_or_else(|| group.into(), |(name, _)| name.clone());
            self.groups.entry(Arc::clone(&name)).or_default().insert(number);
            entry.groups.push(name);
        }
        true
    }

    /// Takes a member out of a group. Returns false without such a member.
    pub(crate) fn exit(&mut self, number: u64, group: &str) -> bool {
        let Some(entry) = self.members.get_mut(&number) else { return false };
        entry.groups.retain(|known| **known != *group);
        self.take_out(group, number);
        true
    }

    fn take_out(&mut self, group: &str, number: u64) {
        if let Some(members) = self.groups.get_mut(group) {
            members.remove(&number);
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn get(&self, number: u64) -> Option<T> {
        self.members.get(&number).map(|entry| entry.to.clone())
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.members.values().map(|entry| entry.to.clone()).collect()
    }

    pub(crate) fn of_group(&self, group: &str) -> Vec<T> {
        self.groups.get(group).into_iter().flatten().filter_map(|number| self.get(*number)).collect()
    }

    /// The member that `user` is bound to.
    pub(crate) fn of_user(&self, user: &str) -> Option<Member> {
        self.describe(self.users.get(user)?.number)
    }

    /// A member as back ends see it now.
    pub(crate) fn describe(&self, number: u64) -> Option<Member> {
        self.members.get(&number).map(|entry| self.member(number, entry))
    }

    fn member(&self, number: u64, entry: &Entry<T>) -> Member {
        let id = MemberId { gate: self.gate.clone(), number };
        Member { id, user: entry.user.clone(), address: entry.address.clone() }
    }

    /// Changes since `cursor`; empty if there are none.
    pub(crate) fn since(&self, cursor: Cursor) -> Changes {
        let end = self.forgotten + self.departures.len() as u64;
        let is_known = cursor.epoch == self.epoch && (self.forgotten..=end).contains(&cursor.departures);
        let (after, departures) = if is_known { (cursor.after, cursor.departures) } else { (0, end) };
        let joined = self.members.range(after + 1..).take(PAGE);
        let joined: Vec<_> = joined.map(|(number, entry)| self.member(*number, entry)).collect();
        let skip = (departures - self.forgotten) as usize;
        let left: Vec<_> = self.departures.iter().skip(skip).take(PAGE).copied().collect();
        let departures = departures + left.len() as u64;
        let after = joined.last().map_or(after, |last| last.id.number);
        Changes {
            cursor: Cursor { epoch: self.epoch, after, departures },
            is_reset: !is_known,
            more: joined.len() == PAGE || departures < end,
            joined,
            left,
        }
    }
}

#[cfg(test)]
mod tests;
