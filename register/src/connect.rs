//! The only place that names the back ends.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Backend, MemoryBackend, MsRegister, RegisterError, Registry, StaticBackend, UnionBackend, url::RegistryUrl,
};

const KNOWN: &str =
    "memory://, static://, dns://, etcd://, file://, gregister://, nacos://, zookeeper://, union:URL|URL";

/// Schemes that are cargo features of the same name.
const FEATURES: [&str; 6] = ["dns", "etcd", "file", "gregister", "nacos", "zookeeper"];

/// Beginning of a URL that names several registries.
const UNION: &str = "union:";

/// Builds the registry that `url` names: its scheme chooses the back end, the rest configures it.
///
/// | URL | parameters, with defaults |
/// |---|---|
/// | `memory://` | none; every call makes a registry of its own: share the `Arc` |
/// | `static://h:p,h:p` | a service's name: `goods=h:p,h:p` are its instances; those before the `?` are of all other services |
/// | `dns://name:port` | port left out: SRV records; `{service}` in the name; `server=ip:port,..` (the system's), `timeout=3` s, `refresh=30` s |
/// | `etcd://h:p,h:p/prefix` | prefix `ms-rpc` (`etcd://h:p//services` for keys that begin with a slash); `ttl=10` s, `timeout=3` s, `layout=msgo` or `gmq`, `username`, `password` |
/// | `file:///path.toml` | none; `.json` too, and a zinx cluster's `dinx.json` |
/// | `gregister://h:p` | `ttl=10` s, `timeout=3` s, `token` |
/// | `nacos://h:p` | `namespace=` (public), `group=DEFAULT_GROUP`, `cluster=DEFAULT`, `timeout=3` s, `username`, `password` |
/// | `zookeeper://h:p,h:p/base` | base `ms-rpc`; `session=10` s, `timeout=3` s, `layout=curator` with `payload=spring` or `map`, or `layout=master-normal` or `master-normal-broker`; `username`, `password` |
/// | `union:URL\|URL` | those of each URL, in which a `\|` is written as `%7C` |
///
/// All but `memory://`, `static://` and unions take `cache=DIR`; see [`Registry::with_cache`].
///
/// # Errors
/// A URL that is wrong, a back end that is not compiled in, and a registry that does not answer within `timeout`.
pub async fn connect(url: &str) -> Result<Arc<dyn MsRegister>, RegisterError> {
    configured(url)?.connect().await
}

/// The same without waiting for the registry: it is connected to in the background, for as long as it takes. For programs
/// that must start while it is down.
///
/// Until it answers, [`register`](MsRegister::register) returns at once, and the instance is listed when the registry
/// comes up ([`Registration::state`](crate::Registration::state) tells); [`list`](MsRegister::list) is an error;
/// watches show [`Freshness::Never`](crate::Freshness::Never) and why. Needs a tokio runtime.
///
/// # Errors
/// A URL that is wrong, and a back end that is not compiled in.
pub fn connect_in_background(url: &str) -> Result<Arc<dyn MsRegister>, RegisterError> {
    configured(url)?.connect_in_background()
}

/// A configuration, and the back end that it is for.
struct Configured<B: Backend>(B::Config, Option<String>);

impl<B: Backend> Configured<B> {
    /// The registry as it was asked for.
    fn finished(registry: Registry<B>, cache: Option<String>) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Ok(match cache {
            Some(directory) => Arc::new(registry.with_cache(directory)?),
            None => Arc::new(registry),
        })
    }
}

#[async_trait]
trait Connect: Send {
    async fn connect(self: Box<Self>) -> Result<Arc<dyn MsRegister>, RegisterError>;

    fn connect_in_background(self: Box<Self>) -> Result<Arc<dyn MsRegister>, RegisterError>;
}

#[async_trait]
impl<B: Backend> Connect for Configured<B> {
    async fn connect(self: Box<Self>) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Self::finished(Registry::connect(self.0).await?, self.1)
    }

    fn connect_in_background(self: Box<Self>) -> Result<Arc<dyn MsRegister>, RegisterError> {
        Self::finished(Registry::connect_in_background(self.0)?, self.1)
    }
}

fn configured(url: &str) -> Result<Box<dyn Connect>, RegisterError> {
    if let Some(urls) = url.strip_prefix(UNION) {
        let members = urls.split('|').map(connect_in_background).collect::<Result<_, _>>()?;
        return Ok(Box::new(Configured::<UnionBackend>(members, None)));
    }
    let mut url = RegistryUrl::parse(url)?;
    let is_remote = !["memory", "static"].contains(&url.scheme.as_str());
    let cache = if is_remote { url.take("cache") } else { None };
    Ok(match url.scheme.as_str() {
        #[cfg(feature = "dns")]
        "dns" => Box::new(Configured::<crate::DnsBackend>(crate::DnsConfig::from_url(&url)?, cache)),
        #[cfg(feature = "etcd")]
        "etcd" => Box::new(Configured::<crate::EtcdBackend>(crate::EtcdConfig::from_url(&url)?, cache)),
        #[cfg(feature = "file")]
        "file" => Box::new(Configured::<crate::FileBackend>(crate::FileBackend::config(&url)?, cache)),
        #[cfg(feature = "gregister")]
        "gregister" => Box::new(Configured::<crate::GregisterBackend>(crate::GregisterConfig::from_url(&url)?, cache)),
        #[cfg(feature = "nacos")]
        "nacos" => Box::new(Configured::<crate::NacosBackend>(crate::NacosConfig::from_url(&url)?, cache)),
        #[cfg(feature = "zookeeper")]
        "zookeeper" => Box::new(Configured::<crate::ZookeeperBackend>(crate::ZookeeperConfig::from_url(&url)?, cache)),
        "memory" => {
            url.check_keys(&[])?;
            if !(url.hosts.is_empty() && url.path.is_empty()) {
                return Err(url.invalid("it takes neither hosts nor a path"));
            }
            Box::new(Configured::<MemoryBackend>((), cache))
        }
        "static" => Box::new(Configured::<StaticBackend>(StaticBackend::config(&url)?, cache)),
        scheme => {
            let known = FEATURES.into_iter().find(|feature| *feature == scheme);
            let unknown = || RegisterError::UnknownScheme { scheme: scheme.to_owned(), known: KNOWN };
            return Err(known.map_or_else(unknown, |scheme| RegisterError::NotCompiled { scheme }));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_urls_say_what_to_do() {
        let error = |url: &'static str| async move { connect(url).await.unwrap_err().to_string() };
        assert!(connect_in_background("static://").unwrap_err().to_string().contains("names no host"));
        let unknown = error("consul://a:1").await;
        assert!(unknown.contains("`consul` is unknown") && unknown.contains("etcd://"), "{unknown}");
        assert!(error("static://").await.contains("names no host"));
        assert!(error("memory://?ttl=1").await.contains("takes no parameters"));
        for (scheme, is_built) in [
            ("dns", cfg!(feature = "dns")),
            ("etcd", cfg!(feature = "etcd")),
            ("file", cfg!(feature = "file")),
            ("gregister", cfg!(feature = "gregister")),
            ("nacos", cfg!(feature = "nacos")),
            ("zookeeper", cfg!(feature = "zookeeper")),
        ] {
            let error = connect(&format!("{scheme}://h:1?nothing=1")).await.unwrap_err().to_string();
            let words = if is_built { "`nothing` is not a parameter" } else { "turn on the cargo feature" };
            assert!(error.contains(words), "{error}");
        }
    }
}
