//! The rules for nodes that join in the old way, in its words. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::record::{Joined, Record};

/// The service whose instances are shown among the nodes, and the keys of their metadata: what `ms mq-node` writes.
pub(crate) const SERVICE: &str = "mq";
const NODE_ID: &str = "mq.node";
const HTTP: &str = "mq.http";
/// Address of a server that takes TLS alone, over HTTP too.
const TLS: &str = "ms.tls";

/// How often a node may miss a probe in a row.
pub(crate) const MISSES: u8 = 3;

/// A node as it is listed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Shown {
    pub(crate) id: u64,
    pub(crate) http_addr: String,
    pub(crate) http_tls: bool,
    pub(crate) tcp_addr: String,
    pub(crate) tcp_tls: bool,
    pub(crate) join_time: String,
    pub(crate) weight: u32,
}

impl Shown {
    pub(crate) fn joined(node: &Joined) -> Self {
        Self {
            id: node.id.into(),
            http_addr: node.http_addr.clone(),
            http_tls: false,
            tcp_addr: node.tcp_addr.clone(),
            tcp_tls: false,
            join_time: crate::clock::date(node.since),
            weight: node.weight,
        }
    }

    /// A registered instance. Old weights are whole numbers: what is above 0 stays so.
    pub(crate) fn numbered(
        id: u64,
        tcp_addr: String,
        weight: f64,
        metadata: &BTreeMap<String, String>,
        join_time: String,
    ) -> Self {
        let weight = if weight > 0.0 { weight.round().max(1.0) } else { 0.0 };
        let http_addr = metadata.get(HTTP).cloned().unwrap_or_default();
        let tls = metadata.get(TLS).is_some_and(|tls| tls == "required");
        Self { id, http_addr, http_tls: tls, tcp_addr, tcp_tls: tls, join_time, weight: weight as u32 }
    }
}

/// The number that an instance says it has.
pub(crate) fn number(metadata: &BTreeMap<String, String>) -> Option<u64> {
    metadata.get(NODE_ID)?.parse().ok()
}

/// Why a node may not join: another one has its number or one of its addresses, which are [`normal`].
pub(crate) fn taken<'a>(
    new: &Joined,
    joined: impl IntoIterator<Item = &'a Joined>,
    registered: impl IntoIterator<Item = &'a Record>,
) -> Option<String> {
    let by_id = || format!("node.Id {} has exist", new.id);
    let by_tcp = || format!("node.tcpAddr {} has exist", new.tcp_addr);
    let by_http = || format!("node.httpAddr {} has exist", new.http_addr);
    for node in joined {
        if node.id == new.id {
            return Some(by_id());
        }
        if normal(&node.tcp_addr) == new.tcp_addr {
            return Some(by_tcp());
        }
        if !new.http_addr.is_empty() && normal(&node.http_addr) == new.http_addr {
            return Some(by_http());
        }
    }
    for record in registered {
        if number(&record.metadata) == Some(new.id.into()) {
            return Some(by_id());
        }
        if normal(&address(record)) == new.tcp_addr {
            return Some(by_tcp());
        }
        if !new.http_addr.is_empty() && record.metadata.get(HTTP).is_some_and(|http| normal(http) == new.http_addr) {
            return Some(by_http());
        }
    }
    None
}

/// The one spelling of an address that is compared and kept: an IP address in its canonical form, a host name in lower case without
/// the root's dot, the port as a number. Texts that are no address stay as they are.
pub(crate) fn normal(address: &str) -> String {
    let address = address.trim();
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return SocketAddr::new(socket.ip().to_canonical(), socket.port()).to_string();
    }
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts {
        Some((host, port)) => format!("{}:{port}", host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// Where an instance is dialled.
pub(crate) fn address(record: &Record) -> String {
    ms_register::Instance::new(&record.host, record.port).address()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (given, kept) in [
            ("127.0.0.1:9503", "127.0.0.1:9503"),
            (" 127.0.0.1:09503 ", "127.0.0.1:9503"),
            ("[::ffff:127.0.0.1]:9503", "127.0.0.1:9503"),
            ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
            ("Node.Example.:080", "node.example:80"),
            ("nobody", "nobody"),
            ("h:99999", "h:99999"),
            ("", ""),
        ] {
            assert_eq!(normal(given), kept, "{given}");
        }
    }
}
