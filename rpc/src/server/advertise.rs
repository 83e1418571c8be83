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
        towards(registry).await.map_err(|reason| ServerError::Advertise { bound, reason })?
    } else {
        bound.ip()
    };
    Ok(Instance::new(ip.to_string(), bound.port()))
}

/// Reason to doubt that callers can dial this address, which is listed in the registry.
pub(super) fn doubt(bound: SocketAddr, advertised: &Instance, registry: &str) -> Option<String> {
    let is_far = hosts(registry).any(|host| !is_of_this_machine(host));
    let is_near = bound.ip().is_unspecified() && hosts(registry).next().is_some();
    let is_loopback = is_of_this_machine(&advertised.address());
    (is_loopback && (is_far || is_near)).then(|| {
        format!(
            "{} is listed in {registry}: callers on other machines cannot dial it; give an address that they can (`advertise`)",
            advertised.address()
        )
    })
}

/// The hosts of a registry's URL, or of all those that a union names.
fn hosts(registry: &str) -> impl Iterator<Item = &str> {
    registry.split('|').flat_map(|url| {
        let hosts = url.split_once("://").map_or("", |(_, rest)| rest);
        hosts.split(['/', '?']).next().unwrap_or_default().split(',').filter(|host| !host.is_empty())
    })
}

/// Returns true for `host:port` whose host is a loopback address, or the name of one (RFC 6761, section 6.3).
fn is_of_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

async fn towards(registry: &str) -> Result<IpAddr, String> {
    let Some(host) = hosts(registry).next() else {
        // A registry within this process: so are its users.
        return Ok(Ipv4Addr::LOCALHOST.into());
    };
    match local(host).await {
        Ok(local) if !local.is_unspecified() => Ok(local),
        Ok(_) => Err(format!("no route to the registry at {host}")),
        // Its name may not resolve yet. Most machines have one address that all others can dial.
        Err(error) => match local(ELSEWHERE).await {
            Ok(local) if !(local.is_unspecified() || local.is_loopback()) => {
                warn!(
                    "no route to the registry at {host} ({error}): {local} is advertised, the address of other routes"
                );
                Ok(local)
            }
            _ => Err(format!("no route to the registry at {host}: {error}")),
        },
    }
}

/// An address that is nobody's (RFC 5737), for the route that most addresses take.
const ELSEWHERE: &str = "198.51.100.1:9";

/// Local address of the route to a host.
async fn local(host: &str) -> io::Result<IpAddr> {
    match source(Ipv4Addr::UNSPECIFIED.into(), host).await {
        Err(_) => source(Ipv6Addr::UNSPECIFIED.into(), host).await,
        local => local,
    }
}

/// Connecting a UDP socket sends nothing: it only asks the routing table.
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
            ("[::]:9112", "nacos://[::1]:8848?namespace=&group=g", "[::1]:9112"),
            ("0.0.0.0:9112", "union:nacos://127.0.0.1:8848|etcd://10.0.0.1:2379/ms-rpc", "127.0.0.1:9112"),
        ] {
            assert_eq!(choose(bound.parse().unwrap(), registry).await.unwrap().address(), chosen);
        }
    }

    #[test]
    fn an_address_that_others_cannot_dial_is_doubted() {
        for (bound, listed, registry, is_doubted) in [
            ("127.0.0.1:1", "127.0.0.1:1", "etcd://127.0.0.1:2379/ms-rpc", false),
            ("127.0.0.1:1", "127.0.0.1:1", "memory://", false),
            ("0.0.0.0:1", "127.0.0.1:1", "memory://", false),
            ("0.0.0.0:1", "127.0.0.1:1", "etcd://localhost:2379/ms-rpc", true),
            ("127.0.0.1:1", "127.0.0.1:1", "etcd://etcd.example:2379/ms-rpc", true),
            ("[::1]:1", "[::1]:1", "union:nacos://[::1]:8848|etcd://10.0.0.1:2379", true),
            ("127.0.0.1:1", "10.0.0.7:1", "etcd://10.0.0.1:2379/ms-rpc", false),
            ("0.0.0.0:1", "10.0.0.7:1", "etcd://10.0.0.1:2379/ms-rpc", false),
        ] {
            let advertised = Instance::from_address(listed).unwrap();
            let doubt = doubt(bound.parse().unwrap(), &advertised, registry);
            assert_eq!(doubt.is_some(), is_doubted, "{bound} {listed} {registry}: {doubt:?}");
        }
    }
}
