//! From a response frame to a result.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::info::CallInfo;
use crate::{
    CallError, Code, Codec, Compression, Metadata, Outcome, Status,
    body::Body,
    net::Frame,
    proto::{ResponseHead, flag},
};

/// What the server executed and answered: a value, or the method's own error.
#[derive(Debug)]
pub(crate) struct Answer {
    codec: Codec,
    body: Body,
    /// Code, message and metadata of the head, if the body is the method's own error.
    error: Option<Status>,
}

impl Answer {
    /// Reads the response; a status that the server put in its place is the error. `info` records the head's metadata.
    pub(crate) fn read(frame: Frame, max_frame: usize, info: Option<&CallInfo>) -> Result<Self, Status> {
        let broken = |message: String| Status::new(Code::Internal, message).with_outcome(Outcome::Unknown);
        let (head, value) = ResponseHead::parse(&frame.body).map_err(|error| broken(error.to_string()))?;
        if let Some(info) = info {
            info.set_metadata(head.pairs);
        }
        let is_error = head.flags & flag::SERVICE_ERROR != 0;
        if head.code != 0 && !is_error {
            return Err(remote_status(&head));
        }
        let (Some(codec), Some(compression)) =
            (Codec::from_number(frame.header.codec), Compression::from_number(frame.header.compression))
        else {
            return Err(broken("the answer's codec or compression is unknown here".to_owned()));
        };
        let error = is_error.then(|| status_of(&head));
        let mut body = frame.body;
        body.advance(value);
        if compression != Compression::None {
            body = compression.expand(&body, max_frame).map_err(|error| broken(error.to_string()))?.into();
        }
        Ok(Self { codec, body, error })
    }

    /// Whether it is a value, and not the method's own error.
    pub(crate) fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// The result of a method with an error type.
    pub(crate) fn into_result<T: DeserializeOwned, E: DeserializeOwned>(self) -> Result<T, CallError<E>> {
        match self.error {
            None => Ok(self.decode("the answer")?),
            Some(_) => Err(CallError::Service(self.decode("the service's error")?)),
        }
    }

    /// The result for a caller that does not know the error type.
    pub(crate) fn into_value<T: DeserializeOwned>(self) -> Result<T, Status> {
        match self.error {
            None => self.decode("the answer"),
            Some(status) => Err(status.with_detail(self.codec, self.body.into())),
        }
    }

    fn decode<T: DeserializeOwned>(&self, what: &str) -> Result<T, Status> {
        self.body.decode(self.codec).map_err(|error| Status::undecodable(what, &error))
    }
}

fn remote_status(head: &ResponseHead<'_>) -> Status {
    let status = status_of(head);
    let outcome = match status.code() {
        _ if head.flags & flag::NOT_EXECUTED != 0 => Outcome::Refused,
        Code::DeadlineExceeded | Code::Cancelled => Outcome::Unknown,
        _ => Outcome::Answered,
    };
    let status = status.with_outcome(outcome);
    match head.retry_after_ms {
        0 => status,
        ms => status.with_retry_after(Duration::from_millis(ms.into())),
    }
}

fn status_of(head: &ResponseHead<'_>) -> Status {
    Status::new(Code::from_number(head.code), head.message).with_metadata(Metadata::from_encoded(head.pairs))
}
