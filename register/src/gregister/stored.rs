//! The bodies on the wire. Pure.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::Deserialize;
use serde_json::json;

use crate::{Found, Instance, Master, ServiceName, Skipped};

/// The instances of one service as of one revision of one store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listing {
    pub(super) store: String,
    pub(super) revision: u64,
    pub(super) found: Vec<Found>,
}

/// The master as of one revision of one store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lead {
    pub(super) store: String,
    pub(super) revision: u64,
    pub(super) master: Option<Master>,
}

/// Seat of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) store: String,
    /// True if anybody is elected: a new store waits.
    pub(super) elects: bool,
    /// The time that it got.
    pub(super) ttl: Duration,
    /// Token of its term, if it leads.
    pub(super) token: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    store: String,
    revision: u64,
    instances: Vec<Record>,
}

#[derive(Deserialize)]
struct ServicesBody {
    /// With the number of their instances.
    services: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct LeadBody {
    store: String,
    revision: u64,
    master: Option<MasterBody>,
}

#[derive(Deserialize)]
struct MasterBody {
    token: u64,
    #[serde(flatten)]
    record: Record,
}

#[derive(Deserialize)]
struct PlaceBody {
    store: String,
    elects: bool,
    ttl: f64,
    token: Option<u64>,
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

/// Times that a node may grant a candidate.
const GRANTED: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

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

/// An instance that campaigns, and lives for `ttl`.
pub(super) fn encode_candidate(instance: &Instance, ttl: Duration) -> Vec<u8> {
    let text = json!({
        "id": instance.id(),
        "host": instance.host(),
        "port": instance.port(),
        "weight": instance.weight(),
        "metadata": instance.metadata(),
        "ttl": ttl.as_secs_f64(),
    });
    text.to_string().into_bytes()
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("its answer does not parse: {error}"))
}

/// Checks the name of a store, which goes into a path as it is.
fn check(store: &str) -> Result<(), String> {
    let valid = store.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid { Ok(()) } else { Err(format!("its store is {store:?}")) }
}

/// Reads the answer about the master. The error says why it is no such answer.
pub(super) fn decode_lead(body: &[u8]) -> Result<Lead, String> {
    let LeadBody { store, revision, master } = parse(body)?;
    check(&store)?;
    let master = master.map(|MasterBody { token, record }| instance(record).map(|found| Master::new(found, token)));
    let master = master.transpose().map_err(|reason| format!("who leads is no instance: {reason}"))?;
    Ok(Lead { store, revision, master })
}

/// A candidate's place. The error says why it is no such answer.
pub(super) fn decode_place(body: &[u8]) -> Result<Place, String> {
    let PlaceBody { store, elects, ttl, token } = parse(body)?;
    let granted = Duration::try_from_secs_f64(ttl).ok().filter(|ttl| GRANTED.contains(ttl));
    let ttl = granted.ok_or_else(|| format!("its ttl is {ttl}"))?;
    Ok(Place { store, elects, ttl, token })
}

/// An answer. The error says why it is none.
pub(super) fn decode(body: &[u8]) -> Result<Listing, String> {
    let Body { store, revision, instances } = parse(body)?;
    check(&store)?;
    let found = |record: Record| {
        let id = record.id.clone();
        instance(record).map_err(|reason| Skipped::new(id, reason))
    };
    Ok(Listing { store, revision, found: instances.into_iter().map(found).collect() })
}

/// The names of the services. The error says why it is no such answer.
pub(super) fn decode_services(body: &[u8]) -> Result<Vec<ServiceName>, String> {
    let ServicesBody { services } = parse(body)?;
    let listed = services.into_iter().filter(|(_, count)| *count > 0);
    listed.map(|(name, _)| ServiceName::new(name).map_err(|error| error.to_string())).collect()
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
        let listing = decode(
            br#"{"store":"00ab","revision":7,"more":1,"instances":[
                {"id":"a","host":"::1","port":80,"weight":0.0,"metadata":{"zone":"b"}},
                {"id":"b","host":"0.0.0.0","port":80,"weight":1.0,"metadata":{}},
                {"id":"c","host":"h","port":80,"weight":-1.0,"metadata":{}},
                {"id":"d","host":"[h","port":80,"weight":1.0,"metadata":{}}]}"#,
        )
        .unwrap();
        let good = Instance::new("::1", 80).with_id("a").with_weight(0.0).with_metadata("zone", "b");
        assert_eq!((listing.store.as_str(), listing.revision), ("00ab", 7));
        assert_eq!(listing.found[0], Ok(good));
        assert_eq!(listing.found.iter().filter(|found| found.is_err()).count(), 3);
        for bad in ["", "{}", r#"{"store":"a b","revision":7,"instances":[]}"#] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_leads_and_who_waits_is_read() {
        let lead = decode_lead(
            br#"{"store":"00ab","revision":7,"elects":true,"waiting":1,
                "master":{"token":9,"id":"a","host":"::1","port":80,"weight":2.5,"metadata":{"zone":"b"}}}"#,
        );
        let instance = Instance::new("::1", 80).with_id("a").with_weight(2.5).with_metadata("zone", "b");
        let master = Some(Master::new(instance, 9));
        assert_eq!(lead, Ok(Lead { store: "00ab".into(), revision: 7, master }));
        let nobody = decode_lead(br#"{"store":"00ab","revision":7,"elects":false,"waiting":0,"master":null}"#);
        assert_eq!(nobody.unwrap().master, None);
        let place = decode_place(br#"{"store":"00ab","revision":7,"elects":false,"ttl":2.5,"token":null}"#);
        let ttl = Duration::from_millis(2_500);
        assert_eq!(place, Ok(Place { store: "00ab".into(), elects: false, ttl, token: None }));
        for bad in [
            "{}",
            r#"{"store":"a b","revision":7,"master":null}"#,
            r#"{"store":"a","revision":7,"master":{"token":9,"id":"a","host":"0.0.0.0","port":80,"weight":1.0}}"#,
            r#"{"store":"a","revision":7,"master":{"token":-1,"id":"a","host":"h","port":80,"weight":1.0}}"#,
        ] {
            assert!(decode_lead(bad.as_bytes()).is_err(), "{bad}");
        }
        for ttl in ["-1", "0", "0.9", "86401", "1e300", "null"] {
            let bad = format!(r#"{{"store":"a","elects":true,"ttl":{ttl},"token":1}}"#);
            assert!(decode_place(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
