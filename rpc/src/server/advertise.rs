//! Which address of this machine peers should dial.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ms_register::Instance;
use tokio::net::UdpSocket;
use tracing::warn;

use super::ServerError;

/// Address to advertise: the listener's, or, where that is unspecified, the local address of a route to the registry.
pub(super) async fn choose(bound: SocketAddr, registry: &str) -> Result<Instance, ServerError> {
    let ip = if bound.ip().is_unspecified() {
        let ip = towards(registry).await.map_err(|reason| ServerError::Advertise { bound, reason })?;
        if ip.is_loopback() && !hosts(registry).is_empty() {
            warn!(
                "{bound} is listed as {ip}, since the registry is on this machine: other machines cannot dial that; name an \
                 address with `advertise(\"host:port\")`"
            );
        }
        ip
    } else {
        bound.ip()
    };
    Ok(Instance::new(ip.to_string(), bound.port()))
}

/// Hosts of a registry's URL, separated by commas; empty for a registry within this process.
fn hosts(registry: &str) -> &str {
    let hosts = registry.split_once("://").map_or("", |(_, rest)| rest);
    hosts.split(['/', '?']).next().unwrap_or_default()
}

/// Connecting a UDP socket sends nothing: it only asks the routing table.
async fn towards(registry: &str) -> Result<IpAddr, String> {
    let Some(host) = hosts(registry).split(',').find(|host| !host.is_empty()) else {
        // A registry within this process: so are its users.
        return Ok(Ipv4Addr::LOCALHOST.into());
    };
    let local = match source(Ipv4Addr::UNSPECIFIED.into(), host).await {
        Err(_) => source(Ipv6Addr::UNSPECIFIED.into(), host).await,
        local => local,
    };
    match local {
        Ok(local) if !local.is_unspecified() => Ok(local),
        Ok(_) => Err(format!("no route to the registry at {host}")),
        Err(error) => Err(format!("no route to the registry at {host}: {error}")),
    }
}

async fn source(family: IpAddr, host: &str) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((family, 0)).await?;
    socket.connect(host).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_peers_can_dial_is_chosen() {
        for (bound, registry, chosen) in [
            ("10.1.2.3:9112", "etcd://127.0.0.1:2379/ms-rpc", "10.1.2.3:9112"),
            ("0.0.0.0:9112", "etcd://127.0.0.1:2379,127.0.0.1:2380/ms-rpc", "127.0.0.1:9112"),
            ("[::]:9112", "memory://", "127.0.0.1:9112"),
            ("[::]:9112", "nacos://[::1]:8848", "[::1]:9112"),
        ] {
            assert_eq!(choose(bound.parse().unwrap(), registry).await.unwrap().address(), chosen);
        }
    }
}
