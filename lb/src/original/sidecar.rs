//! `http-loadbalance-client.cfg`, and the words of the sidecar's requests and answers.

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    algorithm::Algorithm,
    file::ValueError,
    parts::{Conn, Layout, NodeData, OwnEntry},
};

/// File of their sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SidecarFile {
    /// Where it listens.
    pub net: Net,
    /// Path that begins. Their file writes this key in another manner than the others.
    #[serde(rename = "StartRule")]
    pub start_rule: Route,
    /// Path that names a load balancer.
    pub get_connect_proto: Route,
    /// Path that registers the service.
    pub register_service_proto: Route,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Begins with a slash.
    pub url: String,
}

impl SidecarFile {
    /// Content of a file that was missing.
    pub fn defaults() -> Self {
        let route = |url: &str| Route { url: url.to_owned() };
        Self {
            net: Net { host: "localhost".to_owned(), port: 15_000 },
            start_rule: route("/server/init"),
            get_connect_proto: route("/connect/loadbalance"),
            register_service_proto: route("/service/register"),
        }
    }

    /// Checks the paths.
    ///
    /// # Errors
    /// A path that is none, and two that are one.
    pub fn check(&self) -> Result<(), ValueError> {
        let paths = [
            ("StartRule", &self.start_rule.url),
            ("get-connect-proto", &self.get_connect_proto.url),
            ("register-service-proto", &self.register_service_proto.url),
        ];
        for (index, (key, path)) in paths.iter().enumerate() {
            if !path.starts_with('/') || path.contains(['{', '}', '*', '?', '#']) {
                return Err(ValueError(format!("{key}.url: {path:?} is no path")));
            }
            if paths[..index].iter().any(|(_, other)| other == path) {
                return Err(ValueError(format!("{key}.url: {path} is taken already")));
            }
        }
        Ok(())
    }
}

/// Body of `/server/init`. Keys that are not known are passed over, as theirs does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct StartRequest {
    pub(crate) dispersed_info: DispersedInfo,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct DispersedInfo {
    pub(crate) http_loadbalance_info: BalancerInfo,
    pub(crate) service_info: ServiceInfo,
}

/// Load balancers to choose from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct BalancerInfo {
    pub(crate) path_prefix: String,
    pub(crate) normal_node_algorithm: Algorithm,
    /// Their HTTP client has the key of the MQTT client here.
    #[serde(rename = "mqtt-loadbalance-servername", alias = "http-loadbalance-servername")]
    pub(crate) server_name: String,
    #[serde(deserialize_with = "none_is_empty")]
    pub(crate) conns: Vec<Conn>,
}

/// The service beside the sidecar.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct ServiceInfo {
    pub(crate) path_prefix: String,
    pub(crate) server_name: String,
    pub(crate) server_uniquecode: String,
    pub(crate) weight: u32,
    pub(crate) host: String,
    pub(crate) port: u16,
    #[serde(deserialize_with = "none_is_empty")]
    pub(crate) service_discovery_conns: Vec<Conn>,
}

impl BalancerInfo {
    /// URL of the registry of the load balancers.
    pub(crate) fn url(&self) -> Result<String, ValueError> {
        Layout::OwnAddresses.url("http-loadbalance-info", &self.conns, &self.path_prefix)
    }
}

impl ServiceInfo {
    /// The service's entry.
    pub(crate) fn entry(&self) -> OwnEntry {
        OwnEntry {
            path_prefix: self.path_prefix.clone(),
            server_mode: Default::default(),
            server_name: self.server_name.clone(),
            nodedata: NodeData {
                host: self.host.clone(),
                port: self.port,
                user_name: String::new(),
                user_pwd: String::new(),
                server_uniquecode: self.server_uniquecode.clone(),
            },
            // Theirs writes the 0 of a request that leaves it out, with which no instance would ever be called.
            weight: self.weight.max(1),
            conns: self.service_discovery_conns.clone(),
        }
    }
}

/// Go writes an empty list as `null`.
fn none_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Conn>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Answer to `/server/init` and `/service/register`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Answer {
    pub(crate) error: u16,
    pub(crate) error_string: &'static str,
}

/// Answer to `/connect/loadbalance`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ConnectAnswer {
    pub(crate) load_balance_info: BalancerNet,
    #[serde(flatten)]
    pub(crate) answer: Answer,
}

/// A load balancer.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct BalancerNet {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user_name: String,
    pub(crate) user_pwd: String,
    pub(crate) server_uniquecode: String,
}
