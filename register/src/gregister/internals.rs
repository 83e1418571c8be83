use std::time::Duration;

use super::stored;
use crate::{Instance, Master};

/// The instances of an answer.
///
/// # Errors
/// Why it is no answer, or what is no instance in it.
pub fn read(body: &[u8]) -> Result<Vec<Instance>, String> {
    stored::decode(body)?.found.into_iter().map(|found| found.map_err(|skipped| skipped.to_string())).collect()
}

/// Who leads, with the token, as an answer says.
///
/// # Errors
/// Why it is no answer.
pub fn read_lead(body: &[u8]) -> Result<Option<Master>, String> {
    stored::decode_lead(body).map(|lead| lead.master)
}

/// The time that a candidate got, and its token, as an answer says.
///
/// # Errors
/// Why it is no answer.
pub fn read_place(body: &[u8]) -> Result<(Duration, Option<u64>), String> {
    stored::decode_place(body).map(|place| (place.ttl, place.token))
}

/// What is sent to list an instance.
pub fn write(instance: &Instance) -> Vec<u8> {
    stored::encode(instance, "lease", Duration::from_secs(10))
}
