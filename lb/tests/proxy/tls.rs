//! HTTPS to clients, with a certificate that changes.

use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

use crate::support::{Shop, rule};
use ms_lb::{Choice, KeySource};
use ms_rpc::{
    Balancer,
    tls::{Expected, Pem, Protocol, Tls, TlsStream, dev::DevAuthority},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a certificate of this authority, and its key.
fn write(folder: &Path, authority: &DevAuthority) {
    let issued = authority.issue("lb").unwrap();
    fs::write(folder.join("lb.pem"), issued.certificate).unwrap();
    fs::write(folder.join("lb.key"), issued.key).unwrap();
}

/// Connects a client that trusts this authority.
async fn connect(authority: &DevAuthority, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let tls = Tls::one_way_client(Pem::bytes(authority.ca())).build().unwrap();
    tls.connect(TcpStream::connect(address).await?, Expected::Host("127.0.0.1"), Protocol::HTTP).await
}

/// Asserts that a request over this connection is answered.
async fn serves(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The body is JSON.
    while !answer.ends_with(b"}") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "the connection ends: {}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_new_certificate_is_used_for_the_next_connection() {
    let (old, new) = (DevAuthority::new("test").unwrap(), DevAuthority::new("test").unwrap());
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &old);
    let tls = Tls::one_way_server(folder.path().join("lb.pem"), folder.path().join("lb.key")).build().unwrap();
    let shop = Shop::open(1).await;
    let choice = Choice::Balanced(Balancer::P2c.into(), KeySource::None);
    let front = shop.secured(vec![rule(".*", "shop", choice)], &tls).await;
    let mut standing = connect(&old, front.address).await.unwrap();
    serves(&mut standing).await;
    assert!(connect(&new, front.address).await.is_err());

    write(folder.path(), &new);
    assert!(tls.reload().unwrap());
    serves(&mut connect(&new, front.address).await.unwrap()).await;
    let error = connect(&old, front.address).await.unwrap_err();
    assert!(error.to_string().contains("an authority that is not trusted here"), "{error}");
    // Connections that stand go on.
    serves(&mut standing).await;
}
