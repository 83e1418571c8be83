//! The TOML form: any registry, any balancer. Pure.

use std::{net::SocketAddr, time::Duration};

use axum::http::HeaderName;
use ms_register::Instance;
use ms_rpc::{Balancing, EjectionConfig};
use serde::Deserialize;

use crate::{
    proxy::ProxyConfig,
    rule::{Choice, KeySource, Rule},
};

/// An HTTP load balancer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Address to listen on. Default 127.0.0.1:30000.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// URL of the registry of the services.
    pub registry: String,
    /// Balancer of rules that name none. Default `p2c`.
    #[serde(default)]
    balancer: Option<String>,
    /// Time within which a back end is connected, in milliseconds. Default 1,000; 1 to 60,000.
    #[serde(default)]
    connect_timeout_ms: Option<u64>,
    /// Longest silence of a back end, in milliseconds: before its answer begins, and between two parts of one. Default 60,000; 1 ms to
    /// a day.
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// Longest silence of both sides of an upgraded connection, in milliseconds. Default 600,000; 1 ms to a day.
    #[serde(default)]
    tunnel_timeout_ms: Option<u64>,
    /// Calls without an answer, in a row, after which a back end is left out for a while. Default 5; at least 1.
    #[serde(default)]
    eject_after: Option<u32>,
    /// Entry of the balancer itself; none by default.
    #[serde(default)]
    pub register: Option<OwnEntry>,
    /// The rules: the first match wins.
    #[serde(default, rename = "rule")]
    rules: Vec<RuleSettings>,
}

/// Entry of a load balancer in a registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OwnEntry {
    /// URL of the registry. Default: that of the services.
    #[serde(default)]
    pub registry: Option<String>,
    /// Service under which it is listed.
    pub service: String,
    /// Address under which clients reach it, as HOST:PORT. Default: where it listens.
    #[serde(default)]
    advertise: Option<String>,
    /// Its id. Default: the address.
    #[serde(default)]
    id: Option<String>,
    /// Its weight. Default 1.
    #[serde(default)]
    weight: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleSettings {
    #[serde(rename = "match")]
    pattern: String,
    service: String,
    #[serde(default)]
    master: bool,
    #[serde(default)]
    balancer: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    address_from: Option<String>,
}

/// Settings that cannot work; the text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

const DAY: u64 = 24 * 60 * 60 * 1_000;

impl Settings {
    /// Parses TOML.
    ///
    /// # Errors
    /// Text that is no TOML, a key that is not known, a value of another kind or out of its range; the error names the key.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let parsed = toml::Deserializer::parse(text).map_err(|error| SettingsError(error.to_string()))?;
        let settings: Self = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let (path, inner) = (error.path().to_string(), error.inner().message());
            SettingsError(if path == "." { inner.to_owned() } else { format!("{path}: {inner}") })
        })?;
        if settings.rules.is_empty() {
            return Err(SettingsError("rule: there is none: give at least one [[rule]]".to_owned()));
        }
        settings.rules()?;
        settings.proxy()?;
        settings.ejection()?;
        Ok(settings)
    }

    /// The rules in their order.
    ///
    /// # Errors
    /// A rule that cannot be used.
    pub fn rules(&self) -> Result<Vec<Rule>, SettingsError> {
        let default = self.balancer.as_deref().unwrap_or("p2c");
        let rules = self.rules.iter().enumerate();
        let compiled = rules.map(|(index, rule)| {
            rule.compiled(default).map_err(|reason| SettingsError(format!("rule[{index}].{reason}")))
        });
        compiled.collect()
    }

    /// Times of the proxy.
    ///
    /// # Errors
    /// A time out of its range.
    pub fn proxy(&self) -> Result<ProxyConfig, SettingsError> {
        let time = |key: &str, value: Option<u64>, most: u64, default: Duration| match value {
            None => Ok(default),
            Some(millis) if (1..=most).contains(&millis) => Ok(Duration::from_millis(millis)),
            Some(millis) => Err(SettingsError(format!("{key}: {millis} is not one of 1 to {most}"))),
        };
        let default = ProxyConfig::default();
        Ok(ProxyConfig {
            connect: time("connect-timeout-ms", self.connect_timeout_ms, 60_000, default.connect)?,
            silence: time("timeout-ms", self.timeout_ms, DAY, default.silence)?,
            tunnel: time("tunnel-timeout-ms", self.tunnel_timeout_ms, DAY, default.tunnel)?,
            ..default
        })
    }

    /// Ejection of back ends that do not answer.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn ejection(&self) -> Result<EjectionConfig, SettingsError> {
        let mut ejection = EjectionConfig::default();
        if let Some(failures) = self.eject_after {
            ejection.consecutive_failures = failures;
        }
        ejection.check().map_err(|error| SettingsError(format!("eject-after: {error}")))?;
        Ok(ejection)
    }
}

impl RuleSettings {
    /// The reason for an error begins with the key.
    fn compiled(&self, default: &str) -> Result<Rule, String> {
        let rule = Rule::new(&self.pattern, &self.service, self.choice(default)?);
        Ok(rule.map_err(|error| format!("match: {error}"))?.address_from(self.address_from.clone()))
    }

    fn choice(&self, default: &str) -> Result<Choice, String> {
        if self.master {
            return match (&self.balancer, &self.key) {
                (None, None) => Ok(Choice::Master),
                _ => Err("master: a rule for the master has no balancer and no key".to_owned()),
            };
        }
        let name = self.balancer.as_deref().unwrap_or(default);
        let balancing: Balancing = name.parse().map_err(|error| format!("balancer: {error}"))?;
        let key = match self.key.as_deref() {
            None => KeySource::of(name),
            Some("client") => KeySource::Client,
            Some("url") => KeySource::Url,
            Some(key) => match key.strip_prefix("header:").map(str::parse::<HeaderName>) {
                Some(Ok(name)) => KeySource::Header(name),
                _ => return Err(format!("key: {key:?} is none of client, url, header:NAME")),
            },
        };
        Ok(Choice::Balanced(balancing, key))
    }
}

impl OwnEntry {
    /// The entry of a balancer that listens on this address.
    ///
    /// # Errors
    /// An address that is none, and a weight that is none.
    pub fn instance(&self, listening: SocketAddr) -> Result<Instance, SettingsError> {
        let mut instance = match &self.advertise {
            Some(address) => Instance::from_address(address)
                .map_err(|error| SettingsError(format!("register.advertise: {error}")))?,
            None if listening.ip().is_unspecified() => {
                let text =
                    format!("register.advertise: nobody can call {listening}: give an address that clients reach");
                return Err(SettingsError(text));
            }
            None => Instance::new(listening.ip().to_string(), listening.port()),
        };
        if let Some(id) = &self.id {
            instance = instance.with_id(id);
        }
        match self.weight {
            Some(weight) if !weight.is_finite() || weight <= 0.0 => {
                Err(SettingsError(format!("register.weight: {weight} is no number above 0")))
            }
            Some(weight) => Ok(instance.with_weight(weight)),
            None => Ok(instance),
        }
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 30_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "registry = 'memory://'\n[[rule]]\nmatch = '^/'\nservice = 'goods'\n";

    #[test]
    fn a_file_gives_what_it_says_and_defaults_for_the_rest() {
        let settings = Settings::parse(RULE).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:30000");
        assert_eq!(settings.rules().unwrap()[0].choice, Choice::Balanced("p2c".parse().unwrap(), KeySource::None));
        assert_eq!(settings.proxy().unwrap(), ProxyConfig::default());
        let text = "listen = '[::1]:80'\nregistry = 'etcd://h:1'\nbalancer = 'key-hash'\ntimeout-ms = 5\n\
            [register]\nservice = 'front'\nadvertise = 'front.example:80'\nweight = 2\n\
            [[rule]]\nmatch = '/a'\nservice = 'a'\nmaster = true\n\
            [[rule]]\nmatch = '/b'\nservice = 'b'\nbalancer = 'consistent-hash'\nkey = 'header:x-user'\naddress-from = 'mq.http'\n\
            [[rule]]\nmatch = '/c'\nservice = 'c'\n";
        let settings = Settings::parse(text).unwrap();
        let rules = settings.rules().unwrap();
        assert_eq!(rules[0].choice, Choice::Master);
        let header = KeySource::Header(HeaderName::from_static("x-user"));
        assert_eq!(rules[1].choice, Choice::Balanced("consistent-hash".parse().unwrap(), header));
        assert_eq!(rules[1].address_from.as_deref(), Some("mq.http"));
        assert_eq!(rules[2].choice, Choice::Balanced("key-hash".parse().unwrap(), KeySource::Url));
        assert_eq!(settings.proxy().unwrap().silence, Duration::from_millis(5));
        let instance = settings.register.unwrap().instance(settings.listen).unwrap();
        assert_eq!((instance.address().as_str(), instance.weight()), ("front.example:80", 2.0));
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        for (text, reason) in [
            ("registry = 'memory://'", "rule: there is none"),
            ("registry = 'memory://'\nport = 1", "unknown field `port`"),
            (&format!("listen = 'here'\n{RULE}"), "listen: "),
            (&format!("timeout-ms = 0\n{RULE}"), "timeout-ms: 0 is not one of 1 to"),
            (&format!("timeout-ms = 'x'\n{RULE}"), "timeout-ms: invalid type"),
            (&format!("eject-after = 0\n{RULE}"), "eject-after: "),
            (&format!("{RULE}balancer = 'best'"), "rule[0].balancer: "),
            (&format!("{RULE}key = 'cookie'"), "rule[0].key: \"cookie\" is none of"),
            (&format!("{RULE}master = true\nkey = 'url'"), "rule[0].master: "),
            (&format!("{RULE}weight = 1"), "unknown field `weight`"),
            (&RULE.replace("^/", "("), "rule[0].match: "),
            (&RULE.replace("goods", "a/b"), "rule[0].match: "),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
