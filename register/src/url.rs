//! Registry URLs. They name several hosts, which the generic URL syntax (RFC 3986) does not: so they have a parser here.

use std::time::Duration;

use crate::{About, Instance, Login, RegisterError};

/// `scheme://[user:password@]host:port,host:port/path?key=value&key=value`, taken apart.
#[derive(Clone)]
pub(crate) struct RegistryUrl {
    pub(crate) scheme: String,
    pub(crate) hosts: Vec<String>,
    /// Without slashes at its ends.
    pub(crate) path: String,
    /// The same, but for slashes that it begins with beyond the one that ends the hosts.
    pub(crate) rooted_path: String,
    /// All between `://` and the query, as it is.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "only files are named by it"))]
    pub(crate) location: String,
    query: Vec<(String, String)>,
    /// Scheme, hosts and path: never the query, which may hold a password.
    shown: String,
}

/// Parameters whose values are never shown.
const SECRETS: [&str; 2] = ["password", "token"];

impl RegistryUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, RegisterError> {
        // The query first: a `://` in it begins nothing, and all before it is shown.
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let scheme = address.split_once("://").map(|(scheme, _)| scheme);
        // A password may hold any character, so nothing of such an address is shown.
        if address.contains('@') || query.iter().any(|(key, _)| key.contains('@')) {
            let scheme = scheme.filter(|scheme| scheme.bytes().all(|b| b.is_ascii_alphabetic())).unwrap_or_default();
            return Err(RegisterError::InvalidUrl {
                url: format!("{scheme}://.."),
                reason: "credentials go into the query: `?username=..&password=..`, each with `&` as %26, `@` as %40"
                    .to_owned(),
            });
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(RegisterError::InvalidUrl {
                url: address.to_owned(),
                reason: "it has no scheme: it begins with `scheme://`, such as `etcd://127.0.0.1:2379`".to_owned(),
            });
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let rooted_path = path.trim_end_matches('/');
        let shown = match rooted_path {
            "" => format!("{scheme}://{hosts}"),
            path => format!("{scheme}://{hosts}/{path}"),
        };
        Ok(Self {
            scheme: scheme.to_owned(),
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect(),
            path: path.trim_matches('/').to_owned(),
            rooted_path: rooted_path.to_owned(),
            location: rest.to_owned(),
            query,
            shown,
        })
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

    /// All parameters.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Removes `key`, and returns its value, if given.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let value = self.get(key).map(str::to_owned);
        self.query.retain(|(name, _)| name != key);
        value
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
            _ => Err(self.bad(key, "give seconds above 0")),
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

    /// The parameters `username` and `password`: both, or none of them.
    pub(crate) fn login(&self) -> Result<Option<Login>, RegisterError> {
        match (self.get("username"), self.get("password")) {
            (Some(username), Some(password)) => Ok(Some(Login::new(username, password))),
            (None, None) => Ok(None),
            _ => Err(self.invalid("give both username and password, or none of them")),
        }
    }

    /// Refuses keys that nothing reads: most often they are misspelt. One that follows a secret may be a part of it, and is not
    /// shown.
    pub(crate) fn check_keys(&self, known: &[&str]) -> Result<(), RegisterError> {
        let Some(unknown) = self.query.iter().position(|(key, _)| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let use_known =
            if known.is_empty() { "it takes no parameters".to_owned() } else { format!("use {}", known.join(", ")) };
        match Self::secret_in(&self.query[..unknown]) {
            Some(secret) => Err(self.invalid(&format!(
                "what follows `{secret}` is not a parameter of it: write `&` in a {secret} as %26; {use_known}"
            ))),
            None => Err(self.invalid(&format!("`{}` is not a parameter of it: {use_known}", self.query[unknown].0))),
        }
    }

    /// An error about the parameter at `index` of [`RegistryUrl::pairs`], where users choose the keys. The parameter is not shown
    /// where it may be a part of a secret.
    pub(crate) fn bad_pair(&self, index: usize, reason: &str, remedy: &str) -> RegisterError {
        match Self::secret_in(&self.query[..=index]) {
            Some(secret) => self.invalid(&format!("`{secret}`, or what follows it: {remedy}")),
            None => self.invalid(&format!("{reason}: {remedy}")),
        }
    }

    /// The first secret among `pairs`: what follows it may be a part of it, where it holds a bare `&`.
    fn secret_in(pairs: &[(String, String)]) -> Option<&str> {
        pairs.iter().map(|(key, _)| key.as_str()).find(|key| SECRETS.contains(key))
    }

    /// An error about the value of `key`. The value is not shown where it may be a part of a secret.
    pub(crate) fn bad(&self, key: &str, remedy: &str) -> RegisterError {
        let shown = match self.query.iter().rposition(|(name, _)| name == key) {
            Some(index) if Self::secret_in(&self.query[..=index]).is_none() => &self.query[index].1,
            _ => "..",
        };
        self.invalid(&format!("{key}={shown}: {remedy}"))
    }

    pub(crate) fn invalid(&self, reason: &str) -> RegisterError {
        RegisterError::InvalidUrl { url: self.shown.clone(), reason: reason.to_owned() }
    }
}

/// Rules for every configuration of a registry with servers.
pub(crate) struct Rules<'a> {
    pub(crate) about: &'a About,
    pub(crate) hosts: &'a [String],
    pub(crate) timeout: Duration,
    /// Name of the parameter for the instance's time, the time, and its least value in seconds; the most is a day.
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
    use crate::StaticBackend;

    #[test]
    fn all_parts_are_found() {
        let url = RegistryUrl::parse("etcd://a:1,[::1]:2/team/rpc/?ttl=2.5&username=u&password=p%26q").unwrap();
        assert_eq!(url.scheme, "etcd");
        assert_eq!((url.path.as_str(), url.rooted_path.as_str()), ("team/rpc", "team/rpc"));
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
    }

    #[test]
    fn no_character_in_a_password_shows_a_part_of_it() {
        for sign in ["", "/", "?", "&", "#", "@", ":", "://", "%", "=", "+", " ", ",", "&ttl="] {
            for url in [
                format!("etcd://user:secret{sign}secret@a:1"),
                format!("user:secret{sign}secret@a:1"),
                format!("etcd:/a:1?password=secret{sign}secret"),
                format!("a:1?next=etcd://b:1&password=secret{sign}secret"),
                format!("etcd://a:1?username=u&password=secret{sign}secret&tll=1"),
                format!("etcd://a:1?token=secret{sign}secret&tll=1"),
            ] {
                let said = match RegistryUrl::parse(&url) {
                    Err(error) => format!("{error} {error:?}"),
                    Ok(url) => {
                        let keys = url.check_keys(&["ttl", "username", "password", "token"]);
                        format!("{keys:?} {:?}", url.seconds("ttl", Duration::ZERO))
                    }
                };
                assert!(!said.contains("secret"), "{url}: {said}");
                assert!(said.contains("InvalidUrl"), "{url}: {said}");
                let list = url.replace("etcd:", "static:");
                let error =
                    RegistryUrl::parse(&list).and_then(|url| StaticBackend::config(&url).map(drop)).unwrap_err();
                assert!(!format!("{error} {error:?}").contains("secret"), "{list}: {error}");
            }
        }
    }
}
