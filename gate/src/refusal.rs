//! What a client is told about a message that was not answered. Pure.

use std::borrow::Cow;

use bytes::Bytes;
use ms_rpc::{Code, Status};
use serde::{Deserialize, Serialize};

use crate::{frame::Frame, frame::FrameTooLong};

/// Answer to a message that no back end answered: a frame with message id 0, and this as JSON. The connection lives on, unless the
/// reason is one about the connection itself.
///
/// It names no address and no registry: clients are strangers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Message that it is about; 0: the connection.
    pub msg_id: u32,
    /// Name of a [`Code`], such as `not_found`.
    pub code: Cow<'static, str>,
    /// Text for people.
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(msg_id: u32, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { msg_id, code: code.name().into(), message: message.into() }
    }

    /// No route says where this message goes.
    pub(crate) fn no_route(msg_id: u32) -> Self {
        Self::new(msg_id, Code::NotFound, format!("message {msg_id} goes nowhere: no group takes it"))
    }

    /// The group's back ends did not answer.
    pub(crate) fn unanswered(msg_id: u32, group: &str, status: &Status) -> Self {
        let code = status.code();
        let message = match code {
            Code::Unavailable => format!("no back end of `{group}` can be reached"),
            Code::DeadlineExceeded => format!("the back end of `{group}` did not answer in time"),
            Code::ResourceExhausted => format!("the back end of `{group}` has too much to do"),
            _ => format!("the back end of `{group}` failed"),
        };
        Self::new(msg_id, code, message)
    }

    /// The client sends faster than it may.
    pub(crate) fn too_many(msg_id: u32) -> Self {
        Self::new(msg_id, Code::ResourceExhausted, "too many messages a second: this one was dropped")
    }

    /// Bytes of its frame.
    pub fn encode(&self) -> Bytes {
        // Strings and a number: JSON has a form for them.
        Frame::encode(0, &serde_json::to_vec(self).unwrap_or_default())
    }
}

impl From<FrameTooLong> for Refusal {
    fn from(error: FrameTooLong) -> Self {
        Self::new(error.msg_id, Code::ResourceExhausted, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_frame_of_message_0_with_three_fields() {
        let bytes = Refusal::no_route(9).encode();
        assert_eq!(bytes[..4], [0; 4]);
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..]).unwrap();
        assert_eq!((&json["msg_id"], &json["code"]), (&9.into(), &"not_found".into()));
        assert_eq!(json.as_object().unwrap().len(), 3);
    }

    #[test]
    fn addresses_of_back_ends_are_not_told() {
        let status = Status::new(Code::Unavailable, "cannot reach 10.0.0.7:9112");
        let told = Refusal::unanswered(2, "im", &status);
        assert_eq!((told.code.as_ref(), told.message.as_ref()), ("unavailable", "no back end of `im` can be reached"));
    }
}
