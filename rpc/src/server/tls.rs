//! A server that takes TLS.

use super::{Server, ServerError};
use crate::{
    net::{TLS_KEY, TLS_REQUIRED},
    tls::{Tls, TlsAccept},
};

impl Server {
    /// Takes TLS alone: a client in plaintext is told so, and refused. Registered with the metadata `ms.tls=required`. Replaces
    /// [`accept_with`](Self::accept_with).
    pub fn tls(self, tls: &Tls) -> Self {
        self.secure(tls, false).metadata(TLS_KEY, TLS_REQUIRED)
    }

    /// Takes TLS and plaintext on one port, told apart by the first byte: for the time in which clients move to TLS. Registered with
    /// the metadata `ms.tls=permissive`. The gauge `ms_rpc_plaintext_connections` counts the clients that have not moved yet.
    pub fn tls_permissive(self, tls: &Tls) -> Self {
        self.secure(tls, true).metadata(TLS_KEY, "permissive")
    }

    fn secure(mut self, tls: &Tls, is_permissive: bool) -> Self {
        self.tls = Some(tls.clone());
        self.accept_with(TlsAccept { tls: tls.clone(), is_permissive })
    }

    pub(super) fn check_tls(&self) -> Result<(), ServerError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check_server().map_err(ServerError::Tls))
    }
}
