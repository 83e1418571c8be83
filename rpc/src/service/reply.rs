//! The response frame: its head, the encoded result behind it, compressed where that helps.

use serde::Serialize;

use crate::{
    Answer, Code, Codec, Context, Metadata, Outcome, ServiceError, Status,
    buffer::{FrameBuf, HAND_OFF, Mark},
    compress::CompressError,
    encodings::Encodings,
    proto::{HEADER, Header, Kind, ResponseHead, flag},
};

/// Form of the response to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseForm {
    pub(crate) id: u64,
    /// Number of the request's codec, which may be unknown here.
    pub(crate) codec: u8,
    /// Number of the compression; 0 or unknown here: none.
    pub(crate) compression: u8,
    /// Level of the compression; `None`: its own default.
    pub(crate) level: Option<i32>,
    pub(crate) threshold: usize,
    pub(crate) max_frame: usize,
}

impl ResponseForm {
    /// Appends a response that carries nothing but `status`.
    pub(crate) fn status(&self, status: &Status, out: &mut FrameBuf) {
        let start = out.mark();
        ReplyOut { frame: out, start, codec: Codec::default() }.status(status);
        self.close(out, start, 0);
    }

    /// Completes the response that stands in `out` from `start` on: compresses it where that helps, and writes its header.
    #[inline]
    pub(crate) fn finish(&self, encodings: &Encodings, out: &mut FrameBuf, start: Mark) {
        match self.compress(encodings, out, start) {
            Ok(compression) => self.close(out, start, compression),
            Err(error) => {
                out.truncate(start);
                self.status(&Status::new(Code::Internal, format!("the result cannot be compressed: {error}")), out);
            }
        }
    }

    #[inline]
    fn close(&self, out: &mut FrameBuf, start: Mark, compression: u8) {
        let length = out.since(start);
        if length > self.max_frame {
            out.truncate(start);
            let message = format!("the answer has {length} bytes, at most {} are sent", self.max_frame);
            return self.status(&Status::new(Code::ResourceExhausted, message), out);
        }
        let header = Header { kind: Kind::Response, compression, codec: self.codec, id: self.id };
        out.patch(start, 0, &header.to_bytes(length as u32));
    }

    /// Adds pairs to the head of the response that stands in `out` from `start` on.
    #[cold]
    pub(crate) fn add_metadata(&self, metadata: &Metadata, out: &mut FrameBuf, start: Mark) {
        let frame = out.gather(start);
        let Ok((head, value)) = ResponseHead::parse(&frame[HEADER..]) else { return };
        out.truncate(start);
        let data = out.data();
        data.extend_from_slice(&frame[..HEADER]);
        let mut all = Metadata::from_encoded(head.pairs);
        all.append_all(metadata);
        ResponseHead { pairs: all.encoded(), ..head }.write(data);
        data.extend_from_slice(&frame[HEADER + value..]);
        let length = out.since(start) as u32;
        out.patch(start, 2, &length.to_be_bytes());
    }

    /// Replaces the value behind the head by its compressed form, if that is smaller; returns the compression's number.
    #[inline]
    fn compress(&self, encodings: &Encodings, out: &mut FrameBuf, start: Mark) -> Result<u8, CompressError> {
        if self.compression == 0 || out.since(start) < self.threshold + HEADER {
            return Ok(0);
        }
        self.compress_value(encodings, out, start)
    }

    #[cold]
    fn compress_value(&self, encodings: &Encodings, out: &mut FrameBuf, start: Mark) -> Result<u8, CompressError> {
        let Some(compression) = encodings.compression(self.compression) else { return Ok(0) };
        let frame = out.gather(start);
        let Ok((_, value)) = ResponseHead::parse(&frame[HEADER..]) else { return Ok(0) };
        let (head, value) = frame.split_at(HEADER + value);
        if value.len() < self.threshold {
            return Ok(0);
        }
        let Some(compressed) = compression.shrink(value, self.level)? else { return Ok(0) };
        out.truncate(start);
        out.data().extend_from_slice(head);
        out.data().extend_from_slice(&compressed);
        Ok(self.compression)
    }
}

/// Buffer that a method's answer is written to.
pub(crate) struct ReplyOut<'a> {
    frame: &'a mut FrameBuf,
    start: Mark,
    codec: Codec,
}

impl<'a> ReplyOut<'a> {
    #[inline]
    pub(crate) fn new(form: &ResponseForm, encodings: &Encodings, frame: &'a mut FrameBuf, start: Mark) -> Self {
        Self { frame, start, codec: encodings.codec(form.codec).unwrap_or_default() }
    }

    pub(crate) fn value<T: Serialize>(&mut self, value: &T) {
        let data = self.frame.data();
        data.extend_from_slice(&[0; HEADER]);
        data.extend_from_slice(&ResponseHead::OK);
        if let Err(error) = self.codec.encode(value, self.frame) {
            self.frame.truncate(self.start);
            self.status(&Status::new(Code::Internal, format!("the result cannot be encoded: {error}")));
        }
    }

    pub(crate) fn service_error<E: ServiceError>(&mut self, error: &E) {
        let code = match error.code() {
            Code::Ok => Code::Unknown,
            code => code,
        };
        self.head(code, flag::SERVICE_ERROR, 0, &error.to_string());
        if let Err(error) = self.codec.encode(error, self.frame) {
            self.frame.truncate(self.start);
            self.status(&Status::new(Code::Internal, format!("the error cannot be encoded: {error}")));
        }
    }

    /// An answer that a layer made, or passed on.
    pub(crate) fn answer(&mut self, answer: Answer) {
        let (error, metadata, value, unanswered) = answer.into_parts();
        let (code, flags, message) = match &error {
            Some((code, message)) => (*code, flag::SERVICE_ERROR, message.as_str()),
            None => (Code::Ok, 0, ""),
        };
        let data = self.frame.data();
        data.extend_from_slice(&[0; HEADER]);
        ResponseHead { code: code as u8, flags, retry_after_ms: 0, message, pairs: metadata.encoded() }.write(data);
        if value.len() < HAND_OFF {
            data.extend_from_slice(&value);
        } else {
            self.frame.hand_off(value);
        }
        Context::hand_over(unanswered);
    }

    pub(crate) fn status(&mut self, status: &Status) {
        let flags = if status.outcome() == Outcome::Refused { flag::NOT_EXECUTED } else { 0 };
        let retry_after = status.retry_after().map_or(0, |after| {
            // Rounded up: a caller that comes back at that time must not be too early.
            u32::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
        });
        let Some(shape) = status.difference() else {
            return self.head(status.code(), flags, retry_after, status.message());
        };
        self.head(status.code(), flags | flag::DIFFERS, retry_after, status.message());
        self.frame.data().extend_from_slice(shape.as_bytes());
    }

    fn head(&mut self, code: Code, flags: u8, retry_after_ms: u32, message: &str) {
        let data = self.frame.data();
        data.extend_from_slice(&[0; HEADER]);
        ResponseHead { code: code as u8, flags, retry_after_ms, message, pairs: &[0] }.write(data);
    }
}
