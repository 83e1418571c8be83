use std::time::Duration;

use crate::{
    About, Login, RegisterError,
    url::{RegistryUrl, Rules},
};

/// Address of ZooKeeper, and place and form of the instances in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZookeeperConfig {
    /// The servers' client addresses, `host:port`. At least one; a session moves to another one when its server fails. None
    /// by default.
    pub servers: Vec<String>,
    /// The node above the services': `<base>/<service>/..`. Default `ms-rpc`. Processes that are to find each other use the
    /// same; slashes at its ends do not count. Spring's default is `services`.
    pub base: String,
    /// The session's time: an instance stays listed for so long after its process died or was cut off. Default 10 s; 1 s to a
    /// day. Servers raise and lower it to their own limits, by default 2 to 20 ticks, which is 4 to 40 s.
    pub session: Duration,
    /// Bounds each call to ZooKeeper, opening a session included. Default 3 s; above 0.
    pub timeout: Duration,
    /// The form in which instances are written and read. Default [`ZookeeperLayout::Curator`] with
    /// [`ZookeeperPayload::Spring`].
    pub layout: ZookeeperLayout,
    /// The user to authenticate as, in the scheme `digest`; none by default. The password is never printed. What is written
    /// then may be read by all, and changed by this user alone; without a user, by all. ZooKeeper creates users as they
    /// come: a wrong password shows only at nodes that the right one has made.
    pub login: Option<Login>,
}

/// In which form instances are kept in ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZookeeperLayout {
    /// Curator's service discovery: `<base>/<service>/<id>`. Both payloads are read, whichever is written.
    Curator(ZookeeperPayload),
    /// The layout of the Go framework go-micro-service: `<base>/<service>/normal<10 digits>` and
    /// `<base>/<service>/master`. Normals are written and listed. The id is kept as `serveruniquecode`, weights are whole
    /// numbers, and there is no metadata.
    MasterNormal,
    /// The same for servers behind a message broker: their address is the broker's, so `serveruniquecode` alone tells them apart, and
    /// servers without one are skipped.
    MasterNormalBroker,
}

/// Class of a Curator instance's payload. Java clients read it as an object of a class, so it must be the one that they
/// expect. Weight and metadata are in its `metadata` either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZookeeperPayload {
    /// The class of Spring Cloud ZooKeeper.
    Spring,
    /// A map, with no class named.
    Map,
}

impl ZookeeperConfig {
    /// The base when none is given.
    pub const DEFAULT_BASE: &str = "ms-rpc";

    /// A configuration of these servers, with defaults for the rest.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self { servers: servers.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["session", "timeout", "layout", "payload", "username", "password"])?;
        let layout = match (url.get("layout"), url.get("payload")) {
            (None | Some("curator"), None | Some("spring")) => ZookeeperLayout::Curator(ZookeeperPayload::Spring),
            (None | Some("curator"), Some("map")) => ZookeeperLayout::Curator(ZookeeperPayload::Map),
            (Some("master-normal"), None) => ZookeeperLayout::MasterNormal,
            (Some("master-normal-broker"), None) => ZookeeperLayout::MasterNormalBroker,
            (Some("master-normal" | "master-normal-broker"), Some(_)) => {
                return Err(url.invalid("layout=master-normal has no payload"));
            }
            (None | Some("curator"), Some(_)) => return Err(url.bad("payload", "use spring or map")),
            (Some(_), _) => return Err(url.bad("layout", "use curator, master-normal or master-normal-broker")),
        };
        let default = Self::default();
        let config = Self {
            servers: url.addresses()?,
            base: if url.path.is_empty() { default.base } else { url.path.clone() },
            session: url.seconds("session", default.session)?,
            timeout: url.seconds("timeout", default.timeout)?,
            layout,
            login: url.login()?,
        };
        config.check()?;
        Ok(config)
    }

    /// Without credentials.
    pub(crate) fn about(&self) -> About {
        let base = self.base.trim_matches('/');
        let about = About::new(format!("zookeeper://{}/{base}", self.servers.join(",")))
            .with_scope(format!("zookeeper/{base}"))
            .with_expiry(self.session)
            .with_propagation(super::PROPAGATION);
        match self.layout {
            ZookeeperLayout::MasterNormalBroker => about.with_shared_addresses(),
            ZookeeperLayout::Curator(_) | ZookeeperLayout::MasterNormal => about,
        }
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let about = &self.about();
        let base = self.base.trim_matches('/');
        if base.is_empty() {
            return Err(about.invalid("its base is empty: the instances would mix with all other nodes"));
        }
        if let Some(reason) = base.split('/').find_map(|step| super::stored::check_step(step).err()) {
            return Err(about.invalid(format!("its base: {reason}")));
        }
        if base.split('/').next() == Some("zookeeper") {
            return Err(about.invalid("its base: `/zookeeper` is ZooKeeper's own"));
        }
        let expiry = Some(("session", self.session, 1));
        Rules { about, hosts: &self.servers, timeout: self.timeout, expiry }.check()
    }
}

impl Default for ZookeeperConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            base: Self::DEFAULT_BASE.to_owned(),
            session: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            layout: ZookeeperLayout::Curator(ZookeeperPayload::Spring),
            login: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<ZookeeperConfig, RegisterError> {
        ZookeeperConfig::from_url(&RegistryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_what_it_says_and_defaults_for_the_rest() {
        let config = parse("zookeeper://a:1,[::1]:2/team/rpc?session=30&payload=map&username=u&password=p").unwrap();
        assert_eq!(config.servers, ["a:1", "[::1]:2"]);
        assert_eq!((config.base.as_str(), config.session), ("team/rpc", Duration::from_secs(30)));
        assert_eq!(config.layout, ZookeeperLayout::Curator(ZookeeperPayload::Map));
        assert_eq!(config.about().url(), "zookeeper://a:1,[::1]:2/team/rpc");
        assert_eq!(config.about().scope(), Some("zookeeper/team/rpc"));
        assert!(!format!("{config:?}").contains("\"p\""));
        assert_eq!(parse("zookeeper://a:1").unwrap(), ZookeeperConfig::new(["a:1"]));
        assert_eq!(parse("zookeeper://a:1?layout=master-normal").unwrap().layout, ZookeeperLayout::MasterNormal);
        let broker = parse("zookeeper://a:1?layout=master-normal-broker").unwrap().layout;
        assert_eq!(broker, ZookeeperLayout::MasterNormalBroker);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("zookeeper://a:1?session=0.5", "1 second"),
            ("zookeeper://a:1?username=u", "both username and password"),
            ("zookeeper://a:1?ttl=1", "`ttl` is not a parameter"),
            ("zookeeper://a:1?layout=flat", "use curator, master-normal or master-normal-broker"),
            ("zookeeper://a:1?payload=json", "use spring or map"),
            ("zookeeper://a:1?layout=master-normal&payload=map", "has no payload"),
            ("zookeeper://a:1/zookeeper/x", "ZooKeeper's own"),
            ("zookeeper://a:1/a//b", "its base"),
            ("zookeeper://a:1/a/../b", "its base"),
            ("zookeeper://", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
