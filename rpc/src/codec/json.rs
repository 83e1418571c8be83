//! JSON, behind the same limit on depth: the parser's own counts brackets only, and a type that recurs through newtypes or
//! options recurs without any.

use serde::de::DeserializeOwned;

use super::depth::Depth;

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = T::deserialize(Depth::new(&mut deserializer, body.len()))?;
    deserializer.end()?;
    Ok(value)
}
