//! What carries frames: a stream of bytes, or the binary messages of a WebSocket.

mod tlv;
mod websocket;

use std::{io, time::Duration};

use bytes::Bytes;

use crate::{
    Refusal,
    frame::{Frame, FrameTooLong},
};

pub(crate) use tlv::Tlv;
pub(crate) use websocket::handshake;

/// A connection to a client, for one task. Each wait may be dropped: nothing is lost but what `send` was sending.
pub(crate) trait Wire: Send {
    /// Waits for bytes of the client. False: it has closed its side.
    fn receive(&mut self) -> impl Future<Output = Result<bool, WireError>> + Send;

    /// The next frame of what was received.
    fn next(&mut self) -> Result<Option<Frame>, WireError>;

    /// Returns true while a frame has begun and is not whole.
    fn has_partial(&self) -> bool;

    /// Sends these frames, and empties the list.
    fn send(&mut self, frames: &mut std::collections::VecDeque<Bytes>) -> impl Future<Output = io::Result<()>> + Send;

    /// Asks a silent client for a sign of life, where the protocol has a way to.
    fn probe(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Says goodbye; `error` is the reason if the client broke a rule. Reads on for a moment, so that what was sent last arrives.
    fn close(&mut self, error: Option<&WireError>) -> impl Future<Output = ()> + Send;
}

/// Time in which a client that is told goodbye closes its side.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a client must not send, or a connection that broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
    #[error("a text message: frames are binary messages")]
    Text,
    #[error("a binary message that does not end with a frame")]
    Cut,
    #[error("{0}")]
    Broken(#[from] io::Error),
    #[error("{0}")]
    Protocol(String),
}

impl WireError {
    /// What the client is told; `None` if there is nobody to tell.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::TooLong(error) => Some((*error).into()),
            Self::Text | Self::Cut | Self::Protocol(_) => {
                Some(Refusal::new(0, ms_rpc::Code::InvalidArgument, self.to_string()))
            }
            Self::Broken(_) => None,
        }
    }
}
