//! The forms of the file. Pure.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use crate::{Found, Instance, ServiceName, Skipped};

/// All that a file lists.
pub(super) type Services = BTreeMap<ServiceName, Vec<Found>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    services: BTreeMap<String, Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Address(String),
    Instance(Described),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    address: String,
    id: Option<String>,
    weight: Option<f64>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A server in the file of a zinx cluster, which lists gates and back ends by groups.
#[derive(Deserialize)]
struct Dinx {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(rename = "Name", default)]
    name: String,
    /// 1: a gate, 2: a back end.
    #[serde(rename = "Type")]
    kind: u64,
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "Port")]
    port: u16,
}

const BACK_END: u64 = 2;

pub(super) fn toml(text: &str) -> Result<Services, String> {
    listed(toml::from_str(text).map_err(|error| error.to_string())?)
}

/// `{"services": ..}`, or a zinx cluster's `{group: [server, ..]}`. Lines may end with comments.
pub(super) fn json(text: &str) -> Result<Services, String> {
    let text = without_comments(text);
    let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if value.get("services").is_some_and(Value::is_object) {
        return listed(serde_json::from_value(value).map_err(|error| error.to_string())?);
    }
    let groups: BTreeMap<String, Vec<Dinx>> = serde_json::from_value(value).map_err(|error| {
        format!("it has neither `services` nor groups of servers with ID, Type, IP and Port: {error}")
    })?;
    let back_ends =
        |servers: Vec<Dinx>| servers.into_iter().filter(|server| server.kind == BACK_END).map(dinx).collect();
    named(groups.into_iter().map(|(group, servers)| (group, back_ends(servers))))
}

fn listed(listing: Listing) -> Result<Services, String> {
    let entries = |entries: Vec<Entry>| entries.into_iter().map(entry).collect();
    let services = named(listing.services.into_iter().map(|(name, found)| (name, entries(found))))?;
    for (service, found) in &services {
        let mut ids = HashSet::new();
        if let Some(twice) = found.iter().flatten().find(|instance| !ids.insert(instance.id())) {
            return Err(format!("`{service}` lists the id `{}` twice", twice.id()));
        }
    }
    Ok(services)
}

fn named(services: impl Iterator<Item = (String, Vec<Found>)>) -> Result<Services, String> {
    services.map(|(name, found)| Ok((ServiceName::new(name).map_err(|error| error.to_string())?, found))).collect()
}

/// An entry that is wrong takes no other out of service.
fn entry(entry: Entry) -> Found {
    let described = match entry {
        Entry::Address(address) => Described { address, id: None, weight: None, metadata: BTreeMap::new() },
        Entry::Instance(described) => described,
    };
    let skipped = |reason: String| Skipped::new(&described.address, reason);
    let instance = Instance::from_address(&described.address).map_err(|error| skipped(error.to_string()))?;
    let instance = match described.id {
        Some(id) => instance.with_id(id),
        None => instance,
    };
    let weight = described.weight.unwrap_or(Instance::DEFAULT_WEIGHT);
    let instance =
        described.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
    instance.check().map_err(|error| Skipped::new(&described.address, error.to_string()))?;
    // 0 takes an instance out of service.
    if !(weight.is_finite() && weight >= 0.0) {
        return Err(Skipped::new(&described.address, format!("its weight is {weight}")));
    }
    Ok(instance.with_weight(weight))
}

fn dinx(server: Dinx) -> Found {
    let instance = Instance::new(&server.ip, server.port)
        .with_metadata("dinx.id", server.id.to_string())
        .with_metadata("dinx.name", server.name);
    match instance.check() {
        Ok(()) => Ok(instance),
        Err(error) => Err(Skipped::new(server.id.to_string(), error.to_string())),
    }
}

/// Replaces each comment that begins with `//` outside of a text by nothing, up to the end of its line.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = text.char_indices().peekable();
    while let Some((_, c)) = rest.next() {
        if !in_text && c == '/' && rest.peek().is_some_and(|(_, next)| *next == '/') {
            while rest.next_if(|(_, c)| *c != '\n').is_some() {}
            continue;
        }
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(services: &Services, name: &str) -> Vec<String> {
        let found = &services[&ServiceName::new(name).unwrap()];
        found
            .iter()
            .map(|found| {
                found.as_ref().map_or_else(ToString::to_string, |one| format!("{} {}", one.id(), one.weight()))
            })
            .collect()
    }

    #[test]
    fn both_forms_are_read() {
        let from_toml = toml(
            r#"
            [services]
            goods = ["10.0.0.1:80", { address = "[::1]:81", id = "b", weight = 2.5, metadata = { zone = "b" } }]
            orders = []
            "#,
        );
        let from_json = json(
            r#"{"services": { // the shop
                "goods": ["10.0.0.1:80", {"address": "[::1]:81", "id": "b", "weight": 2.5, "metadata": {"zone": "b"}}],
                "orders": []}}"#,
        );
        assert_eq!(from_toml, from_json);
        let services = from_toml.unwrap();
        assert_eq!(shown(&services, "goods"), ["10.0.0.1:80 1", "b 2.5"]);
        assert!(shown(&services, "orders").is_empty());
    }

    #[test]
    fn a_cluster_file_lists_back_ends_by_group() {
        let services = json(
            r#"{
                // gates and back ends
                "lobby": [
                    {"ID": 1, "Name": "gate-1", "Type": 1, "IP": "10.0.0.1", "Port": 8999},
                    {"ID": 2, "Name": "http://x", "Type": 2, "IP": "10.0.0.2", "Port": 9001}, // "a" back end
                    {"ID": 3, "Name": "back-3", "Type": 2, "IP": "0.0.0.0", "Port": 9001}
                ]
            }"#,
        );
        let services = services.unwrap();
        let lobby = &services[&ServiceName::new("lobby").unwrap()];
        let first = lobby[0].as_ref().unwrap();
        assert_eq!(
            (first.address().as_str(), &first.metadata()["dinx.name"]),
            ("10.0.0.2:9001", &"http://x".to_owned())
        );
        assert!(lobby[1].as_ref().unwrap_err().to_string().contains("cannot dial 0.0.0.0"), "{lobby:?}");
        assert_eq!(lobby.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "neither `services` nor groups"),
            (r#"{"services": {"a/b": []}}"#, "a/b"),
            (r#"{"services": {}, "more": 1}"#, "more"),
            (r#"{"services": {"a": ["h:1", "h:1"]}}"#, "`h:1` twice"),
            (r#"{"a": [{"ID": 1}]}"#, "missing field"),
        ] {
            let error = json(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(toml("[services]\ngoods = [").unwrap_err().contains("line 2"));
        let bad = json(
            r#"{"services": {"a": ["h", {"address": "h:1", "weight": -1}, {"address": "h:2", "id": "a b"}, "h:3"]}}"#,
        );
        let bad = bad.unwrap();
        let found = &bad[&ServiceName::new("a").unwrap()];
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, false, true]);
    }
}
