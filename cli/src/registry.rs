//! Registry back ends of this build.

use std::sync::{Arc, LazyLock};

use ms_register::MsRegister;

use crate::exit::Failure;

/// Back ends that are compiled in, by their URL schemes.
const BACK_ENDS: &[&str] = &[
    "memory",
    "static",
    #[cfg(feature = "dns")]
    "dns",
    #[cfg(feature = "etcd")]
    "etcd",
    #[cfg(feature = "file")]
    "file",
    #[cfg(feature = "gregister")]
    "gregister",
    #[cfg(feature = "nacos")]
    "nacos",
    #[cfg(feature = "zookeeper")]
    "zookeeper",
];

/// Text of `--version`.
pub(crate) static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\nregistry back ends: {}", env!("CARGO_PKG_VERSION"), BACK_ENDS.join(", ")));

/// Help of an option that takes a registry's URL.
pub(crate) fn help(what: &str) -> String {
    let schemes: Vec<_> = BACK_ENDS.iter().map(|scheme| format!("{scheme}://")).collect();
    format!("{what}: a URL of one of {}, or several as union:URL|URL", schemes.join(", "))
}

/// Connects to a registry; an error tells the reader of the command line what to do.
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn MsRegister>, Failure> {
    Ok(ms_register::connect(url).await?)
}
