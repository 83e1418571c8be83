//! The form of go-micro-service's servers: `normal<10 digits>`, and `master`. Pure.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::stored::Stored;
use crate::{Found, Instance};

/// Beginning of the nodes' names; ZooKeeper adds the digits.
pub(in super::super) const PREFIX: &str = "normal";
/// The node of who leads.
pub(in super::super) const MASTER: &str = "master";

/// The fields that are read; the rest may be anything.
#[derive(Deserialize)]
struct NodeData {
    #[serde(default)]
    serverip: String,
    #[serde(default)]
    serverport: Value,
    #[serde(default)]
    serveruniquecode: String,
    #[serde(default)]
    weight: Value,
    /// Written by candidates of this project, which need not be registered.
    #[serde(default)]
    unlisted: bool,
}

/// Checks that an instance fits in.
pub(in super::super) fn check(instance: &Instance) -> Result<(), String> {
    if !instance.metadata().is_empty() {
        return Err("layout=master-normal holds no metadata: leave it out, or use layout=curator".to_owned());
    }
    let weight = instance.weight();
    if weight.fract() != 0.0 || weight > f64::from(i32::MAX) {
        return Err(format!("its weight is {weight}: layout=master-normal holds whole numbers"));
    }
    Ok(())
}

pub(in super::super) fn encode(instance: &Instance) -> Vec<u8> {
    written(instance).to_string().into_bytes()
}

/// The data of a candidate, which is no instance to call. Peers take no notice of the mark.
pub(in super::super) fn encode_candidate(instance: &Instance) -> Vec<u8> {
    let mut written = written(instance);
    written["unlisted"] = Value::Bool(true);
    written.to_string().into_bytes()
}

fn written(instance: &Instance) -> Value {
    json!({
        "serverip": instance.host(),
        "serverport": instance.port(),
        "username": "",
        "userpwd": "",
        "serveruniquecode": instance.id(),
        // Whole, by `check`: its peers read no other number.
        "weight": instance.weight() as u32,
    })
}

pub(in super::super) fn decode(name: &str, data: &[u8]) -> Result<Stored, String> {
    if name == MASTER {
        let found = parse(data)?;
        return if found.unlisted { Ok(Stored::Nothing) } else { instance(found).map(Stored::Instance) };
    }
    if !name.strip_prefix(PREFIX).is_some_and(|digits| digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("its node is neither `master` nor `normal` with ten digits".to_owned());
    }
    read(data).map(Stored::Instance)
}

/// The same for a server behind a broker, which only its code tells from others.
pub(in super::super) fn decode_behind_broker(name: &str, data: &[u8]) -> Result<Stored, String> {
    let stored = decode(name, data)?;
    if matches!(stored, Stored::Instance(_)) && parse(data)?.serveruniquecode.is_empty() {
        return Err("its serveruniquecode is empty".to_owned());
    }
    Ok(stored)
}

/// Reads the data of a node, a normal's or a master's.
pub(in super::super) fn read(data: &[u8]) -> Result<Instance, String> {
    instance(parse(data)?)
}

fn parse(data: &[u8]) -> Result<NodeData, String> {
    serde_json::from_slice(data).map_err(|error| format!("its data does not parse: {error}"))
}

fn instance(found: NodeData) -> Result<Instance, String> {
    if found.serverip.is_empty() || found.serverip.contains(['[', ']']) {
        return Err(format!("its serverip is {:?}", found.serverip));
    }
    let mut instance = Instance::new(&found.serverip, super::port(&found.serverport)?);
    if !found.serveruniquecode.is_empty() {
        instance = instance.with_id(&found.serveruniquecode);
    }
    if found.weight != Value::Null {
        instance = instance.with_weight(super::weight(&found.weight)?);
    }
    Ok(instance)
}

/// The instances to call of all nodes, in the order of their names: the normals, or without such the master, which is what a lone
/// server is. Keeps of several nodes with one address the last, which its server wrote when the session of the first was lost; and gives
/// servers that have one code in common ids of their own.
pub(in super::super) fn listed<'a>(nodes: impl Iterator<Item = (&'a str, Found)>) -> Vec<Found> {
    apart(callable(nodes))
}

/// The same for servers with one address, that of a broker: each code once, as its server wrote it last.
pub(in super::super) fn listed_by_code<'a>(nodes: impl Iterator<Item = (&'a str, Found)>) -> Vec<Found> {
    let mut codes = HashSet::new();
    let is_new = |found: &Found| found.as_ref().map_or(true, |instance| codes.insert(instance.id().to_owned()));
    let mut listed: Vec<_> = callable(nodes).into_iter().rev().filter(is_new).collect();
    listed.reverse();
    listed
}

/// The normals, or without such the master.
fn callable<'a>(nodes: impl Iterator<Item = (&'a str, Found)>) -> Vec<Found> {
    let (mut masters, mut normals) = (Vec::new(), Vec::new());
    for (name, found) in nodes {
        if name == MASTER { masters.push(found) } else { normals.push(found) }
    }
    if !normals.iter().any(Result::is_ok) {
        normals.append(&mut masters);
    }
    normals
}

fn apart(found: Vec<Found>) -> Vec<Found> {
    let (instances, skipped): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    let instances: Vec<_> = instances.into_iter().flatten().collect();
    let mut addresses = HashSet::new();
    let mut last: Vec<_> = instances.into_iter().rev().filter(|one| addresses.insert(one.address())).collect();
    last.reverse();
    let mut shared: HashMap<String, usize> = HashMap::new();
    for instance in &last {
        *shared.entry(instance.id().to_owned()).or_default() += 1;
    }
    let own_id = |instance: Instance| match shared.get(instance.id()) {
        Some(2..) => {
            let id = format!("{}:{}", instance.host(), instance.port());
            instance.with_id(id)
        }
        _ => instance,
    };
    last.into_iter().map(own_id).map(Ok).chain(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "normal0000000007";

    #[test]
    fn an_instance_survives_the_round_trip() {
        for instance in [
            Instance::new("10.0.0.1", 80).with_weight(3.0).with_id("uc"),
            Instance::new("::1", 80),
            Instance::new("h", 1).with_weight(f64::from(i32::MAX)),
        ] {
            check(&instance).unwrap();
            assert_eq!(decode(NODE, &encode(&instance)).unwrap(), Stored::Instance(instance));
        }
    }

    #[test]
    fn the_written_form_is_the_one_of_its_peers() {
        let data = encode(&Instance::new("127.0.0.1", 50000).with_id("uc"));
        let found: Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(
            found,
            json!({"serverip": "127.0.0.1", "serverport": 50000, "username": "", "userpwd": "",
                   "serveruniquecode": "uc", "weight": 1})
        );
        assert!(found["weight"].is_u64(), "peers read whole numbers only");
    }

    #[test]
    fn what_it_cannot_hold_is_refused() {
        let good = Instance::new("10.0.0.1", 80);
        assert!(check(&good.clone().with_metadata("zone", "b")).unwrap_err().contains("no metadata"));
        assert!(check(&good.clone().with_weight(2.5)).unwrap_err().contains("2.5"));
        assert!(check(&good.with_weight(1e12)).is_err());
    }

    #[test]
    fn a_master_is_listed_where_there_is_no_normal() {
        let (one, other) = (Instance::new("h", 1), Instance::new("h", 2));
        let nodes = |names: &[(&'static str, &Instance)]| {
            let nodes: Vec<_> = names.iter().map(|(name, found)| (*name, Ok((*found).clone()))).collect();
            listed(nodes.into_iter())
        };
        assert_eq!(nodes(&[("master", &one)]), [Ok(one.clone())]);
        assert_eq!(nodes(&[("master", &one), (NODE, &other)]), [Ok(other.clone())]);
        assert_eq!(decode("master", &encode(&one)).unwrap(), Stored::Instance(one.clone()));
        assert_eq!(decode("master", &encode_candidate(&one)).unwrap(), Stored::Nothing);
        assert_eq!(read(&encode_candidate(&one)).unwrap(), one);
    }

    #[test]
    fn servers_behind_a_broker_are_told_apart_by_their_codes() {
        let server = |code: &str, weight: f64| Instance::new("broker", 1883).with_id(code).with_weight(weight);
        let nodes = [server("b", 1.0), server("a", 1.0), server("b", 2.0)];
        let listed: Result<Vec<_>, _> =
            listed_by_code(nodes.into_iter().map(|node| (NODE, Ok(node)))).into_iter().collect();
        assert_eq!(listed.unwrap(), [server("a", 1.0), server("b", 2.0)]);
        let (with, without) = (encode(&server("a", 1.0)), br#"{"serverip":"broker","serverport":1883,"weight":1}"#);
        assert_eq!(decode_behind_broker(NODE, &with).unwrap(), Stored::Instance(server("a", 1.0)));
        assert!(decode_behind_broker(NODE, without).unwrap_err().contains("serveruniquecode is empty"));
        assert_eq!(decode_behind_broker("master", &encode_candidate(&server("a", 1.0))).unwrap(), Stored::Nothing);
    }

    #[test]
    fn garbage_says_what_is_wrong() {
        for (name, data, reason) in [
            ("other", "{}", "neither `master` nor"),
            ("normal1", "{}", "neither `master` nor"),
            ("normal00000000x7", "{}", "neither `master` nor"),
            (NODE, "", "does not parse"),
            ("master", "", "does not parse"),
            (NODE, "{}", "serverip is \"\""),
            (NODE, r#"{"serverip":"h"}"#, "port is null"),
            (NODE, r#"{"serverip":"h","serverport":-1}"#, "port is -1"),
            (NODE, r#"{"serverip":"h","serverport":1,"weight":-1}"#, "weight is -1"),
        ] {
            let error = decode(name, data.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn servers_with_one_code_are_apart_and_one_server_is_listed_once() {
        let server = |host: &str, weight: f64| Instance::new(host, 1).with_id("uc").with_weight(weight);
        let apart = |servers: Vec<Instance>| {
            super::apart(servers.into_iter().map(Ok).collect()).into_iter().collect::<Result<Vec<_>, _>>().unwrap()
        };
        let again = apart(vec![server("a", 1.0), server("a", 2.0)]);
        assert_eq!(again, [server("a", 2.0)]);
        let two = apart(vec![server("a", 1.0), server("b", 1.0), Instance::new("c", 1)]);
        assert_eq!(two.iter().map(Instance::id).collect::<Vec<_>>(), ["a:1", "b:1", "c:1"]);
    }
}
