//! `mqtt-load-balance.cfg`.

use serde::{Deserialize, Serialize};

use super::file::ValueError;
use super::parts::{Layout, NodeData, OwnEntry, Rules, Services, default_entry, default_rules, default_services};
use crate::rule::Rule;

/// Broker, with the user to log in as.
pub type BrokerNet = NodeData;

/// File of their MQTT load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MqttFile {
    /// The broker that clients publish to, and the balancer's own code there.
    pub broker_reg: OwnEntry,
    /// The services.
    pub service_reg: Services,
    /// Brokers of the services.
    pub recvbroker_info: RecvBrokers,
    /// The rules.
    pub router_rule: Rules,
}

/// Brokers that services subscribe at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecvBrokers {
    /// One of them is taken for each request.
    pub nets: Vec<BrokerNet>,
}

impl MqttFile {
    /// Content of a file that was missing, with a new code.
    pub fn defaults() -> Self {
        let broker = NodeData {
            host: "localhost".to_owned(),
            port: 1883,
            user_name: String::new(),
            user_pwd: String::new(),
            server_uniquecode: String::new(),
        };
        Self {
            broker_reg: default_entry("mqtt-nginx", 1883),
            service_reg: default_services("face-service", "zookeeper_mqtt"),
            recvbroker_info: RecvBrokers { nets: vec![broker] },
            router_rule: default_rules(),
        }
    }

    /// Checks the codes and the brokers.
    ///
    /// # Errors
    /// No code of its own, one that cannot stand in a topic, no broker.
    pub fn check(&self) -> Result<(), ValueError> {
        let code = &self.broker_reg.nodedata.server_uniquecode;
        if code.is_empty() || code.contains(['/', '+', '#', '\0']) {
            let text = format!("broker-reg.nodedata.server-uniquecode: {code:?} cannot stand in a topic");
            return Err(ValueError(text));
        }
        if self.recvbroker_info.nets.is_empty() {
            return Err(ValueError("recvbroker-info.nets: it is empty: name a broker of the services".to_owned()));
        }
        Ok(())
    }

    /// URL of the registry of the services.
    ///
    /// # Errors
    /// No server, or a prefix that is no path.
    pub fn services_url(&self) -> Result<String, ValueError> {
        Layout::Broker.url("service-reg", &self.service_reg.conns, &self.service_reg.path_prefix)
    }

    /// The rules.
    ///
    /// # Errors
    /// A rule that cannot be used.
    pub fn rules(&self) -> Result<Vec<Rule>, ValueError> {
        self.router_rule.compiled(&self.service_reg.normal_node_algorithm)
    }
}
