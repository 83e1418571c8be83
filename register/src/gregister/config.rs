use std::time::Duration;

use crate::{
    About, RegisterError, Secret, TlsFiles,
    url::{RegistryUrl, Rules},
};

/// Address of a gregister node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    pub token: Option<Secret>,
    /// TLS to the node; plaintext by default.
    pub tls: Option<TlsFiles>,
}

impl GregisterConfig {
    /// A configuration of this address, with defaults for the rest.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&[&["ttl", "timeout", "token"], &TlsFiles::KEYS[..]].concat())?;
        let instances = url.instances()?;
        let [node] = &instances[..] else {
            return Err(url.invalid("it names several hosts: a gregister node stands alone"));
        };
        if !url.path.is_empty() {
            return Err(url.invalid("it has a path: a gregister node is one namespace"));
        }
        let default = Self::default();
        let config = Self {
            address: node.address(),
            ttl: url.seconds("ttl", default.ttl)?,
            timeout: url.seconds("timeout", default.timeout)?,
            token: url.get("token").map(Secret::from),
            tls: TlsFiles::from_url(url)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Without the token. A node is one namespace.
    pub(crate) fn about(&self) -> About {
        About::new(format!("gregister://{}", self.address))
            .with_scope("gregister")
            .with_expiry(self.ttl)
            .with_propagation(super::PROPAGATION)
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let (about, expiry) = (&self.about(), Some(("ttl", self.ttl, 2)));
        let is_printable = |token: &Secret| token.expose().bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        if !self.token.as_ref().is_none_or(is_printable) {
            return Err(about.invalid("token: give letters, digits and signs of ASCII, without spaces"));
        }
        let hosts = if self.address.is_empty() { &[][..] } else { std::slice::from_ref(&self.address) };
        Rules { about, hosts, timeout: self.timeout, expiry }.check()
    }
}

impl Default for GregisterConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            ttl: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            token: None,
            tls: None,
        }
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
        assert_eq!(config.about().url(), "gregister://[::1]:9595");
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
            ("gregister://a:1?tls=1", "needs ca=FILE"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
