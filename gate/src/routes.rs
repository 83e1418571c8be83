//! Routes: which group of back ends takes which messages. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ms_register::{ServiceName, without_comments};
use serde::Deserialize;

use crate::ConfigError;

/// Groups of back ends by message id. A group's back ends are the instances of the service of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(HashMap<u32, Arc<str>>);

/// One entry of `route.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "MsgID")]
    msg_id: u32,
    /// For people.
    #[serde(default)]
    name: String,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads zinx-cluster's `route.json`, in which `//` comments are allowed: `{"group": [{"MsgID": 2, "Name": "send"}]}`.
    ///
    /// # Errors
    /// The text is no such JSON, or a message id stands in two groups, or it is 0.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let groups: BTreeMap<String, Vec<Entry>> = serde_json::from_str(&without_comments(text))?;
        let mut routes = Self::new();
        for (group, entries) in groups {
            for Entry { msg_id, name } in entries {
                routes = routes.add(msg_id, &group).map_err(|error| error.about(&name))?;
            }
        }
        Ok(routes)
    }

    /// Sends messages of this id to `group`.
    ///
    /// # Errors
    /// Another group takes them already; the id is 0, which is the gate's own; `group` cannot be the name of a service.
    pub fn add(mut self, msg_id: u32, group: &str) -> Result<Self, ConfigError> {
        if msg_id == 0 {
            return Err(ConfigError::new(format!("message 0 of group `{group}`: 0 is the gate's own, for errors")));
        }
        let name = ServiceName::new(group)?;
        match self.0.insert(msg_id, name.as_str().into()) {
            Some(other) if *other != *group => {
                Err(ConfigError::new(format!("message {msg_id} is in two groups, `{other}` and `{group}`: keep one")))
            }
            _ => Ok(self),
        }
    }

    /// The group that takes messages of this id.
    pub fn group(&self, msg_id: u32) -> Option<&Arc<str>> {
        self.0.get(&msg_id)
    }

    /// Groups that take messages.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        let groups: BTreeSet<_> = self.0.values().map(|group| &**group).collect();
        groups.into_iter()
    }

    /// Ids of the messages that `group` takes, sorted.
    pub fn messages_of(&self, group: &str) -> Vec<u32> {
        let mut ids: Vec<_> = self.0.iter().filter(|(_, of)| ***of == *group).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{
        "gate": [{"MsgID":1,"Name":"登录"}], // answered by the gate
        "im": [{"MsgID": 2, "Name": "发送"}, {"MsgID": 3, "Name": "转发"}]
    }"#;

    #[test]
    fn the_sample_is_read_as_it_stands() {
        let routes = Routes::from_json(SAMPLE).unwrap();
        let group = |id| routes.group(id).map(|group| group.to_string());
        assert_eq!([1, 2, 3, 4].map(group), [Some("gate".into()), Some("im".into()), Some("im".into()), None]);
        assert_eq!(routes.messages_of("im"), [2, 3]);
    }

    #[test]
    fn a_message_in_two_groups_names_both() {
        let text = r#"{"im": [{"MsgID": 2, "Name": "send"}], "mail": [{"MsgID": 2, "Name": "post"}]}"#;
        let error = Routes::from_json(text).unwrap_err().to_string();
        assert!(error.contains("message 2") && error.contains("`im`") && error.contains("`mail`"), "{error}");
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for (text, part) in [
            (r#"{"im": [{"MsgID": 0, "Name": ""}]}"#, "message 0"),
            (r#"{"a/b": [{"MsgID": 5}]}"#, "a/b"),
            (r#"{"im": [{"MsgID": 4294967296}]}"#, "line 1"),
            (r#"{"im": {"MsgID": 4}}"#, "line 1"),
            ("", "EOF"),
        ] {
            let error = Routes::from_json(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
