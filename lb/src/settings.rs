//! The TOML form: any registry, any balancer. Pure.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use axum::http::HeaderName;
use ms_register::Instance;
use ms_rpc::{Balancing, EjectionConfig};
use serde::Deserialize;

use crate::{
    proxy::ProxyConfig,
    rule::{Choice, KeySource, Rule},
};

/// An HTTP load balancer, of a file whose values are all checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// URL of the registry of the services.
    pub registry: String,
    /// Entry of the balancer itself; none by default.
    pub register: Option<OwnEntry>,
    /// The rules, at least one: the first match wins.
    pub rules: Vec<Rule>,
    /// Times of the proxy.
    pub proxy: ProxyConfig,
    /// Ejection of back ends that do not answer.
    pub ejection: EjectionConfig,
}

/// Entry of a load balancer in a registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OwnEntry {
    /// URL of the registry. Default: that of the services.
    pub registry: Option<String>,
    /// Service under which it is listed.
    pub service: String,
    /// Address under which clients reach it, as HOST:PORT. Default: where it listens.
    advertise: Option<String>,
    /// Its id. Default: the address.
    id: Option<String>,
    /// Its weight. Default 1.
    weight: Option<f64>,
}

/// The keys of the file, as `docs/load-balancer.md` describes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default = "listen")]
    listen: SocketAddr,
    registry: String,
    #[serde(default = "balancer")]
    balancer: String,
    connect_timeout_ms: Option<u64>,
    timeout_ms: Option<u64>,
    tunnel_timeout_ms: Option<u64>,
    eject_after: Option<u32>,
    register: Option<OwnEntry>,
    #[serde(default, rename = "rule")]
    rules: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRule {
    #[serde(rename = "match")]
    pattern: String,
    service: String,
    #[serde(default)]
    master: bool,
    balancer: Option<String>,
    key: Option<String>,
    address_from: Option<String>,
}

/// Settings that cannot work; the text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 30_000))
}

fn balancer() -> String {
    "p2c".to_owned()
}

/// Makes an error about this key.
fn about<E: Display>(key: &str) -> impl Fn(E) -> SettingsError {
    move |error| SettingsError(format!("{key}: {error}"))
}

impl Settings {
    /// Parses TOML.
    ///
    /// # Errors
    /// Text that is no TOML, a key that is not known, a value of another kind or out of its range; the error names the key.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let parsed = toml::Deserializer::parse(text).map_err(|error| SettingsError(error.to_string()))?;
        let file: File = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let (path, inner) = (error.path().to_string(), error.inner().message());
            SettingsError(if path == "." { inner.to_owned() } else { format!("{path}: {inner}") })
        })?;
        if file.rules.is_empty() {
            return Err(about("rule")("there is none: give at least one [[rule]]"));
        }
        let rules = file.rules.iter().enumerate().map(|(index, rule)| rule.compiled(index, &file.balancer));
        let rules = rules.collect::<Result<_, _>>()?;
        let mut proxy = ProxyConfig::default();
        for (key, millis, most, time) in [
            ("connect-timeout-ms", file.connect_timeout_ms, 60_000, &mut proxy.connect),
            ("timeout-ms", file.timeout_ms, DAY, &mut proxy.silence),
            ("tunnel-timeout-ms", file.tunnel_timeout_ms, DAY, &mut proxy.tunnel),
        ] {
            let Some(millis) = millis else { continue };
            if !(1..=most).contains(&millis) {
                return Err(about(key)(format!("{millis} is not one of 1 to {most}")));
            }
            *time = Duration::from_millis(millis);
        }
        let mut ejection = EjectionConfig::default();
        if let Some(failures) = file.eject_after {
            ejection.consecutive_failures = failures;
        }
        ejection.check().map_err(about("eject-after"))?;
        Ok(Self { listen: file.listen, registry: file.registry, register: file.register, rules, proxy, ejection })
    }
}

impl FileRule {
    fn compiled(&self, index: usize, default: &str) -> Result<Rule, SettingsError> {
        let key = |key: &str| format!("rule[{index}].{key}");
        let choice = self.choice(default).map_err(|(wrong, reason)| about(&key(wrong))(reason))?;
        let rule = Rule::new(&self.pattern, &self.service, choice).map_err(about(&key("match")))?;
        Ok(rule.address_from(self.address_from.clone()))
    }

    /// An error is a key, and what is wrong with it.
    fn choice(&self, default: &str) -> Result<Choice, (&'static str, String)> {
        if self.master {
            return match (&self.balancer, &self.key) {
                (None, None) => Ok(Choice::Master),
                _ => Err(("master", "a rule for the master has no balancer and no key".to_owned())),
            };
        }
        let name = self.balancer.as_deref().unwrap_or(default);
        let balancing = name.parse::<Balancing>().map_err(|error| ("balancer", error.to_string()))?;
        let key = match self.key.as_deref() {
            None => KeySource::of(name),
            Some("client") => KeySource::Client,
            Some("url") => KeySource::Url,
            Some(key) => match key.strip_prefix("header:").map(str::parse::<HeaderName>) {
                Some(Ok(name)) => KeySource::Header(name),
                _ => return Err(("key", format!("{key:?} is none of client, url, header:NAME"))),
            },
        };
        Ok(Choice::Balanced(balancing, key))
    }
}

impl OwnEntry {
    /// The entry of a balancer that listens on this address.
    ///
    /// # Errors
    /// An address that is none, or that nobody can call, and a weight that is none.
    pub fn instance(&self, listening: SocketAddr) -> Result<Instance, SettingsError> {
        let mut instance = match &self.advertise {
            Some(address) => Instance::from_address(address).map_err(about("register.advertise"))?,
            None if listening.ip().is_unspecified() => {
                let text = format!("nobody can call {listening}: give an address that clients reach");
                return Err(about("register.advertise")(text));
            }
            None => Instance::new(listening.ip().to_string(), listening.port()),
        };
        if let Some(id) = &self.id {
            instance = instance.with_id(id);
        }
        match self.weight {
            Some(weight) if !weight.is_finite() || weight <= 0.0 => {
                Err(about("register.weight")(format!("{weight} is no number above 0")))
            }
            Some(weight) => Ok(instance.with_weight(weight)),
            None => Ok(instance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "registry = 'memory://'\n[[rule]]\nmatch = '^/'\nservice = 'goods'\n";

    #[test]
    fn a_file_gives_what_it_says_and_defaults_for_the_rest() {
        let settings = Settings::parse(RULE).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:30000");
        assert_eq!(settings.rules[0].choice, Choice::Balanced("p2c".parse().unwrap(), KeySource::None));
        assert_eq!(settings.proxy, ProxyConfig::default());
        let text = "listen = '[::1]:80'\nregistry = 'etcd://h:1'\nbalancer = 'key-hash'\ntimeout-ms = 5\n\
            [register]\nservice = 'front'\nadvertise = 'front.example:80'\nweight = 2\n\
            [[rule]]\nmatch = '/a'\nservice = 'a'\nmaster = true\n\
            [[rule]]\nmatch = '/b'\nservice = 'b'\nbalancer = 'consistent-hash'\nkey = 'header:x-user'\naddress-from = 'mq.http'\n\
            [[rule]]\nmatch = '/c'\nservice = 'c'\n";
        let settings = Settings::parse(text).unwrap();
        let rules = &settings.rules;
        assert_eq!(rules[0].choice, Choice::Master);
        let header = KeySource::Header(HeaderName::from_static("x-user"));
        assert_eq!(rules[1].choice, Choice::Balanced("consistent-hash".parse().unwrap(), header));
        assert_eq!(rules[1].address_from.as_deref(), Some("mq.http"));
        assert_eq!(rules[2].choice, Choice::Balanced("key-hash".parse().unwrap(), KeySource::Url));
        assert_eq!(settings.proxy.silence, Duration::from_millis(5));
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
