//! Which queues of a topic a route key leads to. Pure.

use std::collections::{HashMap, VecDeque};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::MqError;

/// How route keys are held against bind keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The bind key is the route key.
    #[default]
    Exact,
    /// The route key is a regular expression that is searched for in the bind keys.
    Fuzzy,
}

/// The queue that a push without a route key goes to.
pub const DEFAULT_QUEUE: &str = "default";

/// Compiled expressions take no more than this, in bytes.
const COMPILED: usize = 256 << 10;
/// Compiled expressions that are kept.
const KEPT: usize = 1024;

/// Compiled route keys, and those that cannot be compiled: each is tried once.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    compiled: HashMap<String, Result<Regex, MqError>>,
    /// The oldest first.
    order: VecDeque<String>,
}

impl Expressions {
    /// Returns true if the route key is compiled.
    pub(crate) fn has(&self, route_key: &str) -> bool {
        self.compiled.contains_key(route_key)
    }

    /// Keeps what compiling a route key came to; the oldest makes room.
    pub(crate) fn insert(&mut self, route_key: String, compiled: Result<Regex, MqError>) {
        if self.compiled.insert(route_key.clone(), compiled).is_some() {
            return;
        }
        if self.order.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.compiled.remove(&oldest);
        }
        self.order.push_back(route_key);
    }

    /// The compiled route key. Compiles it only if it was not compiled ahead, as when the topic's mode has just changed.
    pub(crate) fn get(&mut self, route_key: &str) -> Result<&Regex, MqError> {
        if !self.has(route_key) {
            self.insert(route_key.to_owned(), compile(route_key));
        }
        self.compiled[route_key].as_ref().map_err(Clone::clone)
    }
}

/// Compiles a route key, which may take milliseconds.
///
/// # Errors
/// It is no regular expression, or compiled it is larger than 256 KiB.
pub(crate) fn compile(route_key: &str) -> Result<Regex, MqError> {
    let built = RegexBuilder::new(route_key).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
    built.map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
        MqError::Invalid(format!("route key {route_key:?} is no regular expression: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_expression_is_named_and_a_costly_one_refused() {
        let error = compile("a(b").unwrap_err().to_string();
        assert!(error.contains("a(b") && error.contains("unclosed group"), "{error}");
        assert!(compile("((a{100}){100}){100}").unwrap_err().to_string().contains("size limit"));
    }

    #[test]
    fn the_oldest_expressions_are_forgotten() {
        let mut expressions = Expressions::default();
        for n in 0..2 * KEPT {
            assert!(expressions.get(&format!("k{n}")).unwrap().is_match(&format!("a k{n} b")));
        }
        assert_eq!((expressions.compiled.len(), expressions.order.len()), (KEPT, KEPT));
    }
}
