//! The TCP port of gmq at a queue node.

use std::{error::Error, net::SocketAddr};

use ms_gmq::GmqServer;

use crate::door::Door;

/// Listens, where strangers do not get in: the protocols have no token, so certificates of clients take its place.
pub(crate) async fn bind(address: SocketAddr, door: &Door) -> Result<GmqServer, Box<dyn Error>> {
    door.check_without_tokens("gmq-tcp", address)?;
    let server = GmqServer::bind(address).await.map_err(|error| format!("gmq-tcp: {address}: {error}"))?;
    Ok(match &door.tls {
        Some(tls) => server.tls(tls),
        None => server,
    })
}
