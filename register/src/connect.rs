//! The only place that names the back ends.

use std::sync::Arc;

use crate::{Memory, MsRegister, RegisterError, Static, url::RegistryUrl};

const KNOWN: &str = "memory://, static://, etcd://, nacos://";

/// Builds the registry that `url` names: its scheme chooses the back end, the rest configures it.
///
/// | URL | parameters, with defaults |
/// |---|---|
/// | `memory://` | none; every call makes a registry of its own: share the `Arc` |
/// | `static://h:p,h:p` | none; these are the instances of every service |
/// | `etcd://h:p,h:p/prefix` | prefix `ms-rpc`; `ttl=10` s, `timeout=3` s, `username`, `password` |
/// | `nacos://h:p` | `namespace=` (public), `group=DEFAULT_GROUP`, `cluster=DEFAULT`, `timeout=3` s, `username`, `password` |
///
/// # Errors
/// A URL that is wrong, a back end that is not compiled in, and a registry that does not answer within `timeout`.
pub async fn connect(url: &str) -> Result<Arc<dyn MsRegister>, RegisterError> {
    let url = RegistryUrl::parse(url)?;
    match url.scheme.as_str() {
        "memory" => {
            url.check_keys(&[])?;
            Ok(Arc::new(Memory::new()))
        }
        "static" => Ok(Arc::new(Static::from_url(&url)?)),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(crate::Etcd::connect(crate::EtcdConfig::from_url(&url)?).await?)),
        #[cfg(not(feature = "etcd"))]
        "etcd" => Err(RegisterError::NotCompiled { scheme: "etcd" }),
        #[cfg(feature = "nacos")]
        "nacos" => Ok(Arc::new(crate::Nacos::connect(crate::NacosConfig::from_url(&url)?).await?)),
        #[cfg(not(feature = "nacos"))]
        "nacos" => Err(RegisterError::NotCompiled { scheme: "nacos" }),
        scheme => Err(RegisterError::UnknownScheme { scheme: scheme.to_owned(), known: KNOWN }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_urls_say_what_to_do() {
        let error = |url: &'static str| async move { connect(url).await.unwrap_err().to_string() };
        let unknown = error("consul://a:1").await;
        assert!(unknown.contains("`consul` is unknown") && unknown.contains("etcd://"), "{unknown}");
        assert!(error("static://").await.contains("names no host"));
        assert!(error("memory://?ttl=1").await.contains("takes no parameters"));
        #[cfg(not(feature = "etcd"))]
        assert!(error("etcd://127.0.0.1:2379").await.contains("turn on the cargo feature `etcd`"));
        #[cfg(not(feature = "nacos"))]
        assert!(error("nacos://127.0.0.1:8848").await.contains("turn on the cargo feature `nacos`"));
    }
}
