//! The file of `--config`.

use std::{error::Error, path::Path};

use serde::de::DeserializeOwned;

/// Reads a TOML file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("config: {}: {error}", path.display()))?;
    Ok(toml::from_str(&text).map_err(|error| format!("config: {}: {error}", path.display()))?)
}
