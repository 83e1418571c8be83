use std::{fmt, time::Duration};

use nacos_sdk::api::props::ClientProps;

use crate::{Instance, RegisterError, background::Facts, url::RegistryUrl};

/// How to reach Nacos, and where the instances are kept in it.
#[derive(Clone, PartialEq, Eq)]
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
    /// The user to log in as over HTTP; none by default. Given together with `password`.
    pub username: Option<String>,
    /// That user's password. It is never printed here, but the client crate prints it at its level DEBUG: keep the
    /// tracing target `nacos_sdk` above that.
    pub password: Option<String>,
}

impl NacosConfig {
    /// How far the gRPC port lies above the HTTP port.
    const GRPC_OFFSET: u16 = 1000;

    /// These servers, and defaults for the rest.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self { servers: servers.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["namespace", "group", "cluster", "timeout", "username", "password"])?;
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path: namespace and group are parameters"));
        }
        let mut config = Self::new(url.instances()?.iter().map(Instance::address));
        let text = |key, default| url.get(key).map_or(default, str::to_owned);
        config.namespace = text("namespace", config.namespace);
        config.group = text("group", config.group);
        config.cluster = text("cluster", config.cluster);
        config.timeout = url.seconds("timeout")?.unwrap_or(config.timeout);
        config.username = url.get("username").map(str::to_owned);
        config.password = url.get("password").map(str::to_owned);
        config.check()?;
        Ok(config)
    }

    /// The URL that stands for it in messages: without credentials.
    pub(super) fn url(&self) -> String {
        format!("nacos://{}", self.servers.join(","))
    }

    pub(super) fn scope(&self) -> String {
        let namespace = if self.namespace.is_empty() { "public" } else { &self.namespace };
        format!("nacos/{namespace}/{}", self.group)
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts { url: self.url(), scope: self.scope(), expiry: super::EXPIRY, propagation: super::PROPAGATION }
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        if self.servers.is_empty() {
            return Err(self.invalid("it names no host: add `host:port`"));
        }
        if self.group.is_empty() || self.cluster.is_empty() {
            return Err(self.invalid("group and cluster cannot be empty: leave them out for Nacos's own defaults"));
        }
        if self.timeout.is_zero() {
            return Err(self.invalid("timeout: give seconds above 0"));
        }
        if self.username.is_some() != self.password.is_some() {
            return Err(self.invalid("give both username and password, or none of them"));
        }
        self.grpc_addresses().map(drop)
    }

    /// `host:port` of each server's gRPC.
    pub(super) fn grpc_addresses(&self) -> Result<Vec<String>, RegisterError> {
        let grpc = |server: &String| {
            let http =
                Instance::from_address(server).map_err(|_| self.invalid(&format!("{server:?} is not `host:port`")))?;
            let port = http.port().checked_add(Self::GRPC_OFFSET);
            let port = port.ok_or_else(|| self.invalid("gRPC is 1000 ports above, which is past 65535"))?;
            Ok(Instance::new(http.host(), port).address())
        };
        self.servers.iter().map(grpc).collect()
    }

    /// What the client crate is told. Left to its defaults it would obey environment variables over this configuration,
    /// and keep an empty list from those who watch.
    pub(super) fn props(&self) -> ClientProps {
        let mut props = ClientProps::new()
            .server_addr(self.servers.join(","))
            .namespace(self.namespace.clone())
            .app_name("ms-register")
            .env_first(false)
            .naming_push_empty_protection(false)
            .load_cache_at_start(false)
            // It writes what it hears to disk, and cannot be told not to. Nothing reads it.
            .cache_dir(std::env::temp_dir().join("ms-register-nacos"));
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            props = props.auth_username(username).auth_password(password);
        }
        props
    }

    fn invalid(&self, reason: &str) -> RegisterError {
        RegisterError::InvalidUrl { url: self.url(), reason: reason.to_owned() }
    }
}

impl Default for NacosConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            namespace: String::new(),
            group: "DEFAULT_GROUP".to_owned(),
            cluster: "DEFAULT".to_owned(),
            timeout: Duration::from_secs(3),
            username: None,
            password: None,
        }
    }
}

impl fmt::Debug for NacosConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NacosConfig")
            .field("servers", &self.servers)
            .field("namespace", &self.namespace)
            .field("group", &self.group)
            .field("cluster", &self.cluster)
            .field("timeout", &self.timeout)
            .field("username", &self.username)
            .finish_non_exhaustive()
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
        assert_eq!((config.scope().as_str(), config.cluster.as_str()), ("nacos/dev/shop", "c1"));
        assert_eq!(config.url(), "nacos://a:8848,b:8848");
        assert_eq!(config.grpc_addresses().unwrap(), ["a:9848", "b:9848"]);
        assert!(!format!("{config:?}").contains("\"p\""));
        let plain = parse("nacos://a:8848?namespace=").unwrap();
        assert_eq!(plain, NacosConfig::new(["a:8848"]));
        assert_eq!(plain.scope(), "nacos/public/DEFAULT_GROUP");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("nacos://a:1/path", "takes no path"),
            ("nacos://a:65000", "past 65535"),
            ("nacos://a:1?group=", "cannot be empty"),
            ("nacos://a:1?password=p", "both username and password"),
            ("nacos://a:1?tenant=x", "`tenant` is not a parameter"),
            ("nacos://", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
