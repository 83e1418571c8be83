//! A service with arguments and results of several kinds, for a server and a client.

use std::time::Duration;

use ms_rpc::{Blob, Code, ServiceError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum FuzzError {
    #[error("no item {0}")]
    Missing(i64),
}

impl ServiceError for FuzzError {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Nested(pub(crate) Option<Box<Self>>);

#[ms_rpc::service(name = "fuzz")]
pub(crate) trait Fuzz {
    async fn find(&self, id: i64) -> Result<Vec<String>, FuzzError>;
    async fn text(&self, text: String) -> String;
    async fn echo(&self, blob: Blob) -> Blob;
    async fn nested(&self, nested: Nested) -> Nested;
    async fn sum(&self, numbers: Vec<i32>, more: Option<f64>) -> f64;
    async fn wait(&self, ms: u16) -> u16;
}

#[derive(Debug)]
pub(crate) struct Methods;

impl Fuzz for Methods {
    async fn find(&self, id: i64) -> Result<Vec<String>, FuzzError> {
        let count = usize::try_from(id).ok().filter(|count| *count < 100).ok_or(FuzzError::Missing(id))?;
        Ok(vec!["item".to_owned(); count])
    }

    async fn text(&self, text: String) -> String {
        text
    }

    async fn echo(&self, blob: Blob) -> Blob {
        blob
    }

    async fn nested(&self, nested: Nested) -> Nested {
        nested
    }

    async fn sum(&self, numbers: Vec<i32>, more: Option<f64>) -> f64 {
        numbers.into_iter().map(f64::from).sum::<f64>() + more.unwrap_or_default()
    }

    async fn wait(&self, ms: u16) -> u16 {
        tokio::time::sleep(Duration::from_millis(ms.into())).await;
        ms
    }
}
