//! The forms of the file. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use crate::{Found, Instance, ServiceName, Skipped, without_comments};

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

const GATE: u64 = 1;
const BACK_END: u64 = 2;
/// Distance of a gate's port for RPC from the one in the file, at which clients meet it: the one between is for WebSockets.
const RPC_OF_GATE: u16 = 2;

pub(super) fn toml(text: &str) -> Result<Services, String> {
    listed(toml::from_str(text).map_err(|error| error.to_string())?)
}

/// `{"services": ..}`, or a zinx cluster's `{group: [server, ..]}`. Lines may end with comments.
pub(super) fn json(text: &str) -> Result<Services, String> {
    let value: Value = serde_json::from_str(&without_comments(text)).map_err(|error| error.to_string())?;
    if value.get("services").is_some_and(Value::is_object) {
        return listed(serde_json::from_value(value).map_err(|error| error.to_string())?);
    }
    let groups: BTreeMap<String, Vec<Dinx>> = serde_json::from_value(value).map_err(|error| {
        format!("it has neither `services` nor groups of servers with ID, Type, IP and Port: {error}")
    })?;
    let mut seen = HashMap::new();
    for (group, server) in groups.iter().flat_map(|(group, servers)| servers.iter().map(move |server| (group, server)))
    {
        if let Some(other) = seen.insert(server.id, group) {
            return Err(format!("the ID {} is used twice, in `{other}` and in `{group}`", server.id));
        }
    }
    named(groups.into_iter().map(|(group, servers)| (group, servers.into_iter().map(dinx).collect())))
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

/// The instance of a server. A server at 0.0.0.0 is one of this machine.
fn dinx(server: Dinx) -> Found {
    let skipped = |reason: String| Skipped::new(server.id.to_string(), reason);
    let above = match server.kind {
        GATE => RPC_OF_GATE,
        BACK_END => 0,
        other => return Err(skipped(format!("its Type is {other}: 1 is a gate, 2 a back end"))),
    };
    let port = server.port.checked_add(above);
    let port = port.ok_or_else(|| skipped(format!("a gate's port is at most {}", u16::MAX - RPC_OF_GATE)))?;
    let host = if server.ip == "0.0.0.0" { "127.0.0.1" } else { &server.ip };
    let instance = Instance::new(host, port).with_metadata("dinx.id", server.id.to_string());
    let instance = instance.with_metadata("dinx.name", &server.name);
    let instance = match server.kind {
        GATE => instance.with_metadata("dinx.clients", Instance::new(&server.ip, server.port).address()),
        _ => instance,
    };
    instance.check().map_err(|error| skipped(error.to_string()))?;
    Ok(instance)
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
    fn a_cluster_file_lists_gates_and_back_ends_by_group() {
        let services = json(
            r#"{
                // gates and back ends
                "lobby": [
                    {"ID": 1, "Name": "gate-1", "Type": 1, "IP": "10.0.0.1", "Port": 8999},
                    {"ID": 2, "Name": "http://x", "Type": 2, "IP": "10.0.0.2", "Port": 9001}, // "a" back end
                    {"ID": 3, "Name": "back-3", "Type": 2, "IP": "0.0.0.0", "Port": 9002},
                    {"ID": 4, "Name": "odd", "Type": 3, "IP": "10.0.0.1", "Port": 9001},
                    {"ID": 5, "Name": "high", "Type": 1, "IP": "10.0.0.1", "Port": 65534}
                ]
            }"#,
        );
        let services = services.unwrap();
        let lobby = &services[&ServiceName::new("lobby").unwrap()];
        let of = |at: usize| lobby[at].as_ref().unwrap();
        assert_eq!(
            [0, 1, 2].map(|at| (of(at).address(), of(at).metadata()["dinx.name"].clone())),
            [("10.0.0.1:9001", "gate-1"), ("10.0.0.2:9001", "http://x"), ("127.0.0.1:9002", "back-3")]
                .map(|(address, name)| (address.to_owned(), name.to_owned()))
        );
        let clients = [0, 1].map(|at| of(at).metadata().get("dinx.clients").map(String::as_str));
        assert_eq!(clients, [Some("10.0.0.1:8999"), None]);
        assert!(lobby[3].as_ref().unwrap_err().to_string().contains("Type is 3"), "{lobby:?}");
        assert!(lobby[4].as_ref().unwrap_err().to_string().contains("at most 65533"), "{lobby:?}");
        let twice = json(
            r#"{"a": [{"ID": 1, "Type": 2, "IP": "h", "Port": 1}], "b": [{"ID": 1, "Type": 2, "IP": "h", "Port": 2}]}"#,
        );
        let error = twice.unwrap_err();
        assert!(error.contains("ID 1") && error.contains("`a`") && error.contains("`b`"), "{error}");
        assert_eq!(lobby.len(), 5);
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
