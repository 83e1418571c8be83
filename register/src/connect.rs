//! The only place that names the back ends.

use std::sync::Arc;
#[cfg(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper"))]
use std::{future::Future, pin::Pin};

#[cfg(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper"))]
use crate::background::Background;
use crate::{Memory, MsRegister, RegisterError, Static, url::RegistryUrl};

const KNOWN: &str = "memory://, static://, etcd://, gregister://, nacos://, zookeeper://";

/// Builds the registry that `url` names: its scheme chooses the back end, the rest configures it.
///
/// | URL | parameters, with defaults |
/// |---|---|
/// | `memory://` | none; every call makes a registry of its own: share the `Arc` |
/// | `static://h:p,h:p` | none; these are the instances of every service |
/// | `etcd://h:p,h:p/prefix` | prefix `ms-rpc`; `ttl=10` s, `timeout=3` s, `username`, `password` |
/// | `gregister://h:p` | `ttl=10` s, `timeout=3` s, `token` |
/// | `nacos://h:p` | `namespace=` (public), `group=DEFAULT_GROUP`, `cluster=DEFAULT`, `timeout=3` s, `username`, `password` |
/// | `zookeeper://h:p,h:p/base` | base `ms-rpc`; `session=10` s, `timeout=3` s, `layout=curator` with `payload=spring` or `map`, or `layout=master-normal`; `username`, `password` |
///
/// # Errors
/// A URL that is wrong, a back end that is not compiled in, and a registry that does not answer within `timeout`.
pub async fn connect(url: &str) -> Result<Arc<dyn MsRegister>, RegisterError> {
    let url = RegistryUrl::parse(url)?;
    match url.scheme.as_str() {
        #[cfg(feature = "etcd")]
        "etcd" => connected(crate::Etcd::connect(crate::EtcdConfig::from_url(&url)?)).await,
        #[cfg(feature = "gregister")]
        "gregister" => connected(crate::Gregister::connect(crate::GregisterConfig::from_url(&url)?)).await,
        #[cfg(feature = "nacos")]
        "nacos" => connected(crate::Nacos::connect(crate::NacosConfig::from_url(&url)?)).await,
        #[cfg(feature = "zookeeper")]
        "zookeeper" => connected(crate::Zookeeper::connect(crate::ZookeeperConfig::from_url(&url)?)).await,
        _ => within_this_process(&url),
    }
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
    let url = RegistryUrl::parse(url)?;
    match url.scheme.as_str() {
        #[cfg(feature = "etcd")]
        "etcd" => {
            let config = crate::EtcdConfig::from_url(&url)?;
            Background::start(config.facts(), move || connected(crate::Etcd::connect(config.clone())))
        }
        #[cfg(feature = "gregister")]
        "gregister" => {
            let config = crate::GregisterConfig::from_url(&url)?;
            Background::start(config.facts(), move || connected(crate::Gregister::connect(config.clone())))
        }
        #[cfg(feature = "nacos")]
        "nacos" => {
            let config = crate::NacosConfig::from_url(&url)?;
            Background::start(config.facts(), move || connected(crate::Nacos::connect(config.clone())))
        }
        #[cfg(feature = "zookeeper")]
        "zookeeper" => {
            let config = crate::ZookeeperConfig::from_url(&url)?;
            Background::start(config.facts(), move || connected(crate::Zookeeper::connect(config.clone())))
        }
        _ => within_this_process(&url),
    }
}

#[cfg(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper"))]
type Connected = Result<Arc<dyn MsRegister>, RegisterError>;

#[cfg(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper"))]
fn connected<R: MsRegister>(
    connecting: impl Future<Output = Result<R, RegisterError>> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Connected> + Send>> {
    Box::pin(async { connecting.await.map(|registry| Arc::new(registry) as Arc<dyn MsRegister>) })
}

/// What needs no server; an error for all else.
fn within_this_process(url: &RegistryUrl) -> Result<Arc<dyn MsRegister>, RegisterError> {
    match url.scheme.as_str() {
        "memory" => {
            url.check_keys(&[])?;
            Ok(Arc::new(Memory::new()))
        }
        "static" => Ok(Arc::new(Static::from_url(url)?)),
        #[cfg(not(feature = "etcd"))]
        "etcd" => Err(RegisterError::NotCompiled { scheme: "etcd" }),
        #[cfg(not(feature = "gregister"))]
        "gregister" => Err(RegisterError::NotCompiled { scheme: "gregister" }),
        #[cfg(not(feature = "nacos"))]
        "nacos" => Err(RegisterError::NotCompiled { scheme: "nacos" }),
        #[cfg(not(feature = "zookeeper"))]
        "zookeeper" => Err(RegisterError::NotCompiled { scheme: "zookeeper" }),
        scheme => Err(RegisterError::UnknownScheme { scheme: scheme.to_owned(), known: KNOWN }),
    }
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
        #[cfg(not(feature = "etcd"))]
        assert!(error("etcd://127.0.0.1:2379").await.contains("turn on the cargo feature `etcd`"));
        #[cfg(not(feature = "gregister"))]
        assert!(error("gregister://127.0.0.1:9595").await.contains("turn on the cargo feature `gregister`"));
        #[cfg(not(feature = "nacos"))]
        assert!(error("nacos://127.0.0.1:8848").await.contains("turn on the cargo feature `nacos`"));
        #[cfg(not(feature = "zookeeper"))]
        assert!(error("zookeeper://127.0.0.1:2181").await.contains("turn on the cargo feature `zookeeper`"));
    }
}
