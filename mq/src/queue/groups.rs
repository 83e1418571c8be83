//! FIFO groups of a queue. Of each group one message, the *active* one, is ready, delayed or leased; the others are held.
//! Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::message::MessageId;

/// Groups of a queue's messages, dead letters aside.
#[derive(Debug, Default)]
pub(super) struct Groups {
    keys: HashMap<MessageId, Arc<str>>,
    groups: HashMap<Arc<str>, Group>,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<MessageId>,
    active: Option<MessageId>,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of a message's group.
    pub(super) fn key(&self, id: MessageId) -> Option<&Arc<str>> {
        self.keys.get(&id)
    }

    /// Notes the group of a message that is about to enter the queue.
    pub(super) fn assign(&mut self, id: MessageId, key: Arc<str>) {
        self.keys.insert(id, key);
    }

    /// Forgets the group of a message that has left it.
    pub(super) fn forget(&mut self, id: MessageId) -> Option<Arc<str>> {
        if self.keys.is_empty() { None } else { self.keys.remove(&id) }
    }

    /// Adds a message to its group. Returns false if it is held. If it takes the place of the active message, which has a
    /// greater id and is not leased, that one is held from now on, and is returned.
    pub(super) fn enter(
        &mut self,
        id: MessageId,
        is_leased: impl FnOnce(MessageId) -> bool,
    ) -> (bool, Option<MessageId>) {
        let Some(key) = self.keys.get(&id) else { return (true, None) };
        let group = self.groups.entry(key.clone()).or_default();
        group.members.insert(id);
        match group.active {
            Some(active) if active < id || is_leased(active) => (false, None),
            before => {
                group.active = Some(id);
                (true, before)
            }
        }
    }

    /// Makes a message that is leased the active one; returns the previous one.
    pub(super) fn activate(&mut self, id: MessageId) -> Option<MessageId> {
        let group = self.groups.get_mut(self.keys.get(&id)?)?;
        group.active.replace(id).filter(|before| *before != id)
    }

    /// Takes a message out of its group. If it was the active one, the first of the others takes its place, and is returned.
    pub(super) fn leave(&mut self, id: MessageId) -> Option<MessageId> {
        let key = self.keys.get(&id)?;
        let group = self.groups.get_mut(key)?;
        group.members.remove(&id);
        if group.members.is_empty() {
            self.groups.remove(key);
            return None;
        }
        if group.active != Some(id) {
            return None;
        }
        group.active = group.members.first().copied();
        group.active
    }
}
