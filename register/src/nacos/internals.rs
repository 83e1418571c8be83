use super::stored;
use crate::Instance;

/// What Nacos's own JSON of an instance says; `None`: it is out of service.
///
/// # Errors
/// Why it is no instance.
pub fn read(json: &[u8]) -> Result<Option<Instance>, String> {
    stored::decode(&serde_json::from_slice(json).map_err(|error| error.to_string())?)
}

/// The JSON of an instance.
///
/// # Errors
/// What cannot be written.
pub fn write(instance: &Instance) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&stored::encode(instance, "DEFAULT")).map_err(|error| error.to_string())
}
