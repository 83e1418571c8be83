//! Readers of what users and other writers wrote, for the fuzzers in `fuzz/`.
//!
//! Unstable: it exists with the feature `internals` alone, follows the code wherever that goes, and is no part of what
//! versions promise. Nothing else may use it.

use crate::{
    Backend, DnsConfig, EtcdConfig, FileBackend, GregisterConfig, NacosConfig, RegisterError, StaticBackend,
    ZookeeperConfig, url::RegistryUrl,
};

pub use crate::{
    etcd::internals::{read as read_etcd, write as write_etcd},
    gregister::internals::{
        read as read_gregister, read_lead as read_gregister_lead, read_place as read_gregister_place,
        write as write_gregister,
    },
    nacos::internals::{read as read_nacos, write as write_nacos},
    zookeeper::internals::{read as read_zookeeper, write as write_zookeeper},
};

/// The registry that a URL configures, as messages show it: a URL again, without the query.
///
/// # Errors
/// A URL that is wrong.
pub fn shown_url(url: &str) -> Result<String, RegisterError> {
    let url = RegistryUrl::parse(url)?;
    let about = match url.scheme.as_str() {
        "dns" => DnsConfig::from_url(&url)?.about(),
        "etcd" => EtcdConfig::from_url(&url)?.about(),
        "file" => FileBackend::new(FileBackend::config(&url)?)?.about().clone(),
        "gregister" => GregisterConfig::from_url(&url)?.about(),
        "nacos" => NacosConfig::from_url(&url)?.about(),
        "zookeeper" => ZookeeperConfig::from_url(&url)?.about(),
        _ => StaticBackend::new(StaticBackend::config(&url)?)?.about().clone(),
    };
    Ok(about.url().to_owned())
}
