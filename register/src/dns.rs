//! Services that are names in the DNS.

mod config;

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use hickory_resolver::{
    ConnectionProvider, Resolver, TokioResolver,
    net::{DnsError, NetError, NoRecords},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType, rdata::SRV},
    },
};
use tokio::time::{Instant, sleep_until};

use crate::{
    About, Backend, Found, Instance, LeaseKeeper, RegisterError, Registry, ServiceName, Skipped, SnapshotCell,
};

pub use config::DnsConfig;

/// `dns://`: each address of a name is an instance (A and AAAA records), or each SRV record is. Names are resolved again when
/// their time to live has passed.
///
/// Registering succeeds and publishes nothing: whoever runs the zone writes it, such as Kubernetes for a headless service.
pub type Dns = Registry<DnsBackend>;

/// The back end of [`Dns`].
pub struct DnsBackend {
    config: DnsConfig,
    about: About,
    resolver: TokioResolver,
}

/// Records of one name, and the time until which they are good.
struct Resolved<T> {
    records: Vec<T>,
    until: Instant,
}

impl DnsBackend {
    /// Shortest time between two resolutions of a name. A time to live of 0 means "do not keep", not "ask without end".
    const SHORTEST: Duration = Duration::from_secs(1);
    /// Weight of an SRV record with weight 0 beside others: "a very small chance of being selected" (RFC 2782).
    const SLIGHT: f64 = 0.01;

    /// The name that is asked for.
    fn name(&self, service: &ServiceName) -> String {
        self.config.name.replace(DnsConfig::PLACEHOLDER, service.as_str())
    }

    async fn resolve(&self, service: &ServiceName) -> Result<Resolved<Found>, RegisterError> {
        let name = self.name(service);
        let resolving = async {
            match self.config.port {
                Some(port) => {
                    let found = self.addresses(&name).await?;
                    let records = found.records.iter().map(|ip| Ok(Instance::new(ip.to_string(), port)));
                    Ok(Resolved { records: records.collect(), until: found.until })
                }
                None => self.services_at(&name).await,
            }
        };
        self.about.within(self.config.timeout, "resolve the name", resolving).await
    }

    async fn addresses(&self, name: &str) -> Result<Resolved<IpAddr>, RegisterError> {
        let found = self.known(name, self.resolver.lookup_ip(name).await)?;
        Ok(found.map_or_else(Resolved::nothing, |found| Resolved {
            records: found.iter().collect(),
            until: Instant::from_std(found.valid_until()),
        }))
    }

    /// The targets of the SRV records of the most preferred priority (RFC 2782), each with a share of its record's weight.
    async fn services_at(&self, name: &str) -> Result<Resolved<Found>, RegisterError> {
        let answer = self.resolver.lookup(name, RecordType::SRV).await;
        let Some(answer) = self.known(name, answer)? else { return Ok(Resolved::nothing()) };
        let mut resolved = Resolved { records: Vec::new(), until: Instant::from_std(answer.valid_until()) };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            // The target `.` says that there is no such service.
            RData::SRV(record) if !record.target.is_root() => Some(record),
            _ => None,
        });
        let preferred = preferred(records);
        let is_weighted = preferred.iter().any(|record| record.weight > 0);
        for record in preferred {
            let weight = match (record.weight, is_weighted) {
                (0, true) => Self::SLIGHT,
                (0, false) => Instance::DEFAULT_WEIGHT,
                (weight, _) => weight.into(),
            };
            let target = record.target.to_string();
            let found = self.addresses(&target).await?;
            resolved.until = resolved.until.min(found.until);
            let share = weight / f64::from(u32::try_from(found.records.len()).unwrap_or(u32::MAX).max(1));
            if found.records.is_empty() {
                resolved.records.push(Err(Skipped::new(target, "its name has no address")));
            }
            let instances = found.records.iter().map(|ip| Instance::new(ip.to_string(), record.port));
            resolved.records.extend(instances.map(|instance| Ok(instance.with_weight(share))));
        }
        Ok(resolved)
    }

    /// `None`: there is an answer, and it says that there are no such records.
    fn known<T>(&self, name: &str, answer: Result<T, NetError>) -> Result<Option<T>, RegisterError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                response_code: ResponseCode::NXDomain | ResponseCode::NoError,
                ..
            }))) => Ok(None),
            Err(error) => Err(self.about.unreachable(format!("{name}: {error}"))),
        }
    }
}

impl<T> Resolved<T> {
    /// An answer without records, whose time to live is not known.
    fn nothing() -> Self {
        Self { records: Vec::new(), until: Instant::now() }
    }
}

/// The records of the lowest number: the others are for when none of these is there.
fn preferred<'a>(records: impl Iterator<Item = &'a SRV> + Clone) -> Vec<&'a SRV> {
    let lowest = records.clone().map(|record| record.priority).min();
    records.filter(|record| Some(record.priority) == lowest).collect()
}

#[async_trait]
impl Backend for DnsBackend {
    type Config = DnsConfig;

    fn new(config: DnsConfig) -> Result<Self, RegisterError> {
        config.check()?;
        let about = config.about();
        let resolver = config.resolver().map_err(|error| about.invalid(error))?;
        Ok(Self { config, about, resolver })
    }

    fn about(&self) -> &About {
        &self.about
    }

    /// A name that depends on the service has nothing to ask for yet.
    async fn connect(&self) -> Result<(), RegisterError> {
        if self.config.name.contains(DnsConfig::PLACEHOLDER) {
            return Ok(());
        }
        self.resolve(&ServiceName::new("connect")?).await.map(drop)
    }

    fn check(&self, service: &ServiceName, _: Option<&Instance>) -> Result<(), RegisterError> {
        let longest = service.as_str().split('.').map(str::len).max().unwrap_or_default();
        if self.config.name.contains(DnsConfig::PLACEHOLDER) && (service.as_str().contains(':') || longest > 63) {
            return Err(RegisterError::InvalidName {
                name: service.to_string(),
                reason: "a name in the DNS has no colon, and at most 63 characters between dots".to_owned(),
            });
        }
        Ok(())
    }

    fn lease(&self, _: &ServiceName, _: &Instance) -> Option<Box<dyn LeaseKeeper>> {
        None
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Found>, RegisterError> {
        Ok(self.resolve(service).await?.records)
    }

    async fn follow(&self, service: &ServiceName, cell: &SnapshotCell) -> Result<(), RegisterError> {
        loop {
            let resolved = self.resolve(service).await?;
            cell.refresh(resolved.records);
            let now = Instant::now();
            sleep_until(resolved.until.clamp(now + Self::SHORTEST, now + self.config.refresh)).await;
        }
    }
}

impl fmt::Debug for DnsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A resolver that keeps no answers: they are kept in snapshots, for as long as they are good.
fn uncached<P: ConnectionProvider>(
    mut builder: hickory_resolver::ResolverBuilder<P>,
    timeout: Duration,
) -> Result<Resolver<P>, NetError> {
    let options = builder.options_mut();
    options.cache_size = 0;
    // Two tries within the time of a request.
    (options.timeout, options.attempts) = (timeout * 2 / 5, 2);
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}
