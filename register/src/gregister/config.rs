use std::{fmt, time::Duration};

use crate::{RegisterError, background::Facts, url::RegistryUrl};

/// A node is one namespace.
pub(super) const SCOPE: &str = "gregister";

/// How to reach a gregister node.
#[derive(Clone, PartialEq, Eq)]
pub struct GregisterConfig {
    /// The node's address, `host:port`. Empty by default, which is refused.
    pub address: String,
    /// How long an instance stays listed after its process died or was cut off. Default 10 s; 2 s to a day. It is renewed
    /// every third of it: a short one costs traffic and does not survive a short stall, a long one keeps the dead listed. So long,
    /// or for as long as the node allows candidates, a master leads whose process died.
    pub ttl: Duration,
    /// Bounds each request, but for the time that the node holds an answer back as it was asked to. Default 3 s; above 0.
    pub timeout: Duration,
    /// The word that the node wants to hear; none by default. It is never printed.
    pub token: Option<String>,
}

impl GregisterConfig {
    /// This address, and defaults for the rest.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["ttl", "timeout", "token"])?;
        let instances = url.instances()?;
        let [node] = &instances[..] else {
            return Err(url.invalid("it names several hosts: a gregister node stands alone"));
        };
        if !url.path.is_empty() {
            return Err(url.invalid("it has a path: a gregister node is one namespace"));
        }
        let mut config = Self::new(node.address());
        config.ttl = url.seconds("ttl")?.unwrap_or(config.ttl);
        config.timeout = url.seconds("timeout")?.unwrap_or(config.timeout);
        config.token = url.get("token").map(str::to_owned);
        config.check()?;
        Ok(config)
    }

    /// The URL that stands for it in messages: without the token.
    pub(super) fn url(&self) -> String {
        format!("gregister://{}", self.address)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts { url: self.url(), scope: SCOPE.to_owned(), expiry: self.ttl, propagation: super::PROPAGATION }
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let invalid = |reason: &str| Err(RegisterError::InvalidUrl { url: self.url(), reason: reason.to_owned() });
        if self.address.is_empty() {
            return invalid("it names no host: add `host:port`");
        }
        if self.ttl < Duration::from_secs(2) || self.ttl > Duration::from_secs(86_400) {
            return invalid("ttl: give 2 seconds to a day");
        }
        if self.timeout.is_zero() {
            return invalid("timeout: give seconds above 0");
        }
        if self.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| (b'!'..=b'~').contains(&byte))) {
            return invalid("token: give letters, digits and signs of ASCII, without spaces");
        }
        Ok(())
    }
}

impl Default for GregisterConfig {
    fn default() -> Self {
        Self { address: String::new(), ttl: Duration::from_secs(10), timeout: Duration::from_secs(3), token: None }
    }
}

impl fmt::Debug for GregisterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GregisterConfig")
            .field("address", &self.address)
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<GregisterConfig, RegisterError> {
        GregisterConfig::from_url(&RegistryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_what_it_says_and_defaults_for_the_rest() {
        let config = parse("gregister://[::1]:9595?ttl=30&timeout=1&token=secret-1").unwrap();
        assert_eq!((config.address.as_str(), config.ttl), ("[::1]:9595", Duration::from_secs(30)));
        assert_eq!(config.url(), "gregister://[::1]:9595");
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(parse("gregister://h:9595").unwrap(), GregisterConfig::new("h:9595"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("gregister://", "names no host"),
            ("gregister://a:1,b:2", "several hosts"),
            ("gregister://a:1/team", "has a path"),
            ("gregister://a:1?ttl=1", "2 seconds"),
            ("gregister://a:1?prefix=x", "`prefix` is not a parameter"),
            ("gregister://a:1?token=a%20b", "without spaces"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
