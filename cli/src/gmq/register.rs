//! A node that joins registers of gmq, over their HTTP.

use std::time::Duration;

use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::http;

/// Pause before a register that did not answer, or refused, is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause before it is asked whether it still has the node: a register that was restarted may not.
const STILL: Duration = Duration::from_secs(10);
/// Time for leaving.
const LEAVING: Duration = Duration::from_secs(2);

/// A node, and the registers that it joins.
#[derive(Debug)]
pub(crate) struct Registering {
    registers: Vec<String>,
    /// Parameters of `/register`.
    joins: String,
    /// Parameters of `/unregister`.
    leaves: String,
    tcp: String,
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
    pub(super) fn new(registers: &str, id: u16, weight: f64, tcp: String, http: String) -> Result<Self, String> {
        let registers: Vec<_> = registers
            .split(',')
            .map(|one| one.trim().trim_end_matches('/').to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        if let Some(wrong) = registers.iter().find(|register| !register.starts_with("http://")) {
            return Err(format!("gmq-register: {wrong:?} does not begin with http://"));
        }
        // Old weights are whole numbers: what is above 0 stays so.
        let weight = if weight > 0.0 { weight.round().max(1.0) } else { 0.0 };
        let (id, weight) = (id.to_string(), weight.to_string());
        let joins = http::form(&[("tcp_addr", &tcp), ("http_addr", &http), ("weight", &weight), ("node_id", &id)]);
        Ok(Self { registers, joins, leaves: http::form(&[("tcp_addr", &tcp)]), tcp })
    }

    /// Joins the registers, and again after they lost the node, until `stop` is done; then leaves them.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let mut keeping = JoinSet::new();
        for register in &self.registers {
            keeping.spawn(keep(register.clone(), format!("{register}/register?{}", self.joins), self.tcp.clone()));
        }
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
        leaving.join_all().await;
    }
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
