//! Rules that say which principals may do what.

use std::fmt;

/// Text that is matched whole, or by its begin or end: `*` stands for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Returns true if the pattern stands for this text.
    pub fn matches(&self, text: &str) -> bool {
        match (self.0.strip_prefix('*'), self.0.strip_suffix('*')) {
            (Some(end), _) => text.ends_with(end),
            (None, Some(begin)) => text.starts_with(begin),
            (None, None) => self.0 == text,
        }
    }

    /// The one text that it stands for; `None` if there may be several.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    fn is_legal(&self) -> bool {
        let stars = self.0.matches('*').count();
        !self.0.is_empty() && (stars == 0 || stars == 1 && (self.0.starts_with('*') || self.0.ends_with('*')))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Principal, and `GROUP` or `GROUP/NAME` that it may or may not do, such as a service and a method.
#[derive(Clone, Debug)]
pub struct Rule {
    who: Pattern,
    group: Pattern,
    name: Pattern,
    /// As it was written.
    what: String,
}

impl Rule {
    fn new(who: String, what: String) -> Self {
        let (group, name) = what.split_once('/').unwrap_or((&what, "*"));
        Self { who: Pattern(who), group: Pattern(group.to_owned()), name: Pattern(name.to_owned()), what }
    }

    /// Pattern before the `/`.
    pub fn group(&self) -> &Pattern {
        &self.group
    }

    /// Pattern behind the `/`; `*` if there is none.
    pub fn name(&self) -> &Pattern {
        &self.name
    }

    fn matches(&self, who: &str, group: &str, name: &str) -> bool {
        self.who.matches(who) && self.group.matches(group) && self.name.matches(name)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.who, self.what)
    }
}

/// A rule that would allow or deny nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule `{rule}`: {reason}")]
pub struct RuleError {
    /// As it was written.
    pub rule: String,
    /// The mistake, and the remedy.
    pub reason: String,
}

/// Rules for callers. Without any, everything is allowed; with one, what none allows is denied. Denials come first.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    deny: Vec<Rule>,
    allow: Vec<Rule>,
}

impl Rules {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `who` do `what`: a principal's name, and `GROUP` or `GROUP/NAME`, each exact or with `*` at its begin or end.
    #[must_use]
    pub fn allow(mut self, who: impl Into<String>, what: impl Into<String>) -> Self {
        self.allow.push(Rule::new(who.into(), what.into()));
        self
    }

    /// Keeps `who` from doing `what`, whatever is allowed.
    #[must_use]
    pub fn deny(mut self, who: impl Into<String>, what: impl Into<String>) -> Self {
        self.deny.push(Rule::new(who.into(), what.into()));
        self
    }

    /// Returns true if there is no rule, so that everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }

    /// Returns true if this principal may do this.
    pub fn allows(&self, who: &str, group: &str, name: &str) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(who, group, name));
        self.is_empty() || (!any(&self.deny) && any(&self.allow))
    }

    /// Checks the patterns of all rules, and each rule by `known`, which says what is wrong with its names.
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn check(&self, known: impl Fn(&Rule) -> Result<(), String>) -> Result<(), RuleError> {
        for rule in self.deny.iter().chain(&self.allow) {
            let illegal = [&rule.who, &rule.group, &rule.name].into_iter().find(|pattern| !pattern.is_legal());
            let checked = match illegal {
                Some(pattern) => {
                    Err(format!("`{pattern}` is no pattern: write a name, or `*` at its begin or its end"))
                }
                None => known(rule),
            };
            checked.map_err(|reason| RuleError { rule: rule.to_string(), reason })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by other means: a pattern is cut into its texts, which are looked for.
    fn naive(pattern: &str, text: &str) -> bool {
        match pattern.split('*').collect::<Vec<_>>()[..] {
            [whole] => whole == text,
            [begin, end] => text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end),
            _ => false,
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        prop_oneof!["[ab.]{1,3}", "[ab.]{0,2}[*]", "[*][ab.]{0,2}"]
    }

    proptest! {
        #[test]
        fn rules_decide_as_a_naive_model_does(
            deny in prop::collection::vec((pattern(), pattern(), pattern()), 0..3),
            allow in prop::collection::vec((pattern(), pattern(), pattern()), 0..4),
            who in "[ab.]{0,3}", group in "[ab.]{1,3}", name in "[ab.]{1,3}",
        ) {
            let hit = |list: &[(String, String, String)]| {
                list.iter().any(|(w, g, n)| naive(w, &who) && naive(g, &group) && naive(n, &name))
            };
            let expected = (deny.is_empty() && allow.is_empty()) || (!hit(&deny) && hit(&allow));
            let what = |group: &String, name: &String| format!("{group}/{name}");
            let rules = deny.iter().fold(Rules::new(), |rules, (w, g, n)| rules.deny(w, what(g, n)));
            let rules = allow.iter().fold(rules, |rules, (w, g, n)| rules.allow(w, what(g, n)));
            prop_assert_eq!(rules.allows(&who, &group, &name), expected);
        }
    }

    #[test]
    fn patterns_have_one_star_at_an_end() {
        for legal in ["a", "*", "a*", "*a", "spiffe://prod/*"] {
            assert!(Pattern(legal.to_owned()).is_legal(), "{legal}");
        }
        for illegal in ["", "**", "a*b", "*a*", "a**"] {
            assert!(!Pattern(illegal.to_owned()).is_legal(), "{illegal}");
        }
    }
}
