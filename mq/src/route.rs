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
/// So many are kept.
const KEPT: usize = 1024;

/// Compiled route keys: each is compiled once.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    compiled: HashMap<String, Regex>,
    /// The oldest first.
    order: VecDeque<String>,
}

impl Expressions {
    /// Those of `bind_keys` that `route_key` leads to.
    pub(crate) fn matching<'a>(
        &mut self,
        mode: Mode,
        route_key: &str,
        bind_keys: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<&'a str>, MqError> {
        match mode {
            Mode::Exact => Ok(bind_keys.filter(|key| *key == route_key).collect()),
            Mode::Fuzzy => {
                let expression = self.expression(route_key)?;
                Ok(bind_keys.filter(|key| expression.is_match(key)).collect())
            }
        }
    }

    fn expression(&mut self, route_key: &str) -> Result<&Regex, MqError> {
        if !self.compiled.contains_key(route_key) {
            let built = RegexBuilder::new(route_key).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
            let regex = built.map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
                MqError::Invalid(format!("route key {route_key:?} is no regular expression: {reason}"))
            })?;
            if self.order.len() >= KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.compiled.remove(&oldest);
            }
            self.order.push_back(route_key.to_owned());
            self.compiled.insert(route_key.to_owned(), regex);
        }
        Ok(&self.compiled[route_key])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["ketang_homework", "ketang_exam", "default"];

    fn matching(mode: Mode, route_key: &str) -> Result<Vec<&'static str>, MqError> {
        Expressions::default().matching(mode, route_key, KEYS.into_iter())
    }

    #[test]
    fn exact_is_equal_and_fuzzy_is_found_anywhere() {
        assert_eq!(matching(Mode::Exact, "ketang_exam").unwrap(), ["ketang_exam"]);
        assert!(matching(Mode::Exact, "ketang_.*").unwrap().is_empty());
        assert_eq!(matching(Mode::Fuzzy, "tang_").unwrap(), KEYS[..2]);
        assert_eq!(matching(Mode::Fuzzy, "^(ketang_homework|default)$").unwrap(), [KEYS[0], KEYS[2]]);
    }

    #[test]
    fn a_bad_expression_is_named_and_a_costly_one_refused() {
        let error = matching(Mode::Fuzzy, "a(b").unwrap_err().to_string();
        assert!(error.contains("a(b") && error.contains("unclosed group"), "{error}");
        assert!(matching(Mode::Fuzzy, "((a{100}){100}){100}").unwrap_err().to_string().contains("size limit"));
    }

    #[test]
    fn the_oldest_expressions_are_forgotten() {
        let mut expressions = Expressions::default();
        for n in 0..2 * KEPT {
            expressions.matching(Mode::Fuzzy, &format!("k{n}"), KEYS.into_iter()).unwrap();
        }
        assert_eq!((expressions.compiled.len(), expressions.order.len()), (KEPT, KEPT));
    }
}
