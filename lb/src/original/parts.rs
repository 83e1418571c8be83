//! Parts that their files have in common: servers of ZooKeeper, entries, rules.

use std::fmt;

use ms_register::Instance;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{algorithm::Algorithm, file::ValueError};
use crate::rule::{Choice, Rule};

/// A server of ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Conn {
    /// Host name or address.
    pub server_host: String,
    /// Client port.
    pub server_port: u16,
    /// Name of the connection; it says nothing here.
    #[serde(default)]
    pub service_id: String,
}

/// Address and code of a program. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeData {
    /// Host under which it listens and is listed.
    pub host: String,
    /// Port under which it listens and is listed.
    pub port: u16,
    /// User of a broker; says nothing with HTTP.
    #[serde(default)]
    pub user_name: String,
    /// Password of a broker; says nothing with HTTP.
    #[serde(default)]
    pub user_pwd: String,
    /// Its own code.
    #[serde(default)]
    pub server_uniquecode: String,
}

impl NodeData {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        host_port(&self.host, self.port)
    }
}

impl fmt::Debug for NodeData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user_name, server_uniquecode, .. } = self;
        let mut shown = f.debug_struct("NodeData");
        shown.field("host", host).field("port", port).field("user_name", user_name);
        shown.field("server_uniquecode", server_uniquecode).finish_non_exhaustive()
    }
}

/// Entry of a program in ZooKeeper: `/<path-prefix>/<server-name>/normal..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OwnEntry {
    /// Base of the entry.
    pub path_prefix: String,
    /// `zookeeper`.
    #[serde(default)]
    pub server_mode: Mode,
    /// Service under which it is listed.
    pub server_name: String,
    /// Its address and code.
    pub nodedata: NodeData,
    /// Its weight. Default 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Servers of ZooKeeper.
    pub conns: Vec<Conn>,
}

/// Services that are balanced: `/<path-prefix>/<service>/..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Services {
    /// Base of the services.
    pub path_prefix: String,
    /// `zookeeper`, `zookeeper_http` or `zookeeper_mqtt`.
    #[serde(default)]
    pub server_mode: Mode,
    /// Algorithm of rules that do not ask for the master.
    pub normal_node_algorithm: Algorithm,
    /// Servers of ZooKeeper.
    pub conns: Vec<Conn>,
}

/// The rules, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// First match wins.
    pub rules: Vec<RouterRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RouterRule {
    /// Regular expression, searched for anywhere in path and query, or in the topic.
    pub rule: String,
    /// Service that answers.
    pub server_name: String,
    /// The master alone answers.
    #[serde(default)]
    pub is_master: bool,
}

/// Kind of registry: ZooKeeper, in words of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mode(String);

impl Mode {
    /// The modes that there are.
    const ALL: [&str; 3] = ["zookeeper", "zookeeper_http", "zookeeper_mqtt"];

    pub(crate) fn new(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self::new("zookeeper")
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match Self::ALL.contains(&name.as_str()) {
            true => Ok(Self(name)),
            false => Err(de::Error::custom(format!("{name:?} is none of {}", Self::ALL.join(", ")))),
        }
    }
}

/// Layout of their services in ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each server has an address of its own.
    OwnAddresses,
    /// Servers behind a broker: they share its address, and are told apart by their codes.
    Broker,
}

impl Layout {
    fn layout(self) -> &'static str {
        match self {
            Self::OwnAddresses => "master-normal",
            Self::Broker => "master-normal-broker",
        }
    }

    /// URL of the registry. `at` is the key that the connections stand under.
    pub(crate) fn url(self, at: &str, conns: &[Conn], prefix: &str) -> Result<String, ValueError> {
        let prefix = prefix.trim_matches('/');
        if conns.is_empty() {
            return Err(ValueError(format!("{at}.conns: it is empty: name a server of ZooKeeper")));
        }
        if prefix.is_empty() || prefix.contains(['?', '#', '%']) {
            return Err(ValueError(format!("{at}.path-prefix: {prefix:?} is no path in ZooKeeper")));
        }
        if let Some(index) = conns.iter().position(|conn| !is_host(&conn.server_host) || conn.server_port == 0) {
            let Conn { server_host, server_port, .. } = &conns[index];
            return Err(ValueError(format!("{at}.conns[{index}]: {server_host:?} and {server_port} are no address")));
        }
        let servers: Vec<_> = conns.iter().map(|conn| host_port(&conn.server_host, conn.server_port)).collect();
        Ok(format!("zookeeper://{}/{prefix}?layout={}", servers.join(","), self.layout()))
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A name or an address without brackets.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
}

impl OwnEntry {
    /// URL of the registry of the entry.
    ///
    /// # Errors
    /// No server, or a prefix that is no path.
    pub fn url(&self, at: &str) -> Result<String, ValueError> {
        Layout::OwnAddresses.url(at, &self.conns, &self.path_prefix)
    }

    /// The entry itself.
    ///
    /// # Errors
    /// A host that is none, and port 0.
    pub fn instance(&self, at: &str) -> Result<Instance, ValueError> {
        let node = &self.nodedata;
        if !is_host(&node.host) {
            return Err(ValueError(format!("{at}.nodedata.host: {:?} is no host", node.host)));
        }
        if node.port == 0 {
            return Err(ValueError(format!("{at}.nodedata.port: give one above 0")));
        }
        let instance = Instance::new(&node.host, node.port).with_weight(f64::from(self.weight));
        Ok(if node.server_uniquecode.is_empty() { instance } else { instance.with_id(&node.server_uniquecode) })
    }
}

impl Rules {
    /// The rules, with the algorithm of those that do not ask for the master.
    ///
    /// # Errors
    /// A rule that cannot be used; the error names it.
    pub fn compiled(&self, algorithm: &Algorithm) -> Result<Vec<Rule>, ValueError> {
        let rule = |(index, rule): (usize, &RouterRule)| {
            let (balancing, key) = algorithm.balancing();
            let choice = if rule.is_master { Choice::Master } else { Choice::Balanced(balancing, key) };
            Rule::new(&rule.rule, &rule.server_name, choice)
                .map_err(|error| ValueError(format!("router-rule.rules[{index}]: {error}")))
        };
        self.rules.iter().enumerate().map(rule).collect()
    }
}

/// The entry of their defaults: ZooKeeper on this machine.
pub(crate) fn default_conns() -> Vec<Conn> {
    vec![Conn { server_host: "localhost".to_owned(), server_port: 2181, service_id: "server_1".to_owned() }]
}

pub(crate) fn default_rules() -> Rules {
    Rules { rules: vec![RouterRule { rule: ".*".to_owned(), server_name: "test".to_owned(), is_master: false }] }
}

/// An entry with a new code.
pub(crate) fn default_entry(server_name: &str, port: u16) -> OwnEntry {
    OwnEntry {
        path_prefix: "micro-service".to_owned(),
        server_mode: Mode::default(),
        server_name: server_name.to_owned(),
        nodedata: NodeData {
            host: "localhost".to_owned(),
            port,
            user_name: String::new(),
            user_pwd: String::new(),
            server_uniquecode: uuid::Uuid::new_v4().to_string(),
        },
        weight: 1,
        conns: default_conns(),
    }
}

pub(crate) fn default_services(path_prefix: &str, mode: &'static str) -> Services {
    Services {
        path_prefix: path_prefix.to_owned(),
        server_mode: Mode::new(mode),
        normal_node_algorithm: Algorithm::default(),
        conns: default_conns(),
    }
}

fn one() -> u32 {
    1
}
