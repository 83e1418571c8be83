//! `ms lb mqtt`.

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Args;
use ms_lb::{MqttBalancer, MqttConfig, Routes, original::MqttFile};
use ms_register::ServiceName;
use ms_rpc::EjectionConfig;
use tracing::warn;

use super::{original, say};
use crate::{registry, signals};

/// Arguments of the MQTT load balancer.
#[derive(Args, Debug)]
pub(crate) struct MqttArgs {
    /// go-micro-service's file; a missing one is written with defaults.
    #[arg(short, long = "original", value_name = "FILE", default_value = "mqtt-load-balance.cfg")]
    c: PathBuf,
}

/// Time for the registry to tell of all services, and for the brokers to answer.
const READY: Duration = Duration::from_secs(10);
/// Time for ZooKeeper to confirm that the balancer has left.
const LEAVE: Duration = Duration::from_secs(3);

pub(super) async fn run(args: MqttArgs) -> Result<(), Box<dyn Error>> {
    const AT: &str = "broker-reg";
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", args.c.display());
    let file = original::read(&args.c, MqttFile::defaults)?;
    file.check().map_err(|error| about(&error))?;
    let own = &file.broker_reg;
    let service = ServiceName::new(&own.server_name).map_err(|error| about(&format!("{AT}.server-name: {error}")))?;
    let (entry, own_url) =
        (own.instance(AT).map_err(|error| about(&error))?, own.url(AT).map_err(|error| about(&error))?);
    let rules = file.rules().map_err(|error| about(&error))?;
    let services = file.services_url().map_err(|error| about(&error))?;
    let services = registry::connect(&services).await.map_err(|failure| failure.about("service-reg"))?;
    let routes = Routes::new(&services, rules, &EjectionConfig::default())?;
    routes.settle(READY).await;
    let (code, backs) = (&own.nodedata.server_uniquecode, &file.recvbroker_info.nets);
    let balancer = MqttBalancer::start(routes, code, &own.nodedata, backs, MqttConfig::default());
    balancer.connected(READY).await?;
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    // Clients that find it are heard: it has subscribed by now.
    let registry = registry::connect(&own_url).await.map_err(|failure| failure.about(AT))?;
    let listed = registry.register(&service, entry).await?;
    say(&format!("load balancer is ready: MQTT at {}", own.nodedata.address()));
    drop(signal.await);
    if let Err(error) = listed.deregister(LEAVE).await {
        warn!("{error}");
    }
    Ok(())
}
