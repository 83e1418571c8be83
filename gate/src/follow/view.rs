//! Members of one gate, as a follower knows them. Pure.

use std::collections::{HashMap, HashSet};

use crate::{
    Member,
    directory::{Changes, Cursor},
};

/// Members that were told, and the place in the gate's changes.
#[derive(Debug, Default)]
pub(crate) struct View {
    cursor: Cursor,
    members: HashMap<u64, Member>,
    /// Members of the full list that is being told in parts.
    listed: Option<HashSet<u64>>,
}

impl View {
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes an answer of the gate; returns the members that came and those that went.
    pub(crate) fn apply(&mut self, changes: Changes) -> (Vec<Member>, Vec<Member>) {
        self.cursor = changes.cursor;
        if changes.is_reset {
            self.listed = Some(HashSet::new());
        }
        if let Some(listed) = &mut self.listed {
            listed.extend(changes.joined.iter().map(|member| member.id.number));
        }
        let mut joined = changes.joined;
        joined.retain(|member| self.members.insert(member.id.number, member.clone()).is_none());
        let mut left: Vec<_> = changes.left.iter().filter_map(|number| self.members.remove(number)).collect();
        if !changes.more
            && let Some(listed) = self.listed.take()
        {
            left.extend(self.members.extract_if(|number, _| !listed.contains(number)).map(|(_, member)| member));
        }
        (joined, left)
    }

    /// Forgets all members, and returns them.
    pub(crate) fn clear(&mut self) -> Vec<Member> {
        let Self { members, .. } = std::mem::take(self);
        members.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberId;

    fn member(number: u64) -> Member {
        Member { id: MemberId { gate: "g".into(), number }, user: None, address: "a:1".into() }
    }

    fn changes(is_reset: bool, joined: &[u64], left: &[u64], more: bool) -> Changes {
        let joined = joined.iter().copied().map(member).collect();
        Changes { is_reset, joined, left: left.to_vec(), more, ..Changes::default() }
    }

    fn numbers((joined, left): (Vec<Member>, Vec<Member>)) -> (Vec<u64>, Vec<u64>) {
        let of = |members: Vec<Member>| {
            let mut numbers: Vec<_> = members.into_iter().map(|member| member.id.number).collect();
            numbers.sort_unstable();
            numbers
        };
        (of(joined), of(left))
    }

    #[test]
    fn each_member_comes_once_and_goes_once() {
        let mut view = View::default();
        let steps = [
            (changes(true, &[1, 2], &[], true), (vec![1, 2], vec![])),
            (changes(false, &[3], &[1], false), (vec![3], vec![1])),
            (changes(false, &[], &[1, 9], false), (vec![], vec![])),
            // Another run of the gate, or departures that were missed.
            (changes(true, &[3, 4], &[], true), (vec![4], vec![])),
            (changes(false, &[5], &[], false), (vec![5], vec![2])),
        ];
        for (answer, expected) in steps {
            assert_eq!(numbers(view.apply(answer)), expected);
        }
        assert_eq!(numbers((Vec::new(), view.clear())), (vec![], vec![3, 4, 5]));
        assert_eq!(view.cursor(), Cursor::default());
    }
}
