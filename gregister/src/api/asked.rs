//! Parameters of a request, besides its body.

use std::time::Duration;

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use ms_register::ServiceName;
use serde::Deserialize;

use super::{Failure, invalid};

/// The longest that an answer is held back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A path under a service, and the parameters, all of them checked.
pub(super) struct Asked {
    pub(super) service: ServiceName,
    /// Id of the instance or the candidate; empty where the path names none.
    pub(super) id: String,
    pub(super) options: Options,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    pub(super) store: Option<String>,
    pub(super) revision: Option<u64>,
    pub(super) lease: Option<String>,
    pub(super) term: Option<u64>,
    /// Seconds.
    wait: f64,
}

impl Options {
    pub(super) fn wait(&self) -> Duration {
        Duration::try_from_secs_f64(self.wait).unwrap_or_default().min(LONGEST_WAIT)
    }
}

#[derive(Deserialize)]
struct Names {
    service: String,
    #[serde(default)]
    id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(Names { service, id }) = Path::from_request_parts(parts, state).await.map_err(invalid)?;
        let Query(options) = Query::from_request_parts(parts, state).await.map_err(invalid)?;
        Ok(Self { service: ServiceName::new(service).map_err(invalid)?, id, options })
    }
}
