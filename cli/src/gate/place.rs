//! Addresses of a gate: those that were given, those of a `dinx.json`, and those beside them.

use std::{error::Error, net::SocketAddr, sync::Arc};

use ms_gate::GATES;
use ms_register::{Instance, MsRegister};

use super::GateArgs;
use crate::door::Door;

/// Where a gate listens, and what it is called.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) tcp: SocketAddr,
    pub(super) ws: SocketAddr,
    pub(super) rpc: SocketAddr,
    pub(super) http: SocketAddr,
    /// What peers dial, where it is not what RPC listens on.
    pub(super) advertise: Option<Instance>,
}

impl Place {
    pub(super) async fn of(args: &GateArgs, registry: &Arc<dyn MsRegister>) -> Result<Self, Box<dyn Error>> {
        let listed = match &args.dinx {
            Some(_) => Some(listed(registry, args.node_id).await?),
            None => None,
        };
        let clients = listed.as_ref().and_then(|(_, gate)| gate.metadata().get("dinx.clients"));
        let tcp = match (args.tcp, clients) {
            (Some(address), _) => address,
            (None, Some(address)) => address.parse().map_err(|_| {
                format!("dinx: the gate's address {address} is no IP address and port: say by --tcp where it listens")
            })?,
            (None, None) => SocketAddr::from(([127, 0, 0, 1], 10_000)),
        };
        let above = |ip, count: u16| {
            // Port 0 is any, and so is the one above it.
            let port = if tcp.port() == 0 { Some(0) } else { tcp.port().checked_add(count) };
            port.map(|port| SocketAddr::new(ip, port))
                .ok_or("tcp: there is no port above it: give --ws, --rpc and --http")
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0)).ip();
        let advertise = match (&args.advertise, &listed) {
            (Some(address), _) => Some(Instance::from_address(address).map_err(|error| format!("advertise: {error}"))?),
            (None, Some((_, gate))) => Some(gate.clone()),
            (None, None) => None,
        };
        // Peers dial what the file says.
        let rpc_ip = if listed.is_some() { tcp.ip() } else { loopback };
        Ok(Self {
            group: args.name.clone().or_else(|| listed.map(|(group, _)| group)).unwrap_or_else(|| GATES.to_owned()),
            tcp,
            ws: args.ws.map_or_else(|| above(tcp.ip(), 1), Ok)?,
            rpc: args.rpc.map_or_else(|| above(rpc_ip, 2), Ok)?,
            http: args.http.map_or_else(|| above(loopback, 3), Ok)?,
            advertise,
        })
    }

    /// Refuses addresses that strangers reach and are not guarded.
    pub(super) fn check(&self, door: &Door) -> Result<(), Box<dyn Error>> {
        // Clients have no token.
        door.check_encrypted("tcp", self.tcp)?;
        door.check_encrypted("ws", self.ws)?;
        door.check("rpc", self.rpc)?;
        door.check("http", self.http)
    }
}

/// The gate of this ID in a `dinx.json`, or the only one, with its group.
async fn listed(registry: &Arc<dyn MsRegister>, id: Option<u32>) -> Result<(String, Instance), Box<dyn Error>> {
    let mut gates = Vec::new();
    for service in registry.services().await? {
        for instance in registry.list(&service).await? {
            if instance.metadata().contains_key("dinx.clients") {
                gates.push((service.as_str().to_owned(), instance));
            }
        }
    }
    let id_of = |instance: &Instance| instance.metadata().get("dinx.id").cloned().unwrap_or_default();
    gates.sort_by_key(|(_, gate)| id_of(gate).parse::<u64>().unwrap_or_default());
    let ids: Vec<_> = gates.iter().map(|(_, gate)| id_of(gate)).collect();
    match id {
        None if gates.len() > 1 => Err(format!("node-id: which gate is this, of {}?", ids.join(", ")).into()),
        None => gates.pop().ok_or_else(|| "dinx: no server has Type 1, a gate's".into()),
        Some(id) => gates
            .into_iter()
            .find(|(_, gate)| id_of(gate) == id.to_string())
            .ok_or_else(|| format!("node-id: no gate has the ID {id}, only {}", ids.join(", ")).into()),
    }
}
