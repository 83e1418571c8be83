//! Certificates for both processes of a measurement: the server's makes them, and leaves the client's in a folder that its port and
//! the parent of both name. Ports come again: another run must not find these files.

use std::{env, fs, net::SocketAddr, os::unix::process::parent_id, path::PathBuf};

use ms_rpc::tls::dev::{DevAuthority, Issued};

use crate::peer::Failure;

/// Files of a client.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    /// Certificates for the clients of this server.
    pub(super) fn of(server: SocketAddr) -> Self {
        let folder = env::temp_dir().join(format!("ms-rpc-bench-{}-{}", parent_id(), server.port()));
        let [ca, certificate, key] = ["ca.pem", "own.pem", "own.key"].map(|name| folder.join(name));
        Self { ca, certificate, key }
    }

    /// Authority, client certificate and key, as PEM: as soon as the server has written them.
    pub(super) async fn read(&self) -> [String; 3] {
        let files = [&self.ca, &self.certificate, &self.key];
        loop {
            if let [Ok(ca), Ok(certificate), Ok(key)] = files.map(fs::read_to_string)
                && [&ca, &certificate, &key].iter().all(|text| text.ends_with("-----\n"))
            {
                return [ca, certificate, key];
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Writes a client's files, and returns the authority's and the server's certificates.
pub(super) fn issue(server: SocketAddr) -> Result<(DevAuthority, Issued), Failure> {
    let authority = DevAuthority::new("bench")?;
    let (client, files) = (authority.issue("client")?, Files::of(server));
    if let Some(folder) = files.ca.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(files.certificate, client.certificate)?;
    fs::write(files.key, client.key)?;
    fs::write(files.ca, authority.ca())?;
    let goods = authority.issue("goods")?;
    Ok((authority, goods))
}
