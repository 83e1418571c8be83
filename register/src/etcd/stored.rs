//! The stored form: the value that etcd's naming package writes. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Instance;

const WEIGHT: &str = "weight";

/// What a key holds.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    Instance(Instance),
    /// A marker that asks readers to forget the instance: it is none.
    Deleted,
}

/// Reads the value of a key in a directory.
type Decode = fn(&str, &[u8], &[u8]) -> Result<Stored, String>;

/// How instances are written, and read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) encode: fn(&Instance) -> Vec<u8>,
    pub(super) decode: Decode,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    #[serde(default)]
    op: u8,
    #[serde(default)]
    addr: String,
    /// Go peers write anything here, null included.
    #[serde(default)]
    metadata: Value,
}

pub(super) fn encode(instance: &Instance) -> Vec<u8> {
    let mut metadata: Map<_, _> =
        instance.metadata().iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    metadata.insert(WEIGHT.to_owned(), Value::from(instance.weight()));
    let update = Update { op: 0, addr: instance.address(), metadata: Value::Object(metadata) };
    // `Value` prints itself without an error case, unlike `serde_json::to_vec`.
    let text = serde_json::json!({ "Op": update.op, "Addr": update.addr, "Metadata": update.metadata }).to_string();
    text.into_bytes()
}

/// Reads what stands under `key`, which begins with `directory`. The error says why it is no instance.
pub(super) fn decode(directory: &str, key: &[u8], value: &[u8]) -> Result<Stored, String> {
    let key = std::str::from_utf8(key).map_err(|_| "its key is not UTF-8".to_owned())?;
    let id = key.strip_prefix(directory).ok_or("its key lies elsewhere")?;
    if id.is_empty() || id.contains('/') {
        return Err("its key is not `<prefix>/<service>/<id>`".to_owned());
    }
    let update: Update = serde_json::from_slice(value).map_err(|error| format!("its value does not parse: {error}"))?;
    match update.op {
        0 => {}
        1 => return Ok(Stored::Deleted),
        op => return Err(format!("its Op is {op}: 0 (add) and 1 (delete) are known")),
    }
    let instance = Instance::from_address(&update.addr).map_err(|_| format!("its Addr is {:?}", update.addr))?;
    let mut instance = instance.with_id(id);
    if let Value::Object(metadata) = update.metadata {
        for (key, value) in metadata {
            if key == WEIGHT {
                instance = instance.with_weight(weight(&value)?);
            } else if let Some(text) = text(value) {
                instance = instance.with_metadata(key, text);
            }
        }
    }
    Ok(Stored::Instance(instance))
}

fn weight(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    // 0 is what others write to take an instance out of service.
    number.filter(|weight| weight.is_finite() && *weight >= 0.0).ok_or_else(|| format!("its weight is {value}"))
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
    use super::*;

    fn read(value: &str) -> Result<Stored, String> {
        decode("p/goods/", b"p/goods/a", value.as_bytes())
    }

    fn instance(value: &str) -> Instance {
        match read(value) {
            Ok(Stored::Instance(instance)) => instance,
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn an_instance_survives_the_round_trip() {
        for written in [
            Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b \"1\"").with_id("a"),
            Instance::new("::1", 80).with_id("a"),
        ] {
            let value = encode(&written);
            assert_eq!(decode("p/goods/", b"p/goods/a", &value).unwrap(), Stored::Instance(written));
        }
    }

    #[test]
    fn the_written_form_is_the_one_of_the_naming_package() {
        let value = encode(&Instance::new("10.0.0.1", 80).with_metadata("zone", "b"));
        let value: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"Op": 0, "Addr": "10.0.0.1:80", "Metadata": {"weight": 1.0, "zone": "b"}})
        );
    }

    #[test]
    fn what_go_peers_write_is_read() {
        assert_eq!(instance(r#"{"Op":0,"Addr":"h:1","Metadata":null}"#), Instance::new("h", 1).with_id("a"));
        assert_eq!(instance(r#"{"Addr":"h:1"}"#).weight(), 1.0);
        assert_eq!(instance(r#"{"Addr":"h:1","Metadata":"text"}"#).weight(), 1.0);
        let mixed = instance(
            r#"{"Op":0,"Addr":"h:1","Metadata":{"weight":"0","n":1,"b":true,"deep":{"x":1},"list":[1],"none":null}}"#,
        );
        assert_eq!(mixed.weight(), 0.0);
        assert_eq!(mixed.metadata().iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["b=true", "n=1"]);
        assert_eq!(read(r#"{"Op":1,"Addr":"h:1"}"#).unwrap(), Stored::Deleted);
    }

    #[test]
    fn garbage_says_what_is_wrong() {
        for (value, reason) in [
            ("", "does not parse"),
            ("[]x", "does not parse"),
            (r#"{"Op":7,"Addr":"h:1"}"#, "Op is 7"),
            (r#"{"Op":0}"#, "Addr is \"\""),
            (r#"{"Addr":"nohost"}"#, "Addr is \"nohost\""),
            (r#"{"Addr":"h:1","Metadata":{"weight":-1}}"#, "weight is -1"),
            (r#"{"Addr":"h:1","Metadata":{"weight":"NaN"}}"#, "weight is \"NaN\""),
            (r#"{"Addr":"h:1","Metadata":{"weight":{}}}"#, "weight is {}"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(decode("p/goods/", b"p/goods/", b"{}").is_err());
        assert!(decode("p/goods/", b"p/goods/a/b", br#"{"Addr":"h:1"}"#).is_err());
        assert!(decode("p/goods/", b"p/goods/\xff", br#"{"Addr":"h:1"}"#).is_err());
    }
}
