//! Readers of what others send, for the fuzzers.

use bytes::BytesMut;
use prost::Message;
use serde_json::Value;

use crate::{
    frame::Frame,
    gob,
    message::{Request, from_json, to_json},
};

/// The first frame of a stream.
#[derive(Debug)]
pub struct Read {
    /// Length of the frame, in bytes.
    pub length: usize,
    /// The frame, written again.
    pub written: Vec<u8>,
    /// Each argument of a request as JSON, and what is read after that was written; `None` for an integer that is not written.
    pub arguments: Vec<(Value, Option<Value>)>,
}

/// Reads the first frame of a stream, if it is whole.
pub fn read(stream: &[u8]) -> Option<Read> {
    const MOST: usize = 1 << 20;
    let mut buffer = BytesMut::from(stream);
    let frame = Frame::take(&mut buffer, MOST).ok()??;
    let body = frame.expand(MOST).unwrap_or_default();
    let _ = gob::read_response(&body);
    let arguments = Request::decode(&*body).map_or_else(
        |_| Vec::new(),
        |request| {
            let read = request.args.into_iter().filter_map(|argument| to_json(argument).ok());
            let again = |value: &Value| from_json(value.clone()).ok().and_then(|written| to_json(written).ok());
            read.map(|value| (value.clone(), again(&value))).collect()
        },
    );
    Some(Read { length: stream.len() - buffer.len(), written: frame.to_bytes().ok()?, arguments })
}

/// A request, for the corpus.
pub fn request() -> Vec<u8> {
    let args = [serde_json::json!(5), serde_json::json!({"tags": ["a", null, true], "price": 2.5})];
    let request = Request {
        request_id: 7,
        service_name: "goods".to_owned(),
        method_name: "Find".to_owned(),
        args: args.into_iter().filter_map(|value| from_json(value).ok()).collect(),
    };
    let frame = Frame::with_body(crate::frame::kind::REQUEST, crate::frame::PROTOBUF, 7, &request.encode_to_vec());
    frame.ok().and_then(|frame| frame.to_bytes().ok()).unwrap_or_default()
}
