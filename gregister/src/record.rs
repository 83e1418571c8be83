//! Stored changes: one a line, with a checksum. Pure.

use std::collections::BTreeMap;

use ms_register::{Instance, RegisterError};
use serde::{Deserialize, Serialize};

/// An instance as it is written and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) weight: f64,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Record {
    /// Checks that it may be listed: as any instance, but its weight may be 0.
    pub(crate) fn check(&self) -> Result<(), RegisterError> {
        let weight = if self.weight == 0.0 { Instance::DEFAULT_WEIGHT } else { self.weight };
        let instance = Instance::new(&self.host, self.port).with_id(&self.id).with_weight(weight);
        let whole = self.metadata.iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value));
        whole.check()?;
        Instance::from_address(&whole.address()).map(drop)
    }
}

/// A node that joined in the old way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) id: u16,
    pub(crate) http_addr: String,
    pub(crate) tcp_addr: String,
    /// Seconds since 1970.
    pub(crate) since: u64,
    pub(crate) weight: u32,
}

/// One step from a state to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Change {
    /// The first one: whose changes these are, and how far they were when the file was written.
    Store {
        store: u64,
        revision: u64,
    },
    Put {
        revision: u64,
        service: String,
        record: Record,
        lease: String,
        ttl_ms: u64,
        since: u64,
    },
    Remove {
        revision: u64,
        service: String,
        id: String,
    },
    /// A node joins, or has another weight.
    Join {
        revision: u64,
        node: Joined,
    },
    Leave {
        revision: u64,
        id: u16,
    },
    /// Terms are counted on from this token.
    Terms {
        token: u64,
    },
    /// From now on somebody may be elected.
    Open {
        revision: u64,
    },
    /// A candidate comes, or changes its own data: a candidate that is there keeps its place.
    Stand {
        revision: u64,
        service: String,
        candidate: String,
        record: Record,
        ttl_ms: u64,
    },
    /// The first candidate leads.
    Lead {
        revision: u64,
        service: String,
        candidate: String,
        token: u64,
    },
    /// A candidate goes, whether it led or not.
    Withdraw {
        revision: u64,
        service: String,
        candidate: String,
    },
}

/// Digits of the checksum at the beginning of a line, and the space after it.
const PREFIX: usize = 9;

/// The line of a change, with its end.
pub(crate) fn line(change: &Change) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(change).map(|text| sealed(&text))
}

/// A line with its checksum and its end.
pub(crate) fn sealed(text: &[u8]) -> Vec<u8> {
    [format!("{:08x} ", crc32fast::hash(text)).as_bytes(), text, b"\n"].concat()
}

/// Changes of a file, up to the first line that is not whole.
#[derive(Debug, PartialEq)]
pub(crate) struct Lines {
    pub(crate) changes: Vec<Change>,
    /// Bytes of them.
    pub(crate) whole: usize,
    /// Reason that no node of this version left this file behind, not even in a crash.
    pub(crate) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A whole line comes after a broken one: no crash cuts a write off like that.
    Damage,
    /// A whole line says what is not known here.
    Unknown,
}

pub(crate) fn read(bytes: &[u8]) -> Lines {
    let mut lines = Lines { changes: Vec::new(), whole: 0, fault: None };
    let mut is_broken = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = text(line) else {
            is_broken = true;
            continue;
        };
        match serde_json::from_slice(text) {
            _ if is_broken => lines.fault = Some(Fault::Damage),
            Ok(change) => {
                lines.changes.push(change);
                lines.whole += line.len();
                continue;
            }
            Err(_) => lines.fault = Some(Fault::Unknown),
        }
        break;
    }
    lines
}

/// Text of a whole line.
fn text(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (prefix, text) = line.split_at_checked(PREFIX)?;
    let prefix = std::str::from_utf8(prefix).ok()?.strip_suffix(' ')?;
    let sum = u32::from_str_radix(prefix, 16).ok()?;
    (crc32fast::hash(text) == sum).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes() -> Vec<Change> {
        let metadata = BTreeMap::from([("zone".to_owned(), "b\n\"1\"".to_owned())]);
        let record = Record { id: "a:1".into(), host: "a".into(), port: 1, weight: 2.5, metadata };
        let (service, candidate) = (|| "s".to_owned(), || "c".to_owned());
        let node = Joined { id: 2, http_addr: "h:1".into(), tcp_addr: "h:2".into(), since: 7, weight: 1 };
        vec![
            Change::Store { store: u64::MAX, revision: 3 },
            Change::Put {
                revision: 4,
                service: service(),
                record: record.clone(),
                lease: "l".into(),
                ttl_ms: 10_000,
                since: 7,
            },
            Change::Remove { revision: 5, service: "s".into(), id: "a:1".into() },
            Change::Join { revision: 6, node },
            Change::Leave { revision: 7, id: 2 },
            Change::Terms { token: 8 },
            Change::Open { revision: 8 },
            Change::Stand { revision: 9, service: service(), candidate: candidate(), record, ttl_ms: 1_000 },
            Change::Lead { revision: 10, service: service(), candidate: candidate(), token: 9 },
            Change::Withdraw { revision: 11, service: service(), candidate: candidate() },
        ]
    }

    fn bytes(changes: &[Change]) -> Vec<u8> {
        changes.iter().flat_map(|change| line(change).unwrap()).collect()
    }

    #[test]
    fn changes_survive_the_round_trip() {
        let bytes = bytes(&changes());
        assert_eq!(read(&bytes), Lines { changes: changes(), whole: bytes.len(), fault: None });
    }

    /// As version 0.1 wrote them before there were elections.
    #[test]
    fn old_lines_are_read() {
        let old = concat!(
            r#"572b08bb {"do":"store","store":77,"revision":3}"#,
            "\n",
            r#"7dffaa21 {"do":"put","revision":4,"service":"goods","record":{"id":"a:1","host":"a","port":1,"weight":2.5,"#,
            r#""metadata":{"zone":"b"}},"lease":"l","ttl_ms":10000,"since":7}"#,
            "\n",
        );
        let lines = read(old.as_bytes());
        assert_eq!((lines.whole, lines.fault, lines.changes.len()), (old.len(), None, 2));
    }

    #[test]
    fn what_a_later_version_wrote_is_told_from_damage() {
        let text = r#"{"do":"dance","revision":5}"#;
        let later = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
        let (before, after) = (bytes(&changes()[..1]), bytes(&changes()[1..2]));
        for after in [&[][..], &after] {
            let lines = read(&[&before, later.as_bytes(), after].concat());
            assert_eq!((lines.changes.len(), lines.whole, lines.fault), (1, before.len(), Some(Fault::Unknown)));
        }
    }

    #[test]
    fn what_a_crash_cuts_off_costs_the_last_change_alone() {
        let but_one = changes().len() - 1;
        let (all, whole) = (bytes(&changes()), bytes(&changes()[..but_one]).len());
        for length in whole..all.len() {
            let lines = read(&all[..length]);
            assert_eq!((lines.changes.len(), lines.whole, lines.fault), (but_one, whole, None));
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_from_a_crash() {
        let mut bytes = bytes(&changes());
        bytes[20] ^= 1;
        let lines = read(&bytes);
        assert!(lines.fault == Some(Fault::Damage) && lines.changes.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            prop_assert!(read(&bytes).whole <= bytes.len());
        }

        #[test]
        fn a_changed_bit_is_seen(position in 0_usize..1_200, bit in 0_u8..8) {
            let mut bytes = bytes(&changes());
            let position = position % bytes.len();
            bytes[position] ^= 1 << bit;
            // A digit of a sum may become the same digit in capitals.
            let lines = read(&bytes);
            prop_assert!(lines.changes == changes() || lines.changes.len() < changes().len());
        }
    }
}
