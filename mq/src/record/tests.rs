use proptest::prelude::*;

use super::*;
use crate::{Mode, Rate};

fn state() -> impl Strategy<Value = CopyState> {
    (any::<u64>(), any::<u16>(), any::<Option<String>>()).prop_map(|(due, retries, dead)| CopyState {
        due,
        retries,
        dead,
    })
}

fn message() -> impl Strategy<Value = Record> {
    let copies = prop::collection::vec((any::<u32>(), state()), 0..4);
    let bytes = || any::<Vec<u8>>().prop_map(Bytes::from);
    let headers = prop::collection::vec((any::<String>(), bytes()), 0..3);
    (any::<(u64, u32, u8, u32, Option<u64>, Option<String>)>(), copies, headers, bytes()).prop_map(
        |((id, topic, priority, ttr, end, group), copies, headers, body)| {
            Record::Message(MessageRecord {
                id: MessageId(id),
                topic,
                copies,
                priority,
                ttr,
                end,
                group,
                headers,
                body,
            })
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let id = || any::<u64>().prop_map(MessageId);
    prop_oneof![
        message(),
        (any::<u32>(), id()).prop_map(|(queue, id)| Record::Gone { queue, id }),
        (any::<u32>(), id(), state()).prop_map(|(queue, id, state)| Record::State { queue, id, state }),
        (any::<(u32, u64, u16, u64, bool)>(), id()).prop_map(|((queue, number, retries, expires, is_begun), id)| {
            Record::Lease { queue, id, number, retries, expires, is_begun }
        }),
        any::<(u32, String, bool, u64, u16, Vec<u64>)>().prop_map(
            |(number, name, auto_ack, ttr, max_retries, backoff)| {
                let mode = if auto_ack { Mode::Fuzzy } else { Mode::Exact };
                let config = TopicConfig {
                    mode,
                    auto_ack,
                    ttr,
                    max_retries,
                    max_length: ttr,
                    dedup_window: 5,
                    created: 6,
                    max_dead: ttr / 2,
                    dead_age: ttr,
                    ttl: ttr / 3,
                    max_leased: ttr / 4,
                    changed: ttr.saturating_add(6),
                    rate: (backoff.len() > 3).then_some(Rate { messages: number, per_ms: u32::from(max_retries) }),
                    backoff,
                };
                Record::Topic { number, name, config }
            }
        ),
        any::<(u32, u32, String, bool)>().prop_map(|(number, topic, bind_key, paused)| Record::Queue {
            number,
            topic,
            bind_key,
            paused
        }),
        any::<u32>().prop_map(|number| Record::TopicGone { number }),
        any::<u32>().prop_map(|number| Record::QueueGone { number }),
        any::<u32>().prop_map(|queue| Record::Purged { queue }),
        (any::<(u32, String, u64)>(), id()).prop_map(|((topic, key, expires), id)| Record::Dedup {
            topic,
            key,
            id,
            expires
        }),
        any::<(u32, u32, u64, u64)>().prop_map(|(topics, queues, ids, leases)| Record::Marks {
            topics,
            queues,
            ids,
            leases
        }),
    ]
}

proptest! {
    #[test]
    fn records_come_back(records in prop::collection::vec(record(), 0..10)) {
        let mut out = Vec::new();
        records.iter().for_each(|record| record.write(&mut out));
        let mut reader = Reader(&out);
        for record in &records {
            prop_assert_eq!(Record::read(&mut reader), Ok(Some(record.clone())));
        }
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn no_bytes_are_trusted(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader(&bytes);
        while !reader.is_empty() && Record::read(&mut reader).is_ok() {}
    }
}

#[test]
fn what_a_later_version_adds_is_skipped_or_refused() {
    assert_eq!(Record::read(&mut Reader(&[3, 200, 1, 2])), Ok(None));
    assert_eq!(Record::read(&mut Reader(&[3, 100, 1, 2])), Err(Unreadable { kind: 100 }));
    let mut out = Vec::new();
    Record::Purged { queue: 7 }.write(&mut out);
    out[0] += 2;
    out.extend_from_slice(&[9, 9]);
    assert_eq!(Record::read(&mut Reader(&out)), Ok(Some(Record::Purged { queue: 7 })));
}
