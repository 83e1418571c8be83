//! Their files: read verbatim, or written with defaults where they are missing.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A file's content, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// The file was there.
    Read(T),
    /// The file was missing: it has been written with this.
    Written(T),
}

impl<T> Found<T> {
    /// The content.
    pub fn content(self) -> T {
        match self {
            Self::Read(content) | Self::Written(content) => content,
        }
    }
}

/// A file that cannot be used; the text names the file and the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FileError(String);

/// Values of a file that cannot work together; the text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

/// Reads a file of JSON. A missing one is written with `default`.
///
/// # Errors
/// The file cannot be read or written; text that is no JSON; a key that is not known, a value of another kind. The error names the key.
pub fn read_or_write<T: DeserializeOwned + Serialize>(
    path: &Path,
    default: impl FnOnce() -> T,
) -> Result<Found<T>, FileError> {
    let failure = |error: io::Error| FileError(format!("{}: {error}", path.display()));
    match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(LARGEST).read_to_string(&mut text).map_err(failure)?;
            let content = parse(&text).map_err(|reason| FileError(format!("{}: {reason}", path.display())))?;
            Ok(Found::Read(content))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let content = default();
            let text = written(&content).map_err(|error| failure(io::Error::other(error)))?;
            // Another process may have written it meanwhile: that one stays.
            let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failure)?;
            file.write_all(text.as_bytes()).map_err(failure)?;
            Ok(Found::Written(content))
        }
        Err(error) => Err(failure(error)),
    }
}

/// Parses JSON; the error names the key.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let content = serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().to_string() {
        path if path == "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(content)
}

/// JSON with tabs, as their programs write it.
fn written<T: Serialize>(content: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    content.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, form))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
