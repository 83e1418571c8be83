//! What an HTTP load balancer does, whichever file says so.

use std::{error::Error, net::SocketAddr, path::Path};

use ms_lb::{ProxyConfig, Rule, Settings, original::HttpFile};
use ms_register::{Instance, ServiceName};
use ms_rpc::EjectionConfig;

use super::original;

/// The content of a file, checked.
pub(super) struct Plan {
    pub(super) listen: SocketAddr,
    /// URL of the registry of the services.
    pub(super) registry: String,
    pub(super) rules: Vec<Rule>,
    pub(super) proxy: ProxyConfig,
    pub(super) ejection: EjectionConfig,
    own: Own,
}

/// Entry of the balancer itself.
enum Own {
    None,
    /// Its address is in the file.
    Original(Entry),
    /// Its address may be that which it listens on.
    Settings(String, ms_lb::OwnEntry),
}

/// An instance, and where it is listed.
pub(super) struct Entry {
    pub(super) registry: String,
    pub(super) service: ServiceName,
    pub(super) instance: Instance,
}

impl Plan {
    /// Of go-micro-service's file.
    pub(super) async fn original(path: &Path, listen: Option<SocketAddr>) -> Result<Self, Box<dyn Error>> {
        let about = |error: Box<dyn Error>| format!("{}: {error}", path.display());
        let file = original::read(path, HttpFile::defaults)?;
        Self::of_original(&file, listen).await.map_err(|error| about(error).into())
    }

    async fn of_original(file: &HttpFile, listen: Option<SocketAddr>) -> Result<Self, Box<dyn Error>> {
        const AT: &str = "loadbalance-info";
        let own = &file.loadbalance_info;
        let service = ServiceName::new(&own.server_name).map_err(|error| format!("{AT}.server-name: {error}"))?;
        let entry = Entry { registry: own.url(AT)?, service, instance: own.instance(AT)? };
        let listen = match listen {
            Some(listen) => listen,
            None => {
                let node = &own.nodedata;
                original::listening(&node.host, node.port).await.map_err(|error| format!("{AT}.nodedata.{error}"))?
            }
        };
        Ok(Self {
            listen,
            registry: file.services_url()?,
            rules: file.rules()?,
            proxy: ProxyConfig::default(),
            ejection: EjectionConfig::default(),
            own: Own::Original(entry),
        })
    }

    /// Of settings in TOML.
    pub(super) fn settings(path: &Path, listen: Option<SocketAddr>) -> Result<Self, Box<dyn Error>> {
        let about = |error: &dyn Error| format!("config: {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| about(&error))?;
        let settings = Settings::parse(&text).map_err(|error| about(&error))?;
        let own = match settings.register {
            Some(own) => Own::Settings(own.registry.clone().unwrap_or_else(|| settings.registry.clone()), own),
            None => Own::None,
        };
        Ok(Self {
            listen: listen.unwrap_or(settings.listen),
            registry: settings.registry,
            rules: settings.rules,
            proxy: settings.proxy,
            ejection: settings.ejection,
            own,
        })
    }

    /// The balancer's own entry, once it listens on this address.
    pub(super) fn entry(self, listening: SocketAddr) -> Result<Option<Entry>, Box<dyn Error>> {
        Ok(match self.own {
            Own::None => None,
            Own::Original(entry) => Some(entry),
            Own::Settings(registry, own) => {
                let service = ServiceName::new(&own.service).map_err(|error| format!("register.service: {error}"))?;
                Some(Entry { registry, service, instance: own.instance(listening)? })
            }
        })
    }
}
