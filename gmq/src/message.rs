//! Messages as JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ms_mq::Delivery;
use serde::Serialize;

/// A body as the text of a JSON string.
pub(crate) struct Body {
    pub(crate) text: String,
    /// `base64` for a body that is no text.
    pub(crate) encoding: Option<&'static str>,
}

impl Body {
    pub(crate) fn new(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self { text: text.to_owned(), encoding: None },
            Err(_) => Self { text: STANDARD.encode(body), encoding: Some("base64") },
        }
    }
}

/// Message of the text protocol. Names and order of the fields are gmq's, `encoding` aside.
#[derive(Serialize)]
pub(crate) struct Message {
    id: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    retry_count: u16,
}

impl From<&Delivery> for Message {
    fn from(delivery: &Delivery) -> Self {
        let Body { text, encoding } = Body::new(&delivery.body);
        Self { id: delivery.id.to_string(), body: text, encoding, retry_count: delivery.retries }
    }
}
