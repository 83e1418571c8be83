//! Rules: which service answers a request, by regular expressions in the order of the file. Pure.

use axum::http::HeaderName;
use ms_register::ServiceName;
use ms_rpc::Balancing;
use regex::Regex;

/// One rule: a pattern, and the service whose instances answer what it matches.
#[derive(Clone, Debug)]
pub struct Rule {
    pattern: Regex,
    /// Service that answers.
    pub service: ServiceName,
    /// Instance of the service.
    pub choice: Choice,
    /// Metadata key under which an instance lists the address that serves, such as `mq.http`; none: the instance's own address.
    pub address_from: Option<String>,
}

/// How an instance of a service is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The master alone, as the registry's election tells.
    Master,
    /// Any instance, by a balancer.
    Balanced(Balancing, KeySource),
}

/// Key that a hashing balancer hashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// Nothing: the balancer hashes no key.
    None,
    /// The client's address.
    Client,
    /// Path and query, as they were asked for; the topic with MQTT.
    Url,
    /// The first value of a header.
    Header(HeaderName),
}

impl KeySource {
    /// The usual key of the balancer of this name.
    pub fn of(balancer: &str) -> Self {
        match balancer.split([',', ':']).next().unwrap_or_default() {
            "ip-hash" => Self::Client,
            "key-hash" | "consistent-hash" | "bounded-hash" => Self::Url,
            _ => Self::None,
        }
    }
}

/// A rule that cannot be used; the text names the rule's field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl Rule {
    /// A rule whose pattern is searched for anywhere in a text.
    ///
    /// # Errors
    /// A pattern that is no regular expression of the crate `regex`, and an illegal name of a service.
    pub fn new(pattern: &str, service: &str, choice: Choice) -> Result<Self, RuleError> {
        let pattern = Regex::new(pattern)
            .map_err(|error| RuleError(format!("the pattern {pattern:?} is no regular expression: {error}")))?;
        let service = ServiceName::new(service).map_err(|error| RuleError(error.to_string()))?;
        Ok(Self { pattern, service, choice, address_from: None })
    }

    /// The same rule for instances that list the address to call under this key of their metadata.
    #[must_use]
    pub fn address_from(mut self, key: Option<String>) -> Self {
        self.address_from = key;
        self
    }

    /// Returns true if the pattern is found in the text.
    pub fn matches(&self, text: &str) -> bool {
        self.pattern.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched_for_anywhere() {
        for (pattern, text, matches) in [
            ("/login", "/app/login?next=/", true),
            ("^/app/", "/app/x", true),
            ("^/app/", "/x/app/", false),
            (r"\?debug=1$", "/x?debug=1", true),
            (r"\?debug=1$", "/x?debug=10", false),
        ] {
            let rule = Rule::new(pattern, "goods", Choice::Master).unwrap();
            assert_eq!(rule.matches(text), matches, "{pattern}: {text}");
        }
    }

    #[test]
    fn a_rule_that_cannot_work_says_why() {
        let error = Rule::new("(", "goods", Choice::Master).unwrap_err().to_string();
        assert!(error.contains("\"(\" is no regular expression"), "{error}");
        let error = Rule::new(".*", "a/b", Choice::Master).unwrap_err().to_string();
        assert!(error.contains("a/b"), "{error}");
    }

    #[test]
    fn hashing_balancers_have_a_usual_key() {
        for (balancer, key) in [
            ("ip-hash", KeySource::Client),
            ("ip-hash,near=b", KeySource::Client),
            ("key-hash", KeySource::Url),
            ("consistent-hash", KeySource::Url),
            ("bounded-hash:150", KeySource::Url),
            ("p2c", KeySource::None),
        ] {
            assert_eq!(KeySource::of(balancer), key, "{balancer}");
        }
    }
}
