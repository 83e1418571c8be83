//! The stored form: an instance of Nacos's own. Pure.

use std::collections::HashMap;

use nacos_sdk::api::naming::ServiceInstance;

use crate::Instance;

/// Holds the id where it is not `ip:port`.
const ID: &str = "ms.id";

pub(super) fn encode(instance: &Instance, cluster: &str) -> ServiceInstance {
    let mut metadata: HashMap<_, _> = instance.metadata().clone().into_iter().collect();
    if instance.id() != default_id(instance.host(), instance.port()) {
        metadata.insert(ID.to_owned(), instance.id().to_owned());
    }
    ServiceInstance {
        ip: instance.host().to_owned(),
        port: i32::from(instance.port()),
        weight: instance.weight(),
        cluster_name: Some(cluster.to_owned()),
        metadata,
        ..ServiceInstance::default()
    }
}

/// `None`: Nacos lists it as out of service. The error says why it is no instance.
pub(super) fn decode(stored: &ServiceInstance) -> Result<Option<Instance>, String> {
    let port = u16::try_from(stored.port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("its port is {}", stored.port))?;
    if stored.ip.is_empty() {
        return Err("its ip is empty".to_owned());
    }
    if !(stored.weight.is_finite() && stored.weight >= 0.0) {
        return Err(format!("its weight is {}", stored.weight));
    }
    if !(stored.enabled && stored.healthy) {
        return Ok(None);
    }
    let mut instance = Instance::new(&stored.ip, port).with_weight(rounded(stored.weight));
    for (key, value) in &stored.metadata {
        if key != ID {
            instance = instance.with_metadata(key, value);
        } else if value.is_empty() {
            return Err(format!("its {ID} is empty"));
        } else {
            instance = instance.with_id(value);
        }
    }
    Ok(Some(instance))
}

/// A weight without the traces of 32 bits, in which servers keep it.
fn rounded(weight: f64) -> f64 {
    (weight * 1e6).round() / 1e6
}

/// Returns true if both have the same weight and metadata.
pub(super) fn is_equal(one: &ServiceInstance, other: &ServiceInstance) -> bool {
    rounded(one.weight) == rounded(other.weight) && one.metadata == other.metadata
}

/// Returns true if both are the same to Nacos.
pub(super) fn is_same(one: &ServiceInstance, other: &ServiceInstance) -> bool {
    one.ip == other.ip && one.port == other.port && one.cluster_name == other.cluster_name
}

/// Names it in messages.
pub(super) fn name(stored: &ServiceInstance) -> String {
    format!("{}:{} of cluster {}", stored.ip, stored.port, stored.cluster_name.as_deref().unwrap_or("-"))
}

fn default_id(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_survives_the_round_trip() {
        for written in [
            Instance::new("10.0.0.1", 80).with_weight(2.5).with_metadata("zone", "b"),
            Instance::new("::1", 65535),
            Instance::new("goods.local", 80).with_id("goods-1"),
        ] {
            let stored = encode(&written, "c1");
            assert_eq!(stored.metadata.contains_key(ID), written.id() == "goods-1");
            assert!(stored.ephemeral && stored.cluster_name.as_deref() == Some("c1"));
            assert_eq!(decode(&stored).unwrap(), Some(written));
        }
    }

    #[test]
    fn what_is_out_of_service_is_left_out() {
        let up = encode(&Instance::new("10.0.0.1", 80), "c1");
        assert_eq!(decode(&ServiceInstance { healthy: false, ..up.clone() }).unwrap(), None);
        assert_eq!(decode(&ServiceInstance { enabled: false, ..up.clone() }).unwrap(), None);
        let kept = decode(&ServiceInstance { weight: f64::from(0.1_f32), ..up.clone() }).unwrap().unwrap();
        assert_eq!(kept.weight(), 0.1);
        let idle = decode(&ServiceInstance { weight: 0.0, ..up }).unwrap().unwrap();
        assert_eq!(idle.weight(), 0.0);
    }

    #[test]
    fn garbage_says_what_is_wrong() {
        let good = encode(&Instance::new("10.0.0.1", 80), "c1");
        let id = |id: &str| HashMap::from([(ID.to_owned(), id.to_owned())]);
        for (bad, reason) in [
            (ServiceInstance { port: 0, ..good.clone() }, "port is 0"),
            (ServiceInstance { port: 70000, ..good.clone() }, "port is 70000"),
            (ServiceInstance { ip: String::new(), ..good.clone() }, "ip is empty"),
            (ServiceInstance { weight: -1.0, ..good.clone() }, "weight is -1"),
            (ServiceInstance { weight: f64::NAN, ..good.clone() }, "weight is NaN"),
            (ServiceInstance { metadata: id(""), ..good.clone() }, "ms.id is empty"),
        ] {
            let error = decode(&bad).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
