//! Nacos's HTTP interface, for what its gRPC has not: logging in, and instances that are out of service. No proxy is asked, and
//! the password stands in bodies alone.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nacos_sdk::api::plugin::{AuthContext, AuthPlugin, LoginIdentityContext, RequestResource};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::NacosConfig;
use crate::{About, Login, RegisterError};

/// Cheap to clone; all clones share one login.
#[derive(Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    client: Client<HttpConnector, Full<Bytes>>,
    servers: Vec<String>,
    /// Without a slash at its end.
    context_path: String,
    about: About,
    timeout: Duration,
    login: Option<Login>,
    token: Mutex<Option<Token>>,
}

struct Token {
    text: String,
    renew_at: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginAnswer {
    access_token: String,
    /// In seconds.
    token_ttl: u64,
}

#[derive(Deserialize)]
struct InstanceAnswer {
    enabled: bool,
}

impl Http {
    /// The longest answer that is read, in bytes.
    const LARGEST: usize = 1 << 20;
    /// Name of the token in gRPC and in HTTP.
    const TOKEN: &str = "accessToken";

    pub(super) fn new(config: &NacosConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.timeout / u32::try_from(config.servers.len()).unwrap_or(1).max(1)));
        // Connections are not kept: requests are rare, and come from two runtimes.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self(Arc::new(Shared {
            client,
            servers: config.servers.clone(),
            context_path: config.context_path.trim_end_matches('/').to_owned(),
            about: config.about(),
            timeout: config.timeout,
            login: config.login.clone(),
            token: Mutex::default(),
        }))
    }

    /// Logs in, unless there is no user or the last login is good for a while.
    pub(super) async fn log_in(&self) -> Result<(), RegisterError> {
        let Some(login) = &self.0.login else { return Ok(()) };
        if self.token().as_ref().is_some_and(|token| Instant::now() < token.renew_at) {
            return Ok(());
        }
        let user = [("username", login.username.as_str()), ("password", login.password.expose())];
        let form = Serializer::new(String::new()).extend_pairs(user).finish();
        let (status, body) = self.ask("log in", Method::POST, "/v1/auth/login", form).await?;
        if status.is_server_error() {
            return Err(self.0.about.unreachable(words(status, &body)));
        }
        if !status.is_success() {
            return Err(self.0.about.rejected(words(status, &body)));
        }
        let answer: LoginAnswer = serde_json::from_slice(&body)
            .map_err(|_| self.0.about.rejected(format!("the login of `{}`: no token in its answer", login.username)))?;
        let renew_at = Instant::now() + Duration::from_secs(answer.token_ttl) / 2;
        *self.token() = Some(Token { text: answer.access_token, renew_at });
        Ok(())
    }

    /// Path of the instance that `parameters` name, with the token.
    async fn instance(&self, parameters: &[(&str, &str)]) -> Result<String, RegisterError> {
        self.log_in().await?;
        let token = self.token().as_ref().map(|token| token.text.clone());
        let token = token.as_deref().map(|token| (Self::TOKEN, token));
        let query = Serializer::new(String::new()).extend_pairs(parameters).extend_pairs(token).finish();
        Ok(format!("/v1/ns/instance?{query}"))
    }

    /// Changes the instance as the console does. `parameters` name it, and what is changed.
    pub(super) async fn revise(&self, parameters: &[(&str, &str)]) -> Result<(), RegisterError> {
        let path = self.instance(parameters).await?;
        let (status, body) = self.ask("write the instance", Method::PUT, &path, String::new()).await?;
        match status {
            status if status.is_success() => Ok(()),
            status if status.is_server_error() => Err(self.0.about.unreachable(words(status, &body))),
            status => Err(self.0.about.rejected(words(status, &body))),
        }
    }

    /// Returns true if an operator has disabled the instance. `parameters` name it.
    pub(super) async fn is_disabled(&self, parameters: &[(&str, &str)]) -> Result<bool, RegisterError> {
        let path = self.instance(parameters).await?;
        let (status, body) = self.ask("read the instance", Method::GET, &path, String::new()).await?;
        // Any other answer says that it is not there.
        let found = serde_json::from_slice::<InstanceAnswer>(&body).ok().filter(|_| status.is_success());
        Ok(found.is_some_and(|found| !found.enabled))
    }

    /// Ok when this server answers HTTP, whatever it says.
    pub(super) async fn answers(&self, server: &str) -> Result<(), RegisterError> {
        self.exchange(server, &Method::GET, "/v1/console/health/readiness", "").await.map(drop)
    }

    /// Asks one server after the other, each for a share of the time, until one answers.
    async fn ask(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), RegisterError> {
        let Shared { about, timeout, servers, .. } = &*self.0;
        let share = *timeout / u32::try_from(servers.len()).unwrap_or(1).max(1);
        let mut last = Err(about.unreachable("it names no server"));
        for server in servers {
            last = about.within(share, operation, self.exchange(server, &method, path, &body)).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    async fn exchange(
        &self,
        server: &str,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, Bytes), RegisterError> {
        // Errors name the server, and never the path, which may hold a token.
        let Shared { about, client, context_path, .. } = &*self.0;
        let uri = format!("http://{server}{context_path}{path}")
            .parse()
            .map_err(|_| about.invalid(format!("{server:?} is no host")))?;
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let broken = |error: &dyn fmt::Display| about.unreachable(format!("HTTP at {server}: {error}"));
        let response = client.request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), Self::LARGEST).collect().await.map_err(|error| broken(&error))?;
        Ok((status, body.to_bytes()))
    }

    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(status: StatusCode, body: &[u8]) -> String {
    format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]).trim())
}

/// Source of tokens for the client crate: its own plugin sends the password in URLs, which it logs.
#[async_trait]
impl AuthPlugin for Http {
    async fn login(&self, _: Arc<Vec<String>>, _: Arc<AuthContext>) {
        match self.log_in().await {
            Ok(()) => {}
            // Calls are refused from the end of the token on, and say so themselves.
            Err(error) if error.is_transient() => debug!("{error}"),
            Err(error) => warn!("{error}"),
        }
    }

    fn get_login_identity(&self, _: RequestResource) -> LoginIdentityContext {
        match &*self.token() {
            Some(token) => LoginIdentityContext::default().add_context(Self::TOKEN, &token.text),
            None => LoginIdentityContext::default(),
        }
    }
}
