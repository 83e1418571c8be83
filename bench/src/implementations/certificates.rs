//! Certificates for both sides of a measurement: the server makes them, and leaves the client's in a folder that its port and its
//! parent, the harness, name. Ports come again: another run must not find these files.

use std::{env, fs, net::SocketAddr, os::unix::process::parent_id, path::PathBuf, process::id, time::Duration};

use ms_rpc::tls::dev::{DevAuthority, Issued};

use tokio::time::timeout;

use crate::peer::Failure;

/// Time for a server to write a client's files.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// Files of a client.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    /// Certificates for clients of this server, in a process that the harness has started, as it has the server.
    pub(super) fn of(server: SocketAddr) -> Self {
        Self::under(parent_id(), server)
    }

    /// The same for the harness itself.
    pub(super) fn of_harness(server: SocketAddr) -> Self {
        Self::under(id(), server)
    }

    fn under(harness: u32, server: SocketAddr) -> Self {
        let folder = env::temp_dir().join(format!("ms-rpc-bench-{harness}-{}", server.port()));
        let [ca, certificate, key] = ["ca.pem", "own.pem", "own.key"].map(|name| folder.join(name));
        Self { ca, certificate, key }
    }

    /// Authority, client certificate and key, as PEM: as soon as the server has written them.
    pub(super) async fn read(&self) -> Result<[String; 3], Failure> {
        let files = [&self.ca, &self.certificate, &self.key];
        let there = async {
            loop {
                if let [Ok(ca), Ok(certificate), Ok(key)] = files.map(fs::read_to_string)
                    && [&ca, &certificate, &key].iter().all(|text| text.ends_with("-----\n"))
                {
                    return [ca, certificate, key];
                }
                tokio::task::yield_now().await;
            }
        };
        let read = timeout(WRITTEN_WITHIN, there).await;
        read.map_err(|_| format!("the server has not written {} within {WRITTEN_WITHIN:?}", self.ca.display()).into())
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
