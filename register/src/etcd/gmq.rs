//! The layout of gmq's nodes: the key `/gmq/node-<id>`, and as its value a JSON object of texts. Pure.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::stored::Stored;
use crate::Instance;

/// Common beginning of all keys; what follows is the number of a node.
pub(super) const DIRECTORY: &str = "/gmq/node-";
/// The service that the nodes serve.
pub(super) const SERVICE: &str = "mq";
/// Metadata of a node: where it serves HTTP, its number, and since when it is listed.
const HTTP: &str = "mq.http";
const NODE: &str = "mq.node";
const JOINED: &str = "join_time";

/// The value of a node whose address is that of gmq's TCP protocols.
pub(super) fn encode(instance: &Instance) -> Vec<u8> {
    let text = |key: &str| instance.metadata().get(key).map(String::as_str).unwrap_or_default();
    // Weights of gmq are whole numbers: what is above 0 stays so.
    let weight = if instance.weight() > 0.0 { instance.weight().round().max(1.0) } else { 0.0 };
    let joined = instance.metadata().get(JOINED).cloned().unwrap_or_else(|| date(SystemTime::now()));
    let value = json!({
        "tcp_addr": instance.address(),
        "http_addr": text(HTTP),
        "weight": weight.to_string(),
        "node_id": text(NODE),
        JOINED: joined,
    });
    value.to_string().into_bytes()
}

/// `2006-01-02 15:04:05`, in UTC.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Reads what stands under `key`. The error says why it is no node.
pub(super) fn decode(directory: &str, key: &[u8], value: &[u8]) -> Result<Stored, String> {
    let key = std::str::from_utf8(key).map_err(|_| "its key is not UTF-8".to_owned())?;
    let id = key.strip_prefix(directory).filter(|id| !id.is_empty()).ok_or("its key is not `/gmq/node-<id>`")?;
    let value: BTreeMap<String, Value> =
        serde_json::from_slice(value).map_err(|error| format!("its value does not parse: {error}"))?;
    let text = |key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let address = text("tcp_addr");
    let instance = Instance::from_address(&address).map_err(|_| format!("its tcp_addr is {address:?}"))?;
    let weight = match &*text("weight") {
        "" => 1.0,
        given => given
            .parse()
            .ok()
            .filter(|weight: &f64| weight.is_finite() && *weight >= 0.0)
            .ok_or_else(|| format!("its weight is {given:?}"))?,
    };
    let instance = instance.with_id(id).with_weight(weight);
    let pairs = [(HTTP, "http_addr"), (NODE, "node_id"), (JOINED, JOINED)].map(|(name, key)| (name, text(key)));
    let known = pairs.into_iter().filter(|(_, text)| !text.is_empty());
    Ok(Stored::Instance(known.fold(instance, |instance, (name, text)| instance.with_metadata(name, text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_written_as_texts_and_read_again() {
        let node = Instance::new("127.0.0.1", 9503)
            .with_id("1")
            .with_weight(5.0)
            .with_metadata(HTTP, "127.0.0.1:9504")
            .with_metadata(NODE, "1")
            .with_metadata(JOINED, "2006-01-02 15:04:05");
        let written = encode(&node);
        let expected = json!({
            "tcp_addr": "127.0.0.1:9503", "http_addr": "127.0.0.1:9504", "weight": "5", "node_id": "1",
            "join_time": "2006-01-02 15:04:05",
        });
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
        assert_eq!(decode(DIRECTORY, b"/gmq/node-1", &written), Ok(Stored::Instance(node)));
        let now: Value = serde_json::from_slice(&encode(&Instance::new("h", 1))).unwrap();
        let joined = now["join_time"].as_str().unwrap();
        assert!(joined.len() == 19 && humantime::parse_rfc3339_weak(joined).is_ok(), "{joined}");
    }

    #[test]
    fn what_is_no_node_says_why() {
        for (key, value, reason) in [
            ("/gmq/node-", "{}", "its key is not"),
            ("/gmq/nodes", "{}", "its key is not"),
            ("/gmq/node-1", "x", "does not parse"),
            ("/gmq/node-1", "{}", "its tcp_addr is \"\""),
            ("/gmq/node-1", r#"{"tcp_addr":"h:1","weight":"-1"}"#, "its weight is \"-1\""),
        ] {
            let error = decode(DIRECTORY, key.as_bytes(), value.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(decode(DIRECTORY, b"/gmq/node-1", br#"{"tcp_addr":"h:1","weight":5}"#).is_ok());
    }
}
