use std::{path::PathBuf, time::Duration};

use nacos_sdk::api::props::ClientProps;
use rustix::process::geteuid;
use tracing::debug;

use crate::{
    About, Instance, Login, RegisterError,
    cache::private_directory,
    url::{RegistryUrl, Rules},
};

/// Address of Nacos, and the place of the instances in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NacosConfig {
    /// The servers' HTTP addresses, `host:port`, such as `127.0.0.1:8848`; gRPC is taken to be 1000 ports above, as
    /// Nacos has it. At least one; none by default.
    pub servers: Vec<String>,
    /// The namespace's id. Default empty, which is Nacos's `public`.
    pub namespace: String,
    /// The group of the services. Default `DEFAULT_GROUP`. Processes that are to find each other use the same namespace
    /// and group.
    pub group: String,
    /// The cluster that own instances are registered in. Default `DEFAULT`. Instances of all clusters are listed.
    pub cluster: String,
    /// Bounds each call to Nacos, the first connection included. Default 3 s; above 0.
    pub timeout: Duration,
    /// Beginning of the paths over HTTP, as the server has it (`server.servlet.context-path`). Default `/nacos`; `/` for none.
    pub context_path: String,
    /// The user to log in as over HTTP; none by default. The password is never printed, and the client crate does not get it.
    pub login: Option<Login>,
}

impl NacosConfig {
    /// Distance of the gRPC port above the HTTP port.
    const GRPC_OFFSET: u16 = 1000;

    /// A configuration of these servers, with defaults for the rest.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self { servers: servers.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["namespace", "group", "cluster", "contextPath", "timeout", "username", "password"])?;
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path: namespace and group are parameters"));
        }
        let default = Self::default();
        let config = Self {
            servers: url.addresses()?,
            namespace: url.text("namespace", default.namespace),
            group: url.text("group", default.group),
            cluster: url.text("cluster", default.cluster),
            context_path: url.text("contextPath", default.context_path),
            timeout: url.seconds("timeout", default.timeout)?,
            login: url.login()?,
        };
        config.check()?;
        Ok(config)
    }

    /// Without credentials.
    pub(crate) fn about(&self) -> About {
        let namespace = if self.namespace.is_empty() { "public" } else { &self.namespace };
        let url = format!("nacos://{}?namespace={}&group={}", self.servers.join(","), self.namespace, self.group);
        About::new(url)
            .with_scope(format!("nacos/{namespace}/{}", self.group))
            .with_expiry(super::EXPIRY)
            .with_propagation(super::PROPAGATION)
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let about = &self.about();
        if self.group.is_empty() || self.cluster.is_empty() {
            return Err(about.invalid("group and cluster cannot be empty: leave them out for Nacos's own defaults"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
        if !(self.context_path.starts_with('/') && self.context_path.chars().all(is_plain)) {
            return Err(about.invalid("contextPath: give a path that begins with a slash, such as /nacos"));
        }
        let is_shown = |c: char| !(c.is_control() || c.is_whitespace() || "?&#|%+".contains(c));
        if !self.namespace.chars().chain(self.group.chars()).all(is_shown) {
            return Err(about.invalid("namespace and group: no spaces, and none of ? & # | % +"));
        }
        Rules { about, hosts: &self.servers, timeout: self.timeout, expiry: None }.check()?;
        self.grpc_addresses().map(drop)
    }

    /// `host:port` of each server's gRPC.
    pub(super) fn grpc_addresses(&self) -> Result<Vec<String>, RegisterError> {
        let grpc = |server: &String| {
            let http = Instance::from_address(server)
                .map_err(|_| self.about().invalid(format!("{server:?} is not `host:port`")))?;
            let port = http.port().checked_add(Self::GRPC_OFFSET);
            let port = port.ok_or_else(|| self.about().invalid("gRPC is 1000 ports above, which is past 65535"))?;
            Ok(Instance::new(http.host(), port).address())
        };
        self.servers.iter().map(grpc).collect()
    }

    /// A directory of this user alone. The client crate writes every list to disk, follows links there, and cannot be told not to. Nothing
    /// reads it.
    fn unread_cache() -> PathBuf {
        let usual = std::env::temp_dir().join(format!("ms-register-nacos-{}", geteuid().as_raw()));
        match private_directory(&usual) {
            Ok(()) => usual,
            // Somebody else has taken the name.
            Err(error) => {
                let other = usual.with_extension(format!("{:016x}", fastrand::u64(..)));
                debug!("{}: {error}; {} is used", usual.display(), other.display());
                // An error: the crate finds no directory, and says so in its log.
                let _ = private_directory(&other);
                other
            }
        }
    }

    /// Settings of the client crate. Left to its defaults it would obey environment variables over this configuration,
    /// and keep an empty list from those who watch.
    pub(super) fn props(&self, servers: &[String]) -> ClientProps {
        ClientProps::new()
            .server_addr(servers.join(","))
            .namespace(self.namespace.clone())
            .app_name("ms-register")
            .env_first(false)
            .naming_push_empty_protection(false)
            .load_cache_at_start(false)
            .cache_dir(Self::unread_cache())
    }
}

impl Default for NacosConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            namespace: String::new(),
            group: "DEFAULT_GROUP".to_owned(),
            cluster: "DEFAULT".to_owned(),
            context_path: "/nacos".to_owned(),
            timeout: Duration::from_secs(3),
            login: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<NacosConfig, RegisterError> {
        NacosConfig::from_url(&RegistryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_what_it_says_and_defaults_for_the_rest() {
        let config = parse("nacos://a:8848,b:8848?namespace=dev&group=shop&cluster=c1&timeout=1&username=u&password=p");
        let config = config.unwrap();
        assert_eq!(config.servers, ["a:8848", "b:8848"]);
        assert_eq!((config.about().scope().unwrap(), config.cluster.as_str()), ("nacos/dev/shop", "c1"));
        assert_eq!(config.about().url(), "nacos://a:8848,b:8848?namespace=dev&group=shop");
        assert_eq!(config.grpc_addresses().unwrap(), ["a:9848", "b:9848"]);
        assert!(!format!("{config:?}").contains("\"p\""));
        let plain = parse("nacos://a:8848?namespace=").unwrap();
        assert_eq!(plain, NacosConfig::new(["a:8848"]));
        assert_eq!(plain.about().scope(), Some("nacos/public/DEFAULT_GROUP"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("nacos://a:1/path", "takes no path"),
            ("nacos://a:65000", "past 65535"),
            ("nacos://a:1?group=", "cannot be empty"),
            ("nacos://a:1?group=a%20b", "no spaces"),
            ("nacos://a:1?contextPath=nacos", "begins with a slash"),
            ("nacos://a:1?password=p", "both username and password"),
            ("nacos://a:1?tenant=x", "`tenant` is not a parameter"),
            ("nacos://", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
