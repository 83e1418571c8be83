//! Files of settings.

use std::{error::Error, path::Path};

use serde::de::DeserializeOwned;

/// Reads a TOML file; `what` is the option that named it.
pub(crate) fn read<T: DeserializeOwned>(what: &str, path: &Path) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{what}: {}: {error}", path.display()))?;
    Ok(toml::from_str(&text).map_err(|error| format!("{what}: {}: {error}", path.display()))?)
}
