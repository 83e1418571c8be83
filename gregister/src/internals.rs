//! Readers of the log, for the fuzzers in `fuzz/`.
//!
//! Unstable: it exists with the feature `internals` alone, follows the code wherever that goes, and is no part of what
//! versions promise. Nothing else may use it.

use std::time::Duration;

use crate::{elections::Elections, record, state::State};

/// The log that a node writes in the place of this one when it starts; `None`: it refuses it. Its lines come without checksums.
pub fn rewritten(texts: &[&[u8]]) -> Option<Vec<u8>> {
    let log: Vec<u8> = texts.iter().flat_map(|text| record::sealed(text)).collect();
    let lines = record::read(&log);
    if lines.fault.is_some() {
        return None;
    }
    let state = State::replay(lines.changes, 1, Elections::new(Duration::from_secs(10), 0));
    let changes = state.as_changes();
    Some(
        changes
            .iter()
            .filter_map(|change| serde_json::to_vec(change).ok())
            .flat_map(|text| [text, vec![b'\n']].concat())
            .collect(),
    )
}
