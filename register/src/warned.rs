//! What was warned of already, so that each piece of garbage in a registry is warned of once.

use std::{collections::HashMap, hash::Hash};

/// Things that were warned of, each with the state that it was in.
#[derive(Debug)]
pub(crate) struct Warned<K, V>(HashMap<K, V>);

impl<K: Eq + Hash, V: PartialEq> Warned<K, V> {
    /// Beyond it all are forgotten: a warning comes twice rather than memory growing with what others write.
    pub(crate) const MOST: usize = 1024;

    /// Whether this thing in this state is met for the first time.
    pub(crate) fn is_first(&mut self, thing: K, state: V) -> bool {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.get(&thing) != Some(&state) && {
            self.0.insert(thing, state);
            true
        }
    }
}

impl<K, V> Default for Warned<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
