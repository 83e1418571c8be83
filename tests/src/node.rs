//! A server process: the program that it runs, and the hold that a scenario has on it.

mod process;
mod serve;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use process::{Node, NodeProgram};
pub use serve::run;

/// What a node serves, and how. It travels to the process as one argument, in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeOptions {
    /// Where it listens: one server for each address, all of one registry client. Empty: one free port.
    pub addresses: Vec<SocketAddr>,
    /// The URL of the registry in which it lists itself; none by default.
    pub registry: Option<String>,
    /// Whether it starts without the registry if that is down. Default false.
    pub in_background: bool,
    /// The name under which it serves [`Shop`](crate::Shop). Default `shop`.
    pub service: String,
    /// The file in which it notes the executions of `reserve`; none by default.
    pub ledger: Option<PathBuf>,
    /// How long `find` and `reserve` take; zero by default.
    pub pause: Duration,
    /// How many calls may be in flight on all connections together; the framework's default if none.
    pub permits: Option<usize>,
    /// How many files and sockets it may have open; as many as the system lets it have if none.
    pub max_files: Option<u64>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            registry: None,
            in_background: false,
            service: "shop".to_owned(),
            ledger: None,
            pause: Duration::ZERO,
            permits: None,
            max_files: None,
        }
    }
}
