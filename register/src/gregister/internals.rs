use super::stored;
use crate::Instance;

/// The instances of an answer.
///
/// # Errors
/// Why it is no answer, or what is no instance in it.
pub fn read(body: &[u8]) -> Result<Vec<Instance>, String> {
    let (listing, garbage) = stored::decode(body)?;
    garbage.into_iter().next().map_or(Ok(listing.instances), |(id, reason)| Err(format!("{id}: {reason}")))
}

/// What is sent to list an instance.
pub fn write(instance: &Instance) -> Vec<u8> {
    stored::encode(instance, "lease", std::time::Duration::from_secs(10))
}
