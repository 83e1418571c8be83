//! The encoded answer to a call.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{CallError, Code, Metadata, Outcome, ServiceError, Status};
use crate::{
    Codec, Compression,
    body::Body,
    buffer::FrameBuf,
    codec::CodecError,
    proto::{Frame, Header, ResponseHead, flag},
    unanswered::Unanswered,
};

/// The encoded answer of an executed call, as [layers](crate::Layer) and [channels](crate::Channel) see it: a value, or the
/// method's own error.
pub struct Answer {
    codec: Codec,
    body: Body,
    /// `None` for a value without metadata, as nearly all are.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// Code, message and metadata of the head, if the value is the method's own error.
    error: Option<(Code, String)>,
    metadata: Metadata,
    unanswered: Unanswered,
    /// Instance that answered, for the status of a caller that does not know the error's type.
    instance: Option<String>,
}

impl Answer {
    /// An answer with this value, in the call's codec: for layers and channels that answer by themselves.
    ///
    /// # Errors
    /// `Internal`: the value cannot be encoded.
    pub fn value<T: Serialize + ?Sized>(codec: &Codec, value: &T) -> Result<Self, Status> {
        Ok(Self { codec: codec.clone(), body: encode(codec, value)?, extra: None })
    }

    /// An answer with a method's own error.
    ///
    /// # Errors
    /// `Internal`: the error cannot be encoded.
    pub fn service_error<E: ServiceError>(codec: &Codec, error: &E) -> Result<Self, Status> {
        let said = (error.code(), error.to_string());
        let extra = Extra { error: Some(said), ..Extra::default() };
        Ok(Self { codec: codec.clone(), body: encode(codec, error)?, extra: Some(Box::new(extra)) })
    }

    /// `Ok` for a value, the error's code for a method's own error.
    pub fn code(&self) -> Code {
        self.error().map_or(Code::Ok, |(code, _)| *code)
    }

    /// Metadata that comes with it.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.extra.as_ref().map(|extra| &extra.metadata)
    }

    /// Metadata that comes with it, to add to.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.extra.get_or_insert_default().metadata
    }

    fn error(&self) -> Option<&(Code, String)> {
        self.extra.as_ref()?.error.as_ref()
    }

    /// Reads the response to a request in `codec`; a status that the server put in its place is the error. An answer may be
    /// compressed by any built-in compression, and by `compression`.
    #[inline]
    pub(crate) fn read(
        frame: Frame,
        max_frame: usize,
        codec: &Codec,
        compression: &Compression,
    ) -> Result<Self, Status> {
        let Header { codec: number, compression: compressed, .. } = frame.header;
        if compressed == 0 && number == codec.number() && frame.body.starts_with(&ResponseHead::OK) {
            let mut body = frame.body;
            body.advance(ResponseHead::OK.len());
            return Ok(Self { codec: codec.clone(), body, extra: None });
        }
        Self::read_any(frame, max_frame, codec, compression)
    }

    #[inline(never)]
    fn read_any(frame: Frame, max_frame: usize, codec: &Codec, compression: &Compression) -> Result<Self, Status> {
        let broken =
            |message: String| Status::new(Code::Internal, message).with_outcome(Outcome::Unknown).answered_by_peer();
        let (head, value) = ResponseHead::parse(&frame.body).map_err(|error| broken(error.to_string()))?;
        let is_error = head.flags & flag::SERVICE_ERROR != 0;
        if head.code != 0 && !is_error {
            let status = remote_status(&head);
            if head.flags & flag::DIFFERS == 0 {
                return Err(status);
            }
            let shape = frame.body.get(value..).unwrap_or_default();
            return Err(status.with_difference(String::from_utf8_lossy(shape).into()));
        }
        let Header { codec: number, compression: compressed, .. } = frame.header;
        let codec = if number == codec.number() { Some(codec.clone()) } else { Codec::built_in(number) };
        let Some(codec) = codec else { return Err(broken(format!("the answer's codec {number} is unknown here"))) };
        let extra = (is_error || head.pairs.len() > 1).then(|| {
            let error = is_error.then(|| (Code::from_number(head.code), head.message.to_owned()));
            Box::new(Extra { error, metadata: Metadata::from_encoded(head.pairs), ..Extra::default() })
        });
        let mut body = frame.body;
        body.advance(value);
        if compressed != 0 {
            let own = Some(compression).filter(|own| own.number() == compressed).cloned();
            let Some(compression) = own.or_else(|| Compression::built_in(compressed)) else {
                return Err(broken(format!("the answer's compression {compressed} is unknown here")));
            };
            body = compression.expand(&body, max_frame).map_err(|error| broken(error.to_string()))?.into();
        }
        Ok(Self { codec, body, extra })
    }

    /// The parts that a response is written from: the method's own error, metadata, the encoded value, and the compensation
    /// for an answer that does not go out.
    pub(crate) fn into_parts(self) -> (Option<(Code, String)>, Metadata, Bytes, Unanswered) {
        let Extra { error, metadata, unanswered, .. } = self.extra.map(|extra| *extra).unwrap_or_default();
        (error, metadata, self.body.into(), unanswered)
    }

    /// Ties a compensation to this answer: it runs if a layer drops the answer, or if that does not go out.
    pub(crate) fn tie(&mut self, unanswered: Unanswered) {
        self.extra.get_or_insert_default().unanswered = unanswered;
    }

    /// Names the instance that answered with the method's own error.
    pub(crate) fn set_instance(&mut self, instance: String) {
        if let Some(extra) = self.extra.as_mut().filter(|extra| extra.error.is_some()) {
            extra.instance = Some(instance);
        }
    }

    /// Returns true for a value, false for the method's own error.
    pub(crate) fn is_success(&self) -> bool {
        self.error().is_none()
    }

    /// The result of a method with an error type. An error that is no `E` is a status with its code, message and bytes.
    /// `undecodable` describes a value that this side's definition does not fit: what it is, and why it does not.
    #[inline]
    pub(crate) fn into_result<T: DeserializeOwned, E: DeserializeOwned>(
        self,
        undecodable: impl FnOnce(&str, &CodecError) -> String,
    ) -> Result<T, CallError<E>> {
        let Some((code, message)) = self.error() else { return Ok(self.into_plain(undecodable)?) };
        match self.body.decode(&self.codec) {
            Ok(error) => Err(CallError::Service(error)),
            Err(why) => {
                let message = format!("{message} ({})", undecodable("error", &why)).trim_start().to_owned();
                let code = *code;
                Err(CallError::Status(self.into_status(code, message)))
            }
        }
    }

    /// The result of a method without an error type.
    #[inline]
    pub(crate) fn into_plain<T: DeserializeOwned>(
        self,
        undecodable: impl FnOnce(&str, &CodecError) -> String,
    ) -> Result<T, Status> {
        if !self.is_success() {
            return self.into_value();
        }
        self.body.decode(&self.codec).map_err(|why| Status::new(Code::Internal, undecodable("result", &why)))
    }

    /// The result for a caller that does not know the error type.
    #[inline]
    pub(crate) fn into_value<T: DeserializeOwned>(self) -> Result<T, Status> {
        let Some((code, message)) = self.error().cloned() else { return self.decode("the answer") };
        Err(self.into_status(code, message))
    }

    /// The method's own error as a status.
    #[cold]
    fn into_status(self, code: Code, message: String) -> Status {
        let Extra { metadata, instance, .. } = self.extra.map(|extra| *extra).unwrap_or_default();
        let status = Status::new(code, message).with_metadata(metadata).with_detail(self.codec, self.body.into());
        match instance {
            Some(instance) => status.with_instance(&instance),
            None => status,
        }
    }

    fn decode<T: DeserializeOwned>(&self, what: &str) -> Result<T, Status> {
        self.body.decode(&self.codec).map_err(|error| Status::undecodable(what, &error))
    }
}

fn encode<T: Serialize + ?Sized>(codec: &Codec, value: &T) -> Result<Body, Status> {
    let mut out = FrameBuf::default();
    codec
        .encode(value, &mut out)
        .map_err(|error| Status::new(Code::Internal, format!("an answer cannot be encoded: {error}")))?;
    Ok(out.to_bytes().into())
}

fn remote_status(head: &ResponseHead<'_>) -> Status {
    let code = Code::from_number(head.code);
    let outcome = match code {
        _ if head.flags & flag::NOT_EXECUTED != 0 => Outcome::Refused,
        Code::DeadlineExceeded | Code::Cancelled => Outcome::Unknown,
        _ => Outcome::Answered,
    };
    let status = Status::new(code, head.message).with_metadata(Metadata::from_encoded(head.pairs));
    let status = status.with_outcome(outcome).answered_by_peer();
    match head.retry_after_ms {
        0 => status,
        ms => status.with_retry_after(Duration::from_millis(ms.into())),
    }
}

/// Leaves the value out.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("code", &self.code()).field("codec", &self.codec).finish_non_exhaustive()
    }
}
