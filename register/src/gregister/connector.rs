//! Connections to a node: TCP, or TLS on it.

use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use ms_security::tls::{Expected, Protocol, Tls, TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use crate::TlsFiles;

/// Certificates, and the name in that of the node.
#[derive(Clone)]
pub(super) struct Secure {
    tls: Tls,
    name: Option<String>,
}

impl Secure {
    /// Reads the files.
    pub(super) fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let tls = match files.identity.clone() {
            Some((certificate, key)) => Tls::mutual(files.ca.clone(), certificate, key),
            None => Tls::one_way_client(files.ca.clone()),
        };
        let secure = Self { tls: tls.build()?, name: files.server_name.clone() };
        if secure.name.is_some() {
            secure.tls.check_expected(secure.expected(""))?;
        }
        Ok(secure)
    }

    fn expected<'a>(&'a self, host: &'a str) -> Expected<'a> {
        match &self.name {
            Some(name) if name.contains("://") => Expected::Identity(name),
            Some(name) => Expected::Host(name),
            None => Expected::Host(host),
        }
    }
}

/// Connects to the host of a URL.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tcp: HttpConnector,
    pub(super) secure: Option<Secure>,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (host, connecting) = (uri.host().unwrap_or_default().to_owned(), self.tcp.call(uri));
        let secure = self.secure.clone();
        Box::pin(async move {
            let tcp = connecting.await?.into_inner();
            let stream: Box<dyn Bytes> = match secure {
                Some(secure) => Box::new(secure.tls.connect(tcp, secure.expected(&host), Protocol::HTTP).await?),
                None => Box::new(tcp),
            };
            Ok(TokioIo::new(Stream(stream)))
        })
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Stream to a node.
pub(super) struct Stream(Box<dyn Bytes>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
