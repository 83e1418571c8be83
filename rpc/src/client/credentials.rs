//! Credentials of a client, and the peers that they may go to.

use std::{error::Error, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::Peer;

/// Largest value of HELLO in bytes: its length has 16 bits.
pub(super) const LONGEST_VALUE: usize = u16::MAX as usize;

/// Credentials on their way from a source.
pub(crate) type Fetched = Pin<Box<dyn Future<Output = Result<Vec<u8>, Box<dyn Error + Send + Sync>>> + Send>>;

/// Credentials of a client.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) origin: Origin,
    /// Permits them to cross a network in plaintext.
    pub(crate) in_plaintext: bool,
}

/// Origin of credentials.
#[derive(Clone)]
pub(crate) enum Origin {
    Fixed(Vec<u8>),
    /// Asked at each dial.
    Source(Arc<dyn Fn() -> Fetched + Send + Sync>),
}

impl Default for Origin {
    fn default() -> Self {
        Self::Fixed(Vec::new())
    }
}

impl Credentials {
    pub(super) fn len(&self) -> usize {
        match &self.origin {
            Origin::Fixed(bytes) => bytes.len(),
            Origin::Source(_) => 0,
        }
    }

    /// Credentials for a connection to this peer, or the reason for having none within `limit`, or for keeping them.
    pub(super) async fn for_peer(&self, peer: &Peer, limit: Duration) -> Result<Vec<u8>, String> {
        let is_plaintext = peer.identity().is_empty();
        let is_beyond = peer.address().is_some_and(|address| !address.ip().to_canonical().is_loopback());
        let is_exposed = is_plaintext && is_beyond && !self.in_plaintext;
        let bytes = match &self.origin {
            Origin::Fixed(bytes) if bytes.is_empty() => return Ok(Vec::new()),
            _ if is_exposed => {
                let remedy =
                    "give the client `.tls(..)`, or `.plaintext_credentials(true)` where the network is trusted";
                return Err(format!("they are not sent in plaintext: {remedy}"));
            }
            Origin::Fixed(bytes) => return Ok(bytes.clone()),
            Origin::Source(source) => match timeout(limit, source()).await {
                Ok(bytes) => bytes.map_err(|error| error.to_string())?,
                Err(_) => return Err(format!("the source did not answer within {limit:?}")),
            },
        };
        match bytes.len() {
            0..=LONGEST_VALUE => Ok(bytes),
            length => Err(format!("they are {length} bytes long, at most {LONGEST_VALUE} can be sent")),
        }
    }
}
