//! Registry URLs. They name several hosts, which the generic URL syntax (RFC 3986) does not: so they have a parser here.

use std::time::Duration;

use crate::{About, Instance, Login, RegisterError};

/// `scheme://[user:password@]host:port,host:port/path?key=value&key=value`, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct RegistryUrl {
    pub(crate) scheme: String,
    pub(crate) hosts: Vec<String>,
    /// Without slashes at its ends.
    pub(crate) path: String,
    query: Vec<(String, String)>,
    /// Scheme, hosts and path: never the query, which may hold a password.
    shown: String,
}

impl RegistryUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, RegisterError> {
        // The query first: a `://` in it begins nothing, and what stands before it is shown.
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let Some((scheme, rest)) = address.split_once("://") else {
            // What may be credentials is left out.
            let shown = address.rsplit_once('@').map_or(address, |(_, rest)| rest);
            return Err(RegisterError::InvalidUrl {
                url: shown.to_owned(),
                reason: "it has no scheme: it begins with `scheme://`, such as `etcd://127.0.0.1:2379`".to_owned(),
            });
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let shown = match path {
            "" => format!("{scheme}://{hosts}"),
            path => format!("{scheme}://{hosts}/{path}"),
        };
        let parsed = Self {
            scheme: scheme.to_owned(),
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect(),
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            shown,
        };
        if hosts.contains('@') {
            let without = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
            return Err(RegisterError::InvalidUrl {
                url: format!("{scheme}://..@{without}"),
                reason: "credentials go into the query: `?username=..&password=..`".to_owned(),
            });
        }
        Ok(parsed)
    }

    /// Each host as `host:port`; at least one is needed.
    pub(crate) fn instances(&self) -> Result<Vec<Instance>, RegisterError> {
        if self.hosts.is_empty() {
            return Err(self.invalid("it names no host: add `host:port`"));
        }
        let parse = |host: &String| {
            Instance::from_address(host).map_err(|_| self.invalid(&format!("{host:?} is not `host:port`")))
        };
        self.hosts.iter().map(parse).collect()
    }

    /// The value of `key`, if given.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of `key` in seconds, or `default`: a number above 0.
    pub(crate) fn seconds(&self, key: &str, default: Duration) -> Result<Duration, RegisterError> {
        let Some(text) = self.get(key) else { return Ok(default) };
        match text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(duration) if !duration.is_zero() => Ok(duration),
            _ => Err(self.invalid(&format!("{key}={text}: give seconds above 0"))),
        }
    }

    /// The addresses of the hosts; at least one is needed.
    pub(crate) fn addresses(&self) -> Result<Vec<String>, RegisterError> {
        Ok(self.instances()?.iter().map(Instance::address).collect())
    }

    /// The value of `key`, or `default`.
    pub(crate) fn text(&self, key: &str, default: String) -> String {
        self.get(key).map_or(default, str::to_owned)
    }

    /// The path, or `default` where it is empty.
    pub(crate) fn path_or(&self, default: String) -> String {
        if self.path.is_empty() { default } else { self.path.clone() }
    }

    /// The parameters `username` and `password`: both, or none of them.
    pub(crate) fn login(&self) -> Result<Option<Login>, RegisterError> {
        match (self.get("username"), self.get("password")) {
            (Some(username), Some(password)) => Ok(Some(Login::new(username, password))),
            (None, None) => Ok(None),
            _ => Err(self.invalid("give both username and password, or none of them")),
        }
    }

    /// Refuses keys that nothing reads: most often they are misspelt.
    pub(crate) fn check_keys(&self, known: &[&str]) -> Result<(), RegisterError> {
        match self.query.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) if known.is_empty() => Err(self.invalid(&format!("`{key}`: it takes no parameters"))),
            Some((key, _)) => Err(self.invalid(&format!("`{key}` is not a parameter of it: use {}", known.join(", ")))),
        }
    }

    pub(crate) fn invalid(&self, reason: &str) -> RegisterError {
        RegisterError::InvalidUrl { url: self.shown.clone(), reason: reason.to_owned() }
    }
}

/// What every configuration of a registry with servers is held to.
pub(crate) struct Rules<'a> {
    pub(crate) about: &'a About,
    pub(crate) hosts: &'a [String],
    pub(crate) timeout: Duration,
    /// What the instance's time is called, and its range.
    pub(crate) expiry: Option<(&'static str, Duration, u64)>,
}

impl Rules<'_> {
    const DAY: Duration = Duration::from_secs(86_400);

    pub(crate) fn check(&self) -> Result<(), RegisterError> {
        if self.hosts.is_empty() {
            return Err(self.about.invalid("it names no host: add `host:port`"));
        }
        if self.timeout.is_zero() {
            return Err(self.about.invalid("timeout: give seconds above 0"));
        }
        match self.expiry {
            Some((name, time, least)) if time < Duration::from_secs(least) || time > Self::DAY => {
                let unit = if least == 1 { "second" } else { "seconds" };
                Err(self.about.invalid(format!("{name}: give {least} {unit} to a day")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_found() {
        let url = RegistryUrl::parse("etcd://a:1,[::1]:2/team/rpc/?ttl=2.5&username=u&password=p%26q").unwrap();
        assert_eq!(url.scheme, "etcd");
        assert_eq!(url.path, "team/rpc");
        assert_eq!(url.shown, "etcd://a:1,[::1]:2/team/rpc");
        assert_eq!(url.instances().unwrap()[1].host(), "::1");
        assert_eq!(url.get("password"), Some("p&q"));
        assert_eq!(url.seconds("ttl", Duration::ZERO).unwrap(), Duration::from_millis(2500));
        assert_eq!(url.login().unwrap(), Some(Login::new("u", "p&q")));
        url.check_keys(&["ttl", "username", "password"]).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |url: &str| match RegistryUrl::parse(url) {
            Err(error) => error.to_string(),
            Ok(url) => {
                let checks = url
                    .check_keys(&["ttl"])
                    .and_then(|()| url.seconds("ttl", Duration::ZERO).map(drop))
                    .and_then(|()| url.instances().map(drop));
                checks.unwrap_err().to_string()
            }
        };
        assert!(error("127.0.0.1:2379").contains("no scheme"));
        assert!(error("etcd://").contains("names no host"));
        assert!(error("etcd://nohost").contains("\"nohost\" is not `host:port`"));
        assert!(error("etcd://a:1?tll=3").contains("`tll` is not a parameter of it: use ttl"));
        assert!(error("etcd://a:1?ttl=soon").contains("ttl=soon: give seconds above 0"));
        assert!(error("etcd://a:1?ttl=-1").contains("ttl=-1"));
        let hidden = error("etcd://user:secret@a:1");
        assert!(hidden.contains("credentials") && !hidden.contains("secret"), "{hidden}");
        for url in ["etcd:/a:1?password=secret", "u:secret@a:1", "a:1?next=etcd://b:1&password=secret"] {
            assert!(!error(url).contains("secret"), "{url}");
        }
    }
}
