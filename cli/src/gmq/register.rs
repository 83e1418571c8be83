//! A node that joins registers of gmq, over their HTTP.

use std::{sync::Arc, time::Duration};

use ms_mq::{HTTP_ADDRESS, NODE_ID};
use ms_register::{Instance, MsRegister, Registration, ServiceName};
use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::http;
use crate::exit::Failure;

/// Pause before a register that did not answer, or refused, is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause before it is asked whether it still has the node: a register that was restarted may not.
const STILL: Duration = Duration::from_secs(10);
/// Time for leaving.
const LEAVING: Duration = Duration::from_secs(2);

/// A node that is to be listed.
pub(super) struct Joining {
    pub(super) id: u16,
    pub(super) weight: f64,
    /// Address of gmq's TCP protocols.
    pub(super) tcp: String,
    pub(super) http: String,
}

/// A node, and the registers that it joins.
#[derive(Debug)]
pub(crate) struct Registering {
    registers: Vec<String>,
    /// Parameters of `/register`.
    joins: String,
    /// Parameters of `/unregister`.
    leaves: String,
    tcp: String,
    etcd: Option<(Arc<dyn MsRegister>, Instance)>,
}

/// A node as a register lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(default)]
    pub(super) tcp_addr: String,
    #[serde(default)]
    pub(super) http_addr: String,
    #[serde(default)]
    pub(super) weight: u32,
}

/// The nodes that a register lists.
pub(super) async fn nodes(register: &str) -> Result<Vec<Listed>, String> {
    #[derive(Deserialize)]
    struct Nodes {
        #[serde(default)]
        nodes: Option<Vec<Listed>>,
    }
    let answer = http::ask(&format!("{}/getNodes", register.trim_end_matches('/'))).await?;
    if answer.code != 0 {
        return Err(format!("{register}: {}", answer.msg));
    }
    let nodes: Nodes = serde_json::from_value(answer.data).map_err(|error| format!("{register}/getNodes: {error}"))?;
    Ok(nodes.nodes.unwrap_or_default())
}

impl Registering {
    pub(super) fn new(registers: Option<&str>, etcd: Option<&str>, node: &Joining) -> Result<Self, Failure> {
        let registers = registers.into_iter().flat_map(|registers| registers.split(','));
        let registers = registers.map(|one| one.trim().trim_end_matches('/').to_owned());
        let registers: Vec<_> = registers.filter(|one| !one.is_empty()).collect();
        if let Some(wrong) = registers.iter().find(|register| !register.starts_with("http://")) {
            return Err(Failure::Usage(format!("gmq-register: {wrong:?} does not begin with http://")));
        }
        let Joining { id, weight, tcp, http } = node;
        let etcd = etcd.map(|url| {
            let instance =
                Instance::from_address(tcp).map_err(|error| Failure::Usage(format!("gmq-report-tcp: {error}")))?;
            let instance = instance.with_id(id.to_string()).with_weight(*weight);
            let instance = instance.with_metadata(HTTP_ADDRESS, http).with_metadata(NODE_ID, id.to_string());
            Ok::<_, Failure>((in_etcd(url).map_err(|failure| failure.about("gmq-etcd"))?, instance))
        });
        // Old weights are whole numbers: what is above 0 stays so.
        let weight = if *weight > 0.0 { weight.round().max(1.0) } else { 0.0 };
        let (id, weight) = (id.to_string(), weight.to_string());
        let joins = http::form(&[("tcp_addr", tcp), ("http_addr", http), ("weight", &weight), ("node_id", &id)]);
        let leaves = http::form(&[("tcp_addr", tcp)]);
        Ok(Self { registers, joins, leaves, tcp: tcp.clone(), etcd: etcd.transpose()? })
    }

    /// Joins the registers, and again after they lost the node, until `stop` is done; then leaves them.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let mut keeping = JoinSet::new();
        for register in &self.registers {
            keeping.spawn(keep(register.clone(), format!("{register}/register?{}", self.joins), self.tcp.clone()));
        }
        let listed = match self.etcd {
            Some((etcd, instance)) => list(etcd, instance).await,
            None => None,
        };
        stop.await;
        // A request under way must not join again.
        keeping.shutdown().await;
        let mut leaving = JoinSet::new();
        for register in self.registers {
            let url = format!("{register}/unregister?{}", self.leaves);
            leaving.spawn(async move {
                if let Ok(Err(error)) = timeout(LEAVING, http::ask(&url)).await {
                    warn!("the node is still listed for a while: {error}");
                }
            });
        }
        if let Some(listed) = listed
            && let Err(error) = listed.deregister(LEAVING).await
        {
            warn!("the node is still listed for a while: {error}");
        }
        leaving.join_all().await;
    }
}

/// etcd, in gmq's layout.
fn in_etcd(url: &str) -> Result<Arc<dyn MsRegister>, Failure> {
    if !url.starts_with("etcd://") {
        return Err(Failure::Usage(format!("{url:?} is no URL of etcd, such as etcd://127.0.0.1:2379")));
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Ok(ms_register::connect_in_background(&format!("{url}{separator}layout=gmq"))?)
}

/// Keeps the node listed in etcd until the registration ends.
async fn list(etcd: Arc<dyn MsRegister>, instance: Instance) -> Option<Registration> {
    let service = ServiceName::new(ms_mq::SERVICE).ok()?;
    let listed = etcd.register(&service, instance).await;
    listed.inspect_err(|error| warn!("the node is not listed in etcd: {error}")).ok()
}

/// Joins one register, for ever; says once what keeps it out.
async fn keep(register: String, url: String, tcp: String) {
    let mut said = None;
    loop {
        let joined = match http::ask(&url).await {
            Ok(answer) if answer.code == 0 => Ok(()),
            // Also where this node is listed already.
            Ok(answer) => match nodes(&register).await {
                Ok(nodes) if nodes.iter().any(|node| node.tcp_addr == tcp) => Ok(()),
                _ => Err(format!("{register} refuses the node: {}", answer.msg)),
            },
            Err(error) => Err(error),
        };
        match &joined {
            Ok(()) if said != Some(Ok(())) => info!("{register} lists the node"),
            Err(error) if said.as_ref() != Some(&Err(error.clone())) => warn!("the node is not listed: {error}"),
            _ => {}
        }
        let pause = if joined.is_ok() { STILL } else { AGAIN };
        said = Some(joined);
        sleep(pause).await;
    }
}
