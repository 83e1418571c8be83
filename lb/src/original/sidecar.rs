//! `http-loadbalance-client.cfg`.

use serde::{Deserialize, Serialize};

use super::file::ValueError;

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
