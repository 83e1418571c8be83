//! The form of Curator's service discovery: `ServiceInstance` in JSON. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{ZookeeperPayload, stored::Stored};
use crate::{Instance, ServiceName};

const CLASS: &str = "@class";
/// Name by which Spring's deserializer knows the payload.
const SPRING: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";
const METADATA: &str = "metadata";
const WEIGHT: &str = "weight";

/// The fields that are read; the rest may be anything.
#[derive(Deserialize)]
struct ServiceInstance {
    #[serde(default)]
    address: Value,
    #[serde(default)]
    port: Value,
    /// Later versions write it; earlier ones refuse to read it.
    #[serde(default)]
    enabled: Value,
    /// An object of a class that its writer chose, or anything else.
    #[serde(default)]
    payload: Value,
}

pub(in super::super) fn encode(
    form: ZookeeperPayload,
    service: &ServiceName,
    instance: &Instance,
    now: SystemTime,
) -> Vec<u8> {
    // Texts alone: Spring's is a map of texts.
    let mut metadata: Map<_, _> =
        instance.metadata().iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    metadata.insert(WEIGHT.to_owned(), Value::from(instance.weight().to_string()));
    let mut payload = json!({ "id": instance.id(), "name": service.as_str(), METADATA: metadata });
    if form == ZookeeperPayload::Spring {
        payload[CLASS] = Value::from(SPRING);
    }
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let written = json!({
        "name": service.as_str(),
        "id": instance.id(),
        "address": instance.host(),
        "port": instance.port(),
        "sslPort": null,
        "payload": payload,
        "registrationTimeUTC": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        "serviceType": "DYNAMIC",
        "uriSpec": { "parts": [
            { "value": "scheme", "variable": true },
            { "value": "://", "variable": false },
            { "value": "address", "variable": true },
            { "value": ":", "variable": false },
            { "value": "port", "variable": true },
        ] },
    });
    written.to_string().into_bytes()
}

/// The name of the node is the id: Curator has it so too.
pub(in super::super) fn decode(id: &str, data: &[u8]) -> Result<Stored, String> {
    let found: ServiceInstance =
        serde_json::from_slice(data).map_err(|error| format!("its data does not parse: {error}"))?;
    if found.enabled == Value::Bool(false) {
        return Ok(Stored::Nothing);
    }
    let Some(host) = found.address.as_str().filter(|host| !host.is_empty() && !host.contains(['[', ']'])) else {
        return Err(format!("its address is {}", found.address));
    };
    let mut instance = Instance::new(host, super::port(&found.port)?).with_id(id);
    for (key, value) in metadata(found.payload) {
        if key == WEIGHT {
            instance = instance.with_weight(super::weight(&value)?);
        } else if let Some(text) = text(value) {
            instance = instance.with_metadata(key, text);
        }
    }
    Ok(Stored::Instance(instance))
}

/// The payload's metadata of the instance: its `metadata`, or, without such, what is flat in it.
fn metadata(payload: Value) -> Map<String, Value> {
    let Value::Object(mut payload) = payload else { return Map::new() };
    match payload.remove(METADATA) {
        Some(Value::Object(metadata)) => metadata,
        Some(_) => Map::new(),
        None => {
            payload.retain(|key, _| key != CLASS);
            payload
        }
    }
}

/// Metadata is flat text: what is deeper is left out.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(form: ZookeeperPayload, instance: &Instance) -> Vec<u8> {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        encode(form, &"goods".parse().unwrap(), instance, now)
    }

    fn instance(data: &str) -> Instance {
        match decode("a", data.as_bytes()) {
            Ok(Stored::Instance(instance)) => instance,
            other => panic!("{data}: {other:?}"),
        }
    }

    #[test]
    fn an_instance_survives_the_round_trip() {
        for instance in [
            Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b \"1\"").with_id("a"),
            Instance::new("::1", 80).with_metadata("metadata", "m").with_metadata("id", "other"),
        ] {
            for form in [ZookeeperPayload::Spring, ZookeeperPayload::Map] {
                let data = written(form, &instance);
                assert_eq!(decode(instance.id(), &data).unwrap(), Stored::Instance(instance.clone()));
            }
        }
    }

    #[test]
    fn the_written_form_is_the_one_of_curator() {
        let instance = Instance::new("10.0.0.1", 80).with_metadata("zone", "b");
        let mut found: Value = serde_json::from_slice(&written(ZookeeperPayload::Spring, &instance)).unwrap();
        let payload = found["payload"].take();
        assert_eq!(
            found,
            json!({
                "name": "goods", "id": "10.0.0.1:80", "address": "10.0.0.1", "port": 80, "sslPort": null, "payload": null,
                "registrationTimeUTC": 1_700_000_000_123_u64, "serviceType": "DYNAMIC",
                "uriSpec": { "parts": [
                    { "value": "scheme", "variable": true }, { "value": "://", "variable": false },
                    { "value": "address", "variable": true }, { "value": ":", "variable": false },
                    { "value": "port", "variable": true },
                ] },
            }),
            "and no `enabled`, which earlier versions refuse"
        );
        let metadata = json!({ "weight": "1", "zone": "b" });
        assert_eq!(payload, json!({ CLASS: SPRING, "id": "10.0.0.1:80", "name": "goods", "metadata": metadata }));
        let found: Value = serde_json::from_slice(&written(ZookeeperPayload::Map, &instance)).unwrap();
        assert_eq!(found["payload"], json!({ "id": "10.0.0.1:80", "name": "goods", "metadata": metadata }));
    }

    #[test]
    fn what_java_peers_write_is_read() {
        let plain = instance(
            r#"{"name":"goods","id":"a","address":"h","port":1,"sslPort":null,"payload":null,
                "registrationTimeUTC":1,"serviceType":"STATIC","uriSpec":null,"enabled":true}"#,
        );
        assert_eq!(plain, Instance::new("h", 1).with_id("a"));
        assert_eq!(instance(r#"{"address":"h","port":1,"payload":"text"}"#), plain);
        assert_eq!(instance(r#"{"address":"h","port":1,"payload":["java.util.ArrayList",[]]}"#), plain);
        assert_eq!(instance(r#"{"address":"h","port":1,"payload":{"@class":"a.B","metadata":null}}"#), plain);
        let flat = instance(
            r#"{"address":"h","port":1,"payload":{"@class":"a.B","weight":2,"zone":"b","n":1,"deep":{"x":1},"none":null}}"#,
        );
        assert_eq!(flat.weight(), 2.0);
        assert_eq!(flat.metadata().iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["n=1", "zone=b"]);
        let idle = instance(r#"{"address":"h","port":1,"payload":{"metadata":{"weight":"0"}}}"#);
        assert_eq!(idle.weight(), 0.0);
        assert_eq!(decode("a", br#"{"address":"h","port":1,"enabled":false}"#).unwrap(), Stored::Nothing);
    }

    #[test]
    fn garbage_says_what_is_wrong() {
        for (data, reason) in [
            ("", "does not parse"),
            ("[]", "address is null"),
            ("5", "does not parse"),
            ("{}", "address is null"),
            (r#"{"address":"","port":1}"#, "address is \"\""),
            (r#"{"address":"h","port":null}"#, "port is null"),
            (r#"{"address":"h","port":0}"#, "port is 0"),
            (r#"{"address":"h","port":70000}"#, "port is 70000"),
            (r#"{"address":"h","port":1,"payload":{"metadata":{"weight":-1}}}"#, "weight is -1"),
            (r#"{"address":"h","port":1,"payload":{"metadata":{"weight":"NaN"}}}"#, "weight is \"NaN\""),
        ] {
            let error = decode("a", data.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
