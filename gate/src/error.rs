//! Errors of a gate's start and of its configuration.

use std::{io, path::PathBuf};

use ms_register::RegisterError;
use ms_rpc::{ServerError, Status};

/// Configuration that a gate cannot use; the text says which part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The same with the name of the entry.
    pub(crate) fn about(self, name: &str) -> Self {
        if name.is_empty() { self } else { Self(format!("{} (\"{name}\")", self.0)) }
    }
}

impl From<serde_json::Error> for ConfigError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<RegisterError> for ConfigError {
    fn from(error: RegisterError) -> Self {
        Self(error.to_string())
    }
}

/// Reason that a gate does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The port is taken, or the address is not one of this machine.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// A setting is out of its range, or a route cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of routes cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The RPC server does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The client of the back ends cannot be used.
    #[error(transparent)]
    Client(#[from] Status),
    /// Its certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}
