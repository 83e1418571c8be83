use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// A port of 127.0.0.1 that is free, and so is each port at one of `offsets` above it.
///
/// Taken from below the range that the system gives to outgoing connections: a server that is down for a while finds its
/// port free when it starts again.
pub(crate) fn free(offsets: &[u16]) -> io::Result<u16> {
    for _ in 0..200 {
        let port = fastrand::u16(15_000..30_000);
        if is_free(port) && offsets.iter().all(|offset| is_free(port + offset)) {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port between 15000 and 30000"))
}

/// Whether nobody listens there.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// So many addresses with free ports.
pub(crate) fn addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let ports = (0..count).map(|_| free(&[]));
    ports.map(|port| port.map(|port| (Ipv4Addr::LOCALHOST, port).into())).collect()
}
