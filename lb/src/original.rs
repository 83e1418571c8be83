//! Files and words of go-micro-service's programs. Pure, but for the reading of files.

mod algorithm;
mod file;
mod http;
mod mqtt;
mod parts;
pub(crate) mod sidecar;

pub use algorithm::Algorithm;
pub(crate) use file::parse;
pub use file::{FileError, Found, ValueError, read_or_write};
pub use http::HttpFile;
pub use mqtt::{BrokerNet, MqttFile, RecvBrokers};
pub use parts::{Conn, Layout, NodeData, OwnEntry, RouterRule, Rules, Services};
pub use sidecar::SidecarFile;
