//! The connection to a node: every request bounded in time, every error named.

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{AUTHORIZATION, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    GregisterConfig,
    connector::{Connector, Secure},
};
use crate::{About, RegisterError};

/// Cheap to clone; all clones share connections, one for each request under way.
#[derive(Clone)]
pub(super) struct Link {
    client: Client<Connector, Full<Bytes>>,
    /// `http`, or `https`.
    scheme: &'static str,
    address: Arc<str>,
    about: About,
    timeout: Duration,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("url", &self.about.url()).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The node's answer, unless that is an error.
#[derive(Debug)]
pub(super) enum Answer {
    Body(Bytes),
    /// Nothing has changed.
    Same,
    /// The node does not know the thing that was asked for.
    Missing,
}

impl Link {
    /// The longest answer that is read.
    const LARGEST: usize = 64 << 20;
    const IDLE: Duration = Duration::from_secs(30);

    pub(super) fn new(config: &GregisterConfig) -> Result<Self, RegisterError> {
        let about = config.about();
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.timeout));
        tcp.enforce_http(false);
        let secure = config.tls.as_ref().map(Secure::new).transpose().map_err(|error| about.invalid(error))?;
        let scheme = if secure.is_some() { "https" } else { "http" };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Self::IDLE)
            .build(Connector { tcp, secure });
        let authorization = config.token.as_ref().map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| about.invalid("token: not ASCII"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization = authorization.transpose()?;
        Ok(Self {
            client,
            scheme,
            address: config.address.as_str().into(),
            about,
            timeout: config.timeout,
            authorization,
        })
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Reads; the node may hold the answer back for `wait`.
    pub(super) async fn get(
        &self,
        operation: &'static str,
        path: &str,
        wait: Duration,
    ) -> Result<Answer, RegisterError> {
        self.ask(operation, Method::GET, path, Bytes::new(), wait).await
    }

    pub(super) async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Answer, RegisterError> {
        let within = self.timeout + wait;
        self.about.within(within, operation, self.exchange(method, path, body)).await
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, RegisterError> {
        let uri: Uri =
            format!("{}://{}{path}", self.scheme, self.address).parse().map_err(|error| self.about.rejected(error))?;
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            if let Some(value) = &self.authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            self.client.request(request)
        };
        let response = match request().await {
            // A connection of before, which the node has closed: each request does the same when it comes twice.
            Err(error) if !error.is_connect() => request().await,
            answered => answered,
        };
        let response = response.map_err(|error| {
            // The first cause says what to do; those on top of it say that there was one.
            let causes = std::iter::successors(error.source(), |cause| (**cause).source());
            self.about.unreachable(causes.last().map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), Self::LARGEST).collect().await;
        let body = body.map_err(|error| self.about.unreachable(format!("its answer broke off: {error}")))?.to_bytes();
        match status {
            StatusCode::NOT_MODIFIED => Ok(Answer::Same),
            StatusCode::NOT_FOUND => Ok(Answer::Missing),
            status if status.is_success() => Ok(Answer::Body(body)),
            status if status.is_server_error() => Err(self.about.unreachable(self.words(status, &body))),
            status => Err(self.about.rejected(self.words(status, &body))),
        }
    }

    fn words(&self, status: StatusCode, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        format!("{status}: {}", text.trim())
    }

    /// The error for a server that answers as an older node does, or as something else.
    pub(super) fn no_gregister(&self) -> RegisterError {
        self.about.rejected("it has no such path: is it a gregister node of this version?")
    }
}
