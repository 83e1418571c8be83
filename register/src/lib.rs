//! One interface over the registries that services find each other through.
//!
//! A *registry* lists the *instances* of each *service*. [`MsRegister`] is the contract, the same on every back end;
//! [`connect`] builds one from a URL:
//!
//! | URL | back end | feature |
//! |---|---|---|
//! | `memory://` | [`Memory`]: in this process | - |
//! | `static://h:p,h:p` | [`Static`]: lists given by hand | - |
//! | `dns://name:port` | `Dns`: A, AAAA and SRV records | `dns` |
//! | `etcd://h:p,h:p/prefix?ttl=10` | `Etcd`: etcd v3 | `etcd` |
//! | `file:///path.toml` | `File`: TOML or JSON that others write | `file` |
//! | `gregister://h:p?ttl=10` | `Gregister`: the node `ms gregister` | `gregister` |
//! | `nacos://h:p?namespace=&group=DEFAULT_GROUP` | `Nacos`: Nacos 2 | `nacos` |
//! | `zookeeper://h:p,h:p/base?session=10` | `Zookeeper`: ZooKeeper 3.6 or later | `zookeeper` |
//! | `union:URL\|URL` | [`Union`]: several registries as one | - |
//!
//! ```
//! use ms_register::{Instance, MsRegister, ServiceName};
//!
//! # async fn example() -> Result<(), ms_register::RegisterError> {
//! let registry = ms_register::connect("memory://").await?;
//! let goods: ServiceName = "goods".parse()?;
//! let registration = registry.register(&goods, Instance::new("127.0.0.1", 9112)).await?;
//! assert_eq!(registry.list(&goods).await?.len(), 1);
//! registration.deregister(std::time::Duration::from_secs(3)).await?;
//! # Ok(())
//! # }
//! ```

mod about;
mod backend;
mod backoff;
mod cache;
mod comments;
mod connect;
#[cfg(feature = "dns")]
mod dns;
mod election;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "gregister")]
mod gregister;
mod instance;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod login;
mod memory;
mod meter;
#[cfg(feature = "nacos")]
mod nacos;
mod observe;
mod owner;
mod register;
mod registry;
mod services;
mod sieve;
mod snapshot;
mod static_list;
#[cfg(any(feature = "etcd", feature = "gregister"))]
#[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "gregister's client reads the files by itself"))]
mod tls;
mod union;
#[cfg_attr(
    not(any(feature = "etcd", feature = "gregister", feature = "nacos", feature = "zookeeper")),
    allow(dead_code, reason = "parts of it serve only the back ends that have servers")
)]
mod url;
mod watch;
#[cfg(feature = "zookeeper")]
mod zookeeper;

pub use about::About;
pub use backend::{Backend, ElectionBackend};
pub use backoff::Backoff;
pub use comments::without_comments;
pub use connect::{connect, connect_in_background};
#[cfg(feature = "dns")]
pub use dns::{Dns, DnsBackend, DnsConfig};
pub use election::{Candidate, Election, Leadership, Master, MasterCell, MasterSnapshot, MasterWatch, Moment, Term};
pub use error::RegisterError;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdBackend, EtcdConfig, EtcdLayout};
#[cfg(feature = "file")]
pub use file::{File, FileBackend};
#[cfg(feature = "gregister")]
pub use gregister::{Gregister, GregisterBackend, GregisterConfig};
pub use instance::{Instance, ServiceName};
pub use login::{Login, Secret};
pub use memory::{Memory, MemoryBackend};
#[cfg(feature = "nacos")]
pub use nacos::{Nacos, NacosBackend, NacosConfig};
pub use observe::{Cell, Observation, Observer};
pub use owner::{LeaseKeeper, Registration, RegistrationState};
pub use register::MsRegister;
pub use registry::Registry;
pub use services::{ServicesCell, ServicesSnapshot, ServicesWatch};
pub use sieve::{Found, Skipped};
pub use snapshot::{Freshness, Snapshot};
pub use static_list::{Static, StaticBackend, StaticLists};
#[cfg(any(feature = "etcd", feature = "gregister"))]
pub use tls::TlsFiles;
pub use union::{Union, UnionBackend};
pub use watch::{SnapshotCell, SnapshotWatch, WatchClosed};
#[cfg(feature = "zookeeper")]
pub use zookeeper::{Zookeeper, ZookeeperBackend, ZookeeperConfig, ZookeeperLayout, ZookeeperPayload};
