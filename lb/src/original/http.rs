//! `http-load-balance.cfg`.

use serde::{Deserialize, Serialize};

use super::file::ValueError;
use super::parts::{Layout, OwnEntry, Rules, Services, default_entry, default_rules, default_services};
use crate::rule::Rule;

/// File of their HTTP load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpFile {
    /// The balancer's own entry, and where it listens.
    pub loadbalance_info: OwnEntry,
    /// The services.
    pub service_reg: Services,
    /// The rules.
    pub router_rule: Rules,
}

impl HttpFile {
    /// Content of a file that was missing, with a new code.
    pub fn defaults() -> Self {
        Self {
            loadbalance_info: default_entry("http-nginx", 30_000),
            service_reg: default_services("gateway-service", "zookeeper_http"),
            router_rule: default_rules(),
        }
    }

    /// URL of the registry of the services.
    ///
    /// # Errors
    /// No server, or a prefix that is no path.
    pub fn services_url(&self) -> Result<String, ValueError> {
        Layout::OwnAddresses.url("service-reg", &self.service_reg.conns, &self.service_reg.path_prefix)
    }

    /// The rules.
    ///
    /// # Errors
    /// A rule that cannot be used.
    pub fn rules(&self) -> Result<Vec<Rule>, ValueError> {
        self.router_rule.compiled(&self.service_reg.normal_node_algorithm)
    }
}
