//! Rules of a queue node: who may do what.

use std::error::Error;

use clap::Args;
use ms_rpc::auth::Rules;
use serde::Deserialize;

use crate::door::Door;

/// Arguments about rules.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct RuleArgs {
    /// Lets a caller do something: PRINCIPAL VERB/TOPIC, where the verb is push, take, look, change or *, and each may have a * at its
    /// begin or end, as in 'order push/orders'. May be given several times. With any rule, what none allows is denied.
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Keeps a caller from doing something, whatever is allowed; written as those of --allow.
    #[arg(long, value_name = "RULE")]
    deny: Vec<String>,
}

impl RuleArgs {
    /// With what a file says where nothing was given.
    pub(crate) fn or(self, file: Self) -> Self {
        let is_given = !self.allow.is_empty() || !self.deny.is_empty();
        if is_given { self } else { file }
    }

    /// Reads the rules for callers of this door.
    pub(crate) fn open(&self, door: &Door) -> Result<Rules, Box<dyn Error>> {
        let rules = self.allow.iter().try_fold(Rules::new(), |rules, rule| {
            let (who, what) = parts("allow", rule, door)?;
            Ok::<_, Box<dyn Error>>(rules.allow(who, what))
        })?;
        self.deny.iter().try_fold(rules, |rules, rule| {
            let (who, what) = parts("deny", rule, door)?;
            Ok(rules.deny(who, what))
        })
    }
}

/// Principal, and what the rule is about.
fn parts<'a>(flag: &str, rule: &'a str, door: &Door) -> Result<(&'a str, &'a str), Box<dyn Error>> {
    let parts = rule.trim().split_once(char::is_whitespace).map(|(who, what)| (who, what.trim()));
    let Some((who, what)) = parts.filter(|(_, what)| !what.contains(char::is_whitespace)) else {
        let text =
            format!("{flag}: {rule:?} is no rule: write a principal, a space, and what, as in 'order push/orders'");
        return Err(text.into());
    };
    if who != "*" && !door.knows_callers() {
        let text = format!("{flag}: callers have no names, so {who:?} is nobody: give --token-file, or --client-ca");
        return Err(text.into());
    }
    Ok((who, what))
}
