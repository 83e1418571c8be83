//! Doors of the servers: certificates and tokens, and no door that is open to a network by accident.

use std::{error::Error, net::SocketAddr, path::PathBuf};

use clap::Args;
use ms_http::Access;
use ms_rpc::{
    auth::Tokens,
    tls::{Tls, TlsBuilder},
};
use serde::Deserialize;
use tracing::warn;

/// Arguments about certificates and tokens.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct DoorArgs {
    /// The certificate in PEM, its chain behind it: the server then speaks TLS alone. Read again when the file changes.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert, in PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Authorities, in PEM: every client must present a certificate that one of them signed.
    #[arg(long, requires = "cert")]
    client_ca: Option<PathBuf>,
    /// The word that every request must say. Better in a file: others on this machine see arguments.
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file of lines of `PRINCIPAL TOKEN`, and the end of its validity if it has one; read again when it changes.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Host names that requests without a token may ask for, such as that of a proxy: separated by commas. Addresses and localhost need
    /// none.
    #[arg(long)]
    public_name: Option<String>,
    /// Listens beyond loopback without TLS or a token, where the network is trusted.
    #[arg(long)]
    insecure: bool,
}

/// Name of the holder of `--token`.
const HOLDER: &str = "token";

impl DoorArgs {
    /// With what a file says where nothing was given.
    pub(crate) fn or(self, file: Self) -> Self {
        let has_token = self.token.is_some() || self.token_file.is_some();
        let (token, token_file) = if has_token { (None, None) } else { (file.token, file.token_file) };
        Self {
            cert: self.cert.or(file.cert),
            key: self.key.or(file.key),
            client_ca: self.client_ca.or(file.client_ca),
            token: self.token.or(token),
            token_file: self.token_file.or(token_file),
            public_name: self.public_name.or(file.public_name),
            insecure: self.insecure || file.insecure,
        }
    }

    /// Files of the certificate and its key.
    pub(crate) fn certificate(&self) -> Option<(PathBuf, PathBuf)> {
        self.cert.clone().zip(self.key.clone())
    }

    /// Reads the files.
    pub(crate) fn open(self) -> Result<Door, Box<dyn Error>> {
        let knows_clients = self.client_ca.is_some();
        let tls = match (self.cert, self.key, self.client_ca) {
            (Some(cert), Some(key), None) => Some(Tls::one_way_server(cert, key)),
            (Some(cert), Some(key), Some(ca)) => Some(Tls::mutual(ca, cert, key)),
            (None, None, None) => None,
            _ => return Err("cert: it needs --key, and --key and --client-ca need it".into()),
        };
        let tls = tls.map(TlsBuilder::build).transpose().map_err(|error| format!("cert: {error}"))?;
        let tokens = match (self.token.filter(|token| !token.is_empty()), self.token_file) {
            (Some(_), Some(_)) => return Err("token: give it, or --token-file, but not both".into()),
            (Some(token), None) => Some(Tokens::single(HOLDER, token)),
            (None, Some(file)) => Some(Tokens::from_file(file).map_err(|error| format!("token-file: {error}"))?),
            (None, None) => None,
        };
        let names = self.public_name.unwrap_or_default();
        let names = names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        Ok(Door { tls, tokens, names, is_insecure: self.insecure, knows_clients })
    }
}

/// Certificates and tokens of a server.
pub(crate) struct Door {
    pub(crate) tls: Option<Tls>,
    pub(crate) tokens: Option<Tokens>,
    names: Vec<String>,
    is_insecure: bool,
    /// Every client presents a certificate.
    knows_clients: bool,
}

impl Door {
    /// Guard of routes.
    pub(crate) fn access(&self) -> Access {
        let access = self.names.iter().fold(Access::open(), |access, name| access.with_name(name));
        match &self.tokens {
            Some(tokens) => access.with_tokens(tokens),
            None => access,
        }
    }

    /// Returns true if callers have names: of their tokens or certificates.
    pub(crate) fn knows_callers(&self) -> bool {
        self.tokens.is_some() || self.knows_clients
    }

    /// Refuses an address that strangers reach, unless they meet TLS there: for protocols that have no token.
    pub(crate) fn check_encrypted(&self, what: &str, address: SocketAddr) -> Result<(), Box<dyn Error>> {
        if address.ip().is_loopback() || self.tls.is_some() || self.is_insecure {
            return Ok(());
        }
        let text = format!(
            "{what}: {address} can be reached by others: give --cert and --key, or --insecure where the network is trusted"
        );
        Err(text.into())
    }

    /// Refuses an address that strangers reach, unless they meet TLS or a token there.
    pub(crate) fn check(&self, what: &str, address: SocketAddr) -> Result<(), Box<dyn Error>> {
        if address.ip().is_loopback() {
            return Ok(());
        }
        if self.tls.is_none() && self.tokens.is_none() && !self.is_insecure {
            let text = format!(
                "{what}: {address} can be reached by others: give --cert and --key, or --token-file; or --insecure where the network \
                 is trusted"
            );
            return Err(text.into());
        }
        if self.tls.is_none() && self.tokens.is_some() {
            warn!("{what}: the network between {address} and its clients reads the tokens: give --cert and --key");
        }
        Ok(())
    }

    /// The same for a protocol that has no tokens: where a token is asked for elsewhere, clients need certificates here.
    pub(crate) fn check_without_tokens(&self, what: &str, address: SocketAddr) -> Result<(), Box<dyn Error>> {
        if self.is_insecure || self.knows_clients {
            return Ok(());
        }
        if self.tokens.is_some() {
            let text = format!(
                "{what}: its protocols have no token: give --client-ca, so that clients present certificates; or --insecure if \
                 whoever reaches {address} may use the queues"
            );
            return Err(text.into());
        }
        self.check(what, address)
    }
}
