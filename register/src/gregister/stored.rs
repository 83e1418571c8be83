//! What goes over the wire. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::json;

use crate::Instance;

/// The instances of one service as of one revision of one store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listing {
    pub(super) store: String,
    pub(super) revision: u64,
    pub(super) instances: Vec<Instance>,
}

/// What is no instance, with the reason.
pub(super) type Garbage = Vec<(String, String)>;

#[derive(Deserialize)]
struct Body {
    store: String,
    revision: u64,
    instances: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    host: String,
    port: u16,
    weight: f64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// An instance that is to be listed for `ttl` under this lease.
pub(super) fn encode(instance: &Instance, lease: &str, ttl: Duration) -> Vec<u8> {
    let text = json!({
        "host": instance.host(),
        "port": instance.port(),
        "weight": instance.weight(),
        "metadata": instance.metadata(),
        "ttl": ttl.as_secs_f64(),
        "lease": lease,
    });
    text.to_string().into_bytes()
}

/// An answer. The error says why it is none.
pub(super) fn decode(body: &[u8]) -> Result<(Listing, Garbage), String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("its answer does not parse: {error}"))?;
    // It goes into a path as it is.
    if !body.store.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("its store is {:?}", body.store));
    }
    let (mut instances, mut garbage) = (Vec::new(), Vec::new());
    for record in body.instances {
        let id = record.id.clone();
        match instance(record) {
            Ok(instance) => instances.push(instance),
            Err(reason) => garbage.push((id, reason)),
        }
    }
    Ok((Listing { store: body.store, revision: body.revision, instances }, garbage))
}

fn instance(record: Record) -> Result<Instance, String> {
    let weight = record.weight;
    if !(weight.is_finite() && weight >= 0.0) {
        return Err(format!("its weight is {weight}"));
    }
    let instance = Instance::new(record.host, record.port).with_id(record.id);
    let instance =
        record.metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
    instance.check().map_err(|error| error.to_string())?;
    if Instance::from_address(&instance.address()).is_err() {
        return Err(format!("its host is {:?}", instance.host()));
    }
    // 0 is what others write to take an instance out of service.
    Ok(instance.with_weight(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_garbage_says_what_is_wrong() {
        let (listing, garbage) = decode(
            br#"{"store":"00ab","revision":7,"more":1,"instances":[
                {"id":"a","host":"::1","port":80,"weight":0.0,"metadata":{"zone":"b"}},
                {"id":"b","host":"0.0.0.0","port":80,"weight":1.0,"metadata":{}},
                {"id":"c","host":"h","port":80,"weight":-1.0,"metadata":{}},
                {"id":"d","host":"[h","port":80,"weight":1.0,"metadata":{}}]}"#,
        )
        .unwrap();
        let good = Instance::new("::1", 80).with_id("a").with_weight(0.0).with_metadata("zone", "b");
        assert_eq!(listing, Listing { store: "00ab".into(), revision: 7, instances: vec![good] });
        assert_eq!(garbage.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
        for bad in ["", "{}", r#"{"store":"a b","revision":7,"instances":[]}"#] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
