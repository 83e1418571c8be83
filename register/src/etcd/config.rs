use std::time::Duration;

use crate::{
    About, Login, RegisterError, TlsFiles,
    url::{RegistryUrl, Rules},
};

/// Address of etcd, and the place of the instances in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdConfig {
    /// The members' client addresses, `host:port`. At least one; each call uses one that answers. None by default.
    pub endpoints: Vec<String>,
    /// Beginning of the keys: `<prefix>/<service>/<id>`. Default `ms-rpc`. Processes that are to find each other
    /// use the same. Slashes at its end do not count; one at its beginning does: `/services` is the prefix of
    /// `/services/goods/..`, and `etcd://h:p//services` its URL.
    pub prefix: String,
    /// How long an instance stays listed after its process died or was cut off. Default 10 s; at least 2 s, rounded up
    /// to whole seconds. It is renewed every third of it: a short one costs traffic and does not survive a short
    /// stall, a long one keeps the dead listed.
    pub ttl: Duration,
    /// Bounds each call to etcd, the first connection included. Default 3 s; above 0.
    pub timeout: Duration,
    /// The user to log in as; none by default. The password is never printed.
    pub login: Option<Login>,
    /// TLS, and with which certificates; `None`: plaintext, the default.
    pub tls: Option<TlsFiles>,
    /// Where instances are, and in which form. Default [`EtcdLayout::Naming`].
    pub layout: EtcdLayout,
}

/// Where instances are in etcd, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdLayout {
    /// That of etcd's naming package: `<prefix>/<service>/<id>`, with weight and metadata.
    #[default]
    Naming,
    /// That of Go's msgo: the key is the service's name, without a prefix, and the value one `host:port`. No second instance, weight,
    /// metadata or election. Registrations are under a lease, and refused while the key holds another address.
    Msgo,
    /// That of gmq: nodes of the service `mq` are keys `/gmq/node-<id>`, whose values are texts in JSON: `tcp_addr`, `http_addr`, `weight`,
    /// `node_id` and `join_time`. Addresses are those of gmq's TCP protocols. No other service, prefix or election; the lease is 30 s if no time
    /// is given.
    Gmq,
}

impl EtcdConfig {
    /// The prefix when none is given.
    pub const DEFAULT_PREFIX: &str = "ms-rpc";
    /// The time of leases of [`EtcdLayout::Gmq`] in a URL that gives none.
    const GMQ_TTL: Duration = Duration::from_secs(30);

    /// A configuration of these endpoints, with defaults for the rest.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&[&["ttl", "timeout", "username", "password", "layout"][..], &TlsFiles::KEYS].concat())?;
        let default = Self::default();
        let layout = match url.get("layout") {
            None | Some("naming") => EtcdLayout::Naming,
            Some("msgo") if url.path.is_empty() => EtcdLayout::Msgo,
            Some("msgo") => return Err(url.invalid("layout=msgo has no prefix: its keys are names of services")),
            Some("gmq") if url.path.is_empty() => EtcdLayout::Gmq,
            Some("gmq") => return Err(url.invalid("layout=gmq has no prefix: its keys are /gmq/node-<id>")),
            Some(_) => return Err(url.bad("layout", "use naming, msgo or gmq")),
        };
        let config = Self {
            endpoints: url.addresses()?,
            prefix: if url.path.is_empty() { default.prefix } else { url.rooted_path.clone() },
            ttl: url.seconds("ttl", if layout == EtcdLayout::Gmq { Self::GMQ_TTL } else { default.ttl })?,
            timeout: url.seconds("timeout", default.timeout)?,
            login: url.login()?,
            tls: TlsFiles::from_url(url)?,
            layout,
        };
        config.check()?;
        Ok(config)
    }

    /// Without slashes at its end.
    pub(super) fn prefix(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }

    /// Without credentials.
    pub(crate) fn about(&self) -> About {
        let (endpoints, prefix) = (self.endpoints.join(","), self.prefix());
        let (url, scope) = match self.layout {
            EtcdLayout::Naming => (format!("etcd://{endpoints}/{prefix}"), format!("etcd/{prefix}")),
            EtcdLayout::Msgo => (format!("etcd://{endpoints}?layout=msgo"), "etcd?layout=msgo".to_owned()),
            EtcdLayout::Gmq => (format!("etcd://{endpoints}?layout=gmq"), "etcd?layout=gmq".to_owned()),
        };
        About::new(url).with_scope(scope).with_expiry(self.ttl).with_propagation(super::PROPAGATION)
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let (about, expiry) = (&self.about(), Some(("ttl", self.ttl, 2)));
        if self.prefix().is_empty() {
            return Err(about.invalid("its prefix is empty: the instances would mix with all other keys"));
        }
        Rules { about, hosts: &self.endpoints, timeout: self.timeout, expiry }.check()
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            ttl: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            login: None,
            tls: None,
            layout: EtcdLayout::default(),
        }
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
        assert_eq!(config.about().url(), "etcd://a:1,[::1]:2/team/rpc");
        assert!(!format!("{config:?}").contains("\"p\""));
        assert_eq!(parse("etcd://a:1").unwrap(), EtcdConfig::new(["a:1"]));
        assert_eq!(parse("etcd://a:1/").unwrap(), EtcdConfig::new(["a:1"]));
        let secured = parse("etcd://a:1?tls=1&ca=ca.pem&cert=c.pem&key=k.pem&server_name=etcd").unwrap();
        assert_eq!(secured.tls, Some(TlsFiles::new("ca.pem").with_identity("c.pem", "k.pem").with_server_name("etcd")));
        let msgo = parse("etcd://a:1?layout=msgo").unwrap();
        assert_eq!((msgo.layout, msgo.about().url()), (EtcdLayout::Msgo, "etcd://a:1?layout=msgo"));
        let gmq = parse("etcd://a:1?layout=gmq").unwrap();
        assert_eq!((gmq.layout, gmq.ttl), (EtcdLayout::Gmq, Duration::from_secs(30)));
        assert_eq!(parse("etcd://a:1?layout=gmq&ttl=5").unwrap().ttl, Duration::from_secs(5));
        let rooted = parse("etcd://a:1//services/").unwrap();
        assert_eq!((rooted.prefix(), rooted.about().url()), ("/services", "etcd://a:1//services"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("etcd://a:1?ttl=1", "2 seconds"),
            ("etcd://a:1?username=u", "both username and password"),
            ("etcd://a:1?tls=1", "needs ca=FILE"),
            ("etcd://a:1?tls=yes", "use 0 or 1"),
            ("etcd://a:1?ca=x", "add tls=1"),
            ("etcd://a:1?tls=1&ca=x&cert=y", "both cert and key"),
            ("etcd://a:1?prefix=x", "`prefix` is not a parameter"),
            ("etcd://a:1?layout=flat", "use naming, msgo or gmq"),
            ("etcd://a:1/team?layout=gmq", "has no prefix"),
            ("etcd://a:1/team?layout=msgo", "has no prefix"),
            ("etcd://", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
