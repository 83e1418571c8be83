use super::stored::{self, Stored};
use crate::Instance;

/// What a key holds; `None`: a marker of a deletion.
///
/// # Errors
/// Why it is no instance.
pub fn read(directory: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, String> {
    Ok(match stored::decode(directory, key, value)? {
        Stored::Instance(instance) => Some(instance),
        Stored::Deleted => None,
    })
}

/// The value of an instance's key.
pub fn write(instance: &Instance) -> Vec<u8> {
    stored::encode(instance)
}
