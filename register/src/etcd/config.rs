use std::{fmt, time::Duration};

use crate::{RegisterError, background::Facts, url::RegistryUrl};

/// How to reach etcd, and where the instances are kept in it.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members' client addresses, `host:port`. At least one; each call uses one that answers. None by default.
    pub endpoints: Vec<String>,
    /// What the keys begin with: `<prefix>/<service>/<id>`. Default `ms-rpc`. Processes that are to find each other
    /// use the same; slashes at its ends do not count.
    pub prefix: String,
    /// How long an instance stays listed after its process died or was cut off. Default 10 s; at least 2 s, rounded up
    /// to whole seconds. It is renewed every third of it: a short one costs traffic and does not survive a short
    /// stall, a long one keeps the dead listed.
    pub ttl: Duration,
    /// Bounds each call to etcd, the first connection included. Default 3 s; above 0.
    pub timeout: Duration,
    /// The user to log in as; none by default. Given together with `password`.
    pub username: Option<String>,
    /// That user's password. It is never printed.
    pub password: Option<String>,
}

impl EtcdConfig {
    /// The prefix when none is given.
    pub const DEFAULT_PREFIX: &str = "ms-rpc";

    /// These endpoints, and defaults for the rest.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["ttl", "timeout", "username", "password"])?;
        let mut config = Self::new(url.instances()?.iter().map(crate::Instance::address));
        if !url.path.is_empty() {
            config.prefix.clone_from(&url.path);
        }
        config.ttl = url.seconds("ttl")?.unwrap_or(config.ttl);
        config.timeout = url.seconds("timeout")?.unwrap_or(config.timeout);
        config.username = url.get("username").map(str::to_owned);
        config.password = url.get("password").map(str::to_owned);
        config.check()?;
        Ok(config)
    }

    /// The URL that stands for it in messages: without credentials.
    pub(super) fn url(&self) -> String {
        format!("etcd://{}/{}", self.endpoints.join(","), self.prefix.trim_matches('/'))
    }

    pub(super) fn scope(&self) -> String {
        format!("etcd/{}", self.prefix.trim_matches('/'))
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts { url: self.url(), scope: self.scope(), expiry: self.ttl, propagation: super::PROPAGATION }
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let invalid = |reason: &str| Err(RegisterError::InvalidUrl { url: self.url(), reason: reason.to_owned() });
        if self.endpoints.is_empty() {
            return invalid("it names no host: add `host:port`");
        }
        if self.prefix.trim_matches('/').is_empty() {
            return invalid("its prefix is empty: the instances would mix with all other keys");
        }
        if self.ttl < Duration::from_secs(2) || self.ttl > Duration::from_secs(86_400) {
            return invalid("ttl: give 2 seconds to a day");
        }
        if self.timeout.is_zero() {
            return invalid("timeout: give seconds above 0");
        }
        if self.username.is_some() != self.password.is_some() {
            return invalid("give both username and password, or none of them");
        }
        Ok(())
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            ttl: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            username: None,
            password: None,
        }
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<EtcdConfig, RegisterError> {
        EtcdConfig::from_url(&RegistryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_what_it_says_and_defaults_for_the_rest() {
        let config = parse("etcd://a:1,[::1]:2/team/rpc?ttl=30&username=u&password=p").unwrap();
        assert_eq!(config.endpoints, ["a:1", "[::1]:2"]);
        assert_eq!((config.prefix.as_str(), config.ttl), ("team/rpc", Duration::from_secs(30)));
        assert_eq!(config.url(), "etcd://a:1,[::1]:2/team/rpc");
        assert!(!format!("{config:?}").contains("\"p\""));
        assert_eq!(parse("etcd://a:1").unwrap(), EtcdConfig::new(["a:1"]));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("etcd://a:1?ttl=1", "2 seconds"),
            ("etcd://a:1?username=u", "both username and password"),
            ("etcd://a:1?tls=1", "`tls` is not a parameter"),
            ("etcd://", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
