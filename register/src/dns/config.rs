use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};

use super::uncached;
use crate::{About, Instance, RegisterError, url::RegistryUrl};

/// A name in the DNS, and who is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsConfig {
    /// The name. [`PLACEHOLDER`](Self::PLACEHOLDER) in it stands for the name of the service; without one, all services have the
    /// same instances. Empty by default, which is refused.
    pub name: String,
    /// The port of all instances, found by A and AAAA records. `None`: SRV records give ports and weights. Default `None`.
    pub port: Option<u16>,
    /// Name servers. Default none: those of the system (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// Bounds each resolution. Default 3 s; above 0.
    pub timeout: Duration,
    /// Longest time between two resolutions of a name that is watched; the time to live of its records may ask for more, and not
    /// for less than a second. Default 30 s.
    pub refresh: Duration,
}

impl DnsConfig {
    /// Stands for the name of the service: `{service}.shop.svc.cluster.local`.
    pub const PLACEHOLDER: &str = "{service}";

    /// Port of name servers (RFC 1035).
    const DNS_PORT: u16 = 53;

    /// A configuration of this name, with defaults for the rest.
    pub fn new(name: impl Into<String>, port: Option<u16>) -> Self {
        Self { name: name.into(), port, ..Self::default() }
    }

    pub(crate) fn from_url(url: &RegistryUrl) -> Result<Self, RegisterError> {
        url.check_keys(&["server", "timeout", "refresh"])?;
        let [host] = &url.hosts[..] else {
            return Err(url.invalid("give one name: `dns://name:port`, or `dns://_service._tcp.name` for SRV records"));
        };
        if !url.path.is_empty() {
            return Err(url.invalid("it takes no path"));
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (name, Some(port.ok_or_else(|| url.invalid(&format!("{host:?} is not `name:port`")))?))
            }
            None => (host.as_str(), None),
        };
        let server = |text: &str| {
            let server = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, Self::DNS_PORT)));
            server.map_err(|_| url.bad("server", "give addresses, `10.0.0.2` or `10.0.0.2:53`"))
        };
        let default = Self::default();
        let config = Self {
            name: name.to_owned(),
            port,
            servers: url.get("server").map_or(Ok(Vec::new()), |list| list.split(',').map(server).collect())?,
            timeout: url.seconds("timeout", default.timeout)?,
            refresh: url.seconds("refresh", default.refresh)?,
        };
        config.check()?;
        Ok(config)
    }

    pub(crate) fn about(&self) -> About {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        About::new(format!("dns://{}{port}", self.name))
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let about = self.about();
        let name = self.name.replace(Self::PLACEHOLDER, "service");
        if name.is_empty() {
            return Err(about.invalid("it names no host: `dns://name:port`"));
        }
        if Instance::from_address(&format!("{name}:1")).is_err() || name.contains(['{', '}']) {
            return Err(about.invalid("its name is none: `{service}` is the only placeholder"));
        }
        if self.port.is_none() && !name.starts_with('_') {
            return Err(about.invalid("give a port, or the name of SRV records, such as `_goods._tcp.example.org`"));
        }
        if self.timeout.is_zero() || self.refresh.is_zero() {
            return Err(about.invalid("timeout and refresh: give seconds above 0"));
        }
        Ok(())
    }

    pub(super) fn resolver(&self) -> Result<TokioResolver, NetError> {
        if self.servers.is_empty() {
            return uncached(TokioResolver::builder_tokio()?, self.timeout);
        }
        let server = |address: &SocketAddr| {
            let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
            (udp.port, tcp.port) = (address.port(), address.port());
            NameServerConfig::new(address.ip(), true, vec![udp, tcp])
        };
        let config = ResolverConfig::from_name_servers(self.servers.iter().map(server).collect());
        uncached(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()), self.timeout)
    }
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            port: None,
            servers: Vec::new(),
            timeout: Duration::from_secs(3),
            refresh: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DnsConfig, RegisterError> {
        DnsConfig::from_url(&RegistryUrl::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_what_it_says_and_defaults_for_the_rest() {
        let url = "dns://{service}.shop.svc.cluster.local:9112?server=10.0.0.2,[::1]:5353&refresh=5";
        let config = parse(url).unwrap();
        assert_eq!(config.servers, ["10.0.0.2:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
        assert_eq!((config.port, config.refresh), (Some(9112), Duration::from_secs(5)));
        assert_eq!(config.about().url(), "dns://{service}.shop.svc.cluster.local:9112");
        assert_eq!(parse("dns://_goods._tcp.example.org").unwrap(), DnsConfig::new("_goods._tcp.example.org", None));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (url, reason) in [
            ("dns://", "give one name"),
            ("dns://a:1,b:1", "give one name"),
            ("dns://a:1/path", "takes no path"),
            ("dns://a", "give a port"),
            ("dns://a:0", "is not `name:port`"),
            ("dns://{name}.a:1", "only placeholder"),
            ("dns://a:1?server=x", "give addresses"),
            ("dns://a:1?refresh=0", "seconds above 0"),
            ("dns://a:1?ttl=1", "`ttl` is not a parameter"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
