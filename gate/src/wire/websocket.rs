//! Frames as binary messages of a WebSocket (RFC 6455): each message is one frame, or several whole ones.

use std::{collections::VecDeque, io};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        error::CapacityError,
        handshake::server::{Callback, ErrorResponse, Request, Response},
        http::{StatusCode, header::ORIGIN},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{GOODBYE, Wire, WireError};
use crate::frame::{Frame, HEAD};

/// Read buffer of a connection, in bytes.
const READ: usize = 4 << 10;

/// Answers a WebSocket handshake. `origins` are those of the pages whose scripts may connect, `*` is any; a client that names no origin is no
/// page.
///
/// # Errors
/// No handshake, or one of another origin, which is answered with 403.
pub(crate) async fn handshake<S>(stream: S, most: usize, origins: &[String]) -> io::Result<WebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(most + HEAD))
        .max_frame_size(Some(most + HEAD));
    let stream = accept_hdr_async_with_config(stream, Origins(origins), Some(config)).await.map_err(broken)?;
    Ok(WebSocket { stream, received: BytesMut::new(), most })
}

/// Origins of the pages whose scripts may connect.
struct Origins<'a>(&'a [String]);

impl Callback for Origins<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        match request.headers().get(ORIGIN) {
            Some(origin) if !self.0.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes()) => {
                let mut refused = ErrorResponse::new(Some("scripts of this origin may not connect\n".to_owned()));
                *refused.status_mut() = StatusCode::FORBIDDEN;
                Err(refused)
            }
            _ => Ok(response),
        }
    }
}

/// A WebSocket after its handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// Rest of the message that was received last.
    received: BytesMut,
    most: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for WebSocket<S> {
    async fn receive(&mut self) -> Result<bool, WireError> {
        let message = match self.stream.next().await {
            None => return Ok(false),
            Some(Ok(message)) => message,
            Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => return Ok(false),
            Some(Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, .. }))) => {
                let most = self.most + HEAD;
                return Err(WireError::Protocol(format!("a message of {size} bytes: at most {most} are taken")));
            }
            Some(Err(tungstenite::Error::Io(error))) => return Err(error.into()),
            Some(Err(error)) => return Err(WireError::Protocol(error.to_string())),
        };
        match message {
            Message::Binary(data) => {
                self.received = data.into();
                Ok(true)
            }
            Message::Text(_) => Err(WireError::Text),
            Message::Close(_) => Ok(false),
            // A sign of life.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(true),
        }
    }

    fn next(&mut self) -> Result<Option<Frame>, WireError> {
        let frame = Frame::take(&mut self.received, self.most)?;
        if frame.is_none() && !self.received.is_empty() {
            return Err(WireError::Cut);
        }
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Ok(frame)
    }

    fn has_partial(&self) -> bool {
        false
    }

    async fn send(&mut self, frames: &mut VecDeque<Bytes>) -> io::Result<()> {
        while let Some(frame) = frames.pop_front() {
            self.stream.feed(Message::Binary(frame)).await.map_err(broken)?;
        }
        self.stream.flush().await.map_err(broken)
    }

    async fn probe(&mut self) -> io::Result<()> {
        self.stream.send(Message::Ping(Bytes::new())).await.map_err(broken)
    }

    async fn close(&mut self, error: Option<&WireError>) {
        let code = match error {
            None | Some(WireError::Broken(_)) => CloseCode::Away,
            Some(WireError::Text) => CloseCode::Unsupported,
            Some(WireError::TooLong(_)) => CloseCode::Size,
            Some(WireError::Cut) => CloseCode::Invalid,
            Some(WireError::Protocol(_)) => CloseCode::Protocol,
        };
        let reason = error.map(ToString::to_string).unwrap_or_default();
        let closing = async {
            self.stream.close(Some(CloseFrame { code, reason: reason.into() })).await?;
            while self.stream.next().await.is_some_and(|read| read.is_ok()) {}
            Ok::<_, tungstenite::Error>(())
        };
        let _ = timeout(GOODBYE, closing).await;
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::other(error.to_string()),
    }
}
