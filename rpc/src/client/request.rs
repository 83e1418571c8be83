//! From a call to its frame.

use std::{
    borrow::Cow,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    balance::{CallKey, Key},
    info::CallInfo,
    options::{CallOptions, ClientConfig, LONGEST, Outgoing},
};
use crate::{
    Answer, Code, Codec, Compression, Context, Invocation, Metadata, Outcome, Status,
    buffer::{FrameBuf, HAND_OFF, Mark},
    codec::CodecError,
    proto::{HEADER, Header, Kind, LARGEST_MAX_FRAME, RequestHead, append_pair},
    service::Signature,
};

/// The time that a call has: the least of the options', the client's, and what the ambient call has left.
#[inline]
pub(crate) fn time_of(config: &ClientConfig, options: &CallOptions) -> Duration {
    let timeout = options.timeout.unwrap_or(config.timeout).min(LONGEST);
    match Context::current_deadline() {
        Some(outer) => timeout.min(outer.saturating_duration_since(Instant::now())),
        None => timeout,
    }
}

/// The encoded metadata of a request. Runs the interceptors.
#[inline]
pub(crate) fn outgoing_pairs(
    service: &str,
    method: &str,
    config: &ClientConfig,
    options: &CallOptions,
) -> Result<Cow<'static, [u8]>, Status> {
    if config.interceptors.is_empty() && options.metadata.is_empty() {
        return Ok(Cow::Borrowed(&[0]));
    }
    encoded_pairs(service, method, config, options).map(Cow::Owned)
}

fn encoded_pairs(service: &str, method: &str, config: &ClientConfig, options: &CallOptions) -> Result<Vec<u8>, Status> {
    let mut metadata = options.metadata.clone();
    let mut outgoing = Outgoing { service, method, metadata: &mut metadata };
    config
        .interceptors
        .iter()
        .try_for_each(|interceptor| interceptor(&mut outgoing))
        .map_err(|refusal| refusal.with_outcome(Outcome::NotSent))?;
    let mut pairs = vec![0];
    for (key, value) in &metadata {
        append_pair(&mut pairs, key, value.as_bytes())
            .map_err(|error| not_sent(Code::InvalidArgument, error.to_string()))?;
    }
    Ok(pairs)
}

/// Arguments of a call, encoded for each attempt anew or once for all.
pub(crate) trait EncodeArguments {
    /// Appends them.
    fn encode(&self, codec: &Codec, out: &mut FrameBuf) -> Result<(), CodecError>;
}

impl<A: Serialize + ?Sized> EncodeArguments for A {
    #[inline]
    fn encode(&self, codec: &Codec, out: &mut FrameBuf) -> Result<(), CodecError> {
        codec.encode(self, out)
    }
}

/// Arguments that were encoded for layers, in the call's codec.
pub(crate) struct Encoded(pub(crate) Bytes);

impl EncodeArguments for Encoded {
    fn encode(&self, _: &Codec, out: &mut FrameBuf) -> Result<(), CodecError> {
        if self.0.len() < HAND_OFF {
            out.data().extend_from_slice(&self.0);
        } else {
            out.hand_off(self.0.clone());
        }
        Ok(())
    }
}

/// One call, ready to be encoded for one attempt after another.
#[derive(Debug)]
pub(crate) struct CallRequest<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) argc: u8,
    pub(crate) codec: &'a Codec,
    /// Hashes of the method's definition and of the structure of its types; 0 for a call by names.
    said: [u32; 2],
    /// The only instance that will do.
    pub(crate) instance: Option<&'a str>,
    /// Key for balancers that hash.
    pub(crate) key: Option<&'a CallKey>,
    /// All instances, and the first success.
    pub(crate) fork: bool,
    /// Records what became of the call.
    pub(crate) info: Option<&'a CallInfo>,
    pub(crate) compression: &'a Compression,
    config: &'a ClientConfig,
    pairs: Cow<'static, [u8]>,
    timeout: Duration,
    /// Known from the moment at which time begins to pass: when something is waited for, or an attempt has been made. A
    /// call that leaves at once does without a reading of the clock.
    deadline: OnceLock<Instant>,
    /// Nanoseconds between the request of the last attempt and its answer.
    took: AtomicU64,
}

impl<'a> CallRequest<'a> {
    /// Sets the time that the call has. `pairs`: those of [`outgoing_pairs`].
    #[inline]
    pub(crate) fn new(
        service: &'a str,
        method: &'a str,
        argc: u8,
        config: &'a ClientConfig,
        options: &'a CallOptions,
        pairs: Cow<'static, [u8]>,
    ) -> Self {
        let timeout = time_of(config, options);
        if let Some(info) = &options.info {
            info.clear();
        }
        let codec = options.codec.as_ref().unwrap_or(&config.codec);
        Self::with(service, method, argc, codec, config, options, pairs, timeout)
    }

    /// The request of a call that went through layers.
    pub(crate) fn of(call: &'a Invocation, config: &'a ClientConfig, options: &'a CallOptions) -> Self {
        let pairs = Cow::Owned(call.context.all_metadata().encoded().to_vec());
        let timeout = call.context.remaining();
        let deadline = OnceLock::from(call.context.deadline());
        let request = Self::with(&call.service, &call.method, call.argc, &call.codec, config, options, pairs, timeout);
        Self { deadline, said: call.said, ..request }
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the fields that the two constructors do not share")]
    fn with(
        service: &'a str,
        method: &'a str,
        argc: u8,
        codec: &'a Codec,
        config: &'a ClientConfig,
        options: &'a CallOptions,
        pairs: Cow<'static, [u8]>,
        timeout: Duration,
    ) -> Self {
        Self {
            service,
            method,
            argc,
            codec,
            said: [0; 2],
            instance: options.instance.as_deref(),
            key: options.key.as_ref(),
            fork: options.fork && options.instance.is_none(),
            info: options.info.as_ref(),
            compression: options.compression.as_ref().unwrap_or(&config.compression),
            config,
            pairs,
            timeout,
            deadline: OnceLock::new(),
            took: AtomicU64::new(0),
        }
    }

    /// The call as layers and channels see it. Its time begins.
    pub(crate) fn invocation<A: EncodeArguments + ?Sized>(
        &self,
        arguments: &A,
        idempotent: bool,
    ) -> Result<Invocation, Status> {
        let mut encoded = FrameBuf::default();
        arguments.encode(self.codec, &mut encoded).map_err(|error| self.not_encoded(&error))?;
        Ok(Invocation {
            service: self.service.into(),
            method: self.method.into(),
            context: Context::new(self.deadline()).with_metadata(Metadata::from_encoded(&self.pairs)),
            idempotent,
            codec: self.codec.clone(),
            compression: Compression::None,
            argc: self.argc,
            said: self.said,
            arguments: encoded.to_bytes(),
            max_frame: LARGEST_MAX_FRAME,
        })
    }

    fn not_encoded(&self, CodecError(error): &CodecError) -> Status {
        not_sent(Code::InvalidArgument, format!("the arguments of {} cannot be encoded: {error}", self.name()))
    }

    /// Returns true if the channel is measured: only then is [`took`](Self::took) asked for.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.config.stats.is_some()
    }

    /// Notes the time between an attempt's request and its answer.
    #[inline]
    pub(crate) fn set_took(&self, took: Duration) {
        self.took.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time that the call took so far: that of its only attempt, if nothing else took time.
    #[inline]
    pub(crate) fn took(&self) -> Duration {
        match self.deadline.get() {
            None => Duration::from_nanos(self.took.load(Ordering::Relaxed)),
            Some(deadline) => self.timeout.saturating_sub(deadline.saturating_duration_since(Instant::now())),
        }
    }

    /// Records the begin of an attempt, if the call asks for it.
    #[inline]
    pub(crate) fn attempt_begins(&self) {
        if let Some(info) = self.info {
            info.begin_attempt();
        }
    }

    /// Records what an answer brought besides its value, if the call asks for it.
    #[inline]
    pub(crate) fn answered(&self, answer: Result<Answer, Status>) -> Result<Answer, Status> {
        if let Some(info) = self.info {
            info.set_metadata(match &answer {
                Ok(answer) => answer.metadata().cloned().unwrap_or_default(),
                Err(status) => status.metadata().clone(),
            });
        }
        answer
    }

    /// The same call on this instance and no other. Its time has begun.
    pub(crate) fn to<'b>(&self, instance: &'b str) -> CallRequest<'b>
    where
        'a: 'b,
    {
        CallRequest {
            instance: Some(instance),
            fork: false,
            pairs: self.pairs.clone(),
            deadline: OnceLock::from(self.deadline()),
            took: AtomicU64::new(0),
            ..*self
        }
    }

    /// Says the method's definition to the server.
    #[inline]
    pub(crate) fn say(&mut self, signature: &Signature) {
        self.said = signature.said(self.codec.names_fields());
    }

    /// The same call in another codec.
    pub(crate) fn with_codec(mut self, codec: &'a Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Appends the frame, with 0 for its id. After an error `out` is as it was.
    pub(crate) fn encode<A: EncodeArguments + ?Sized>(
        &self,
        arguments: &A,
        max_frame: usize,
        out: &mut FrameBuf,
    ) -> Result<(), Status> {
        let start = out.mark();
        let encoded = self.encode_at(arguments, max_frame, out);
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    fn encode_at<A: EncodeArguments + ?Sized>(
        &self,
        arguments: &A,
        max_frame: usize,
        out: &mut FrameBuf,
    ) -> Result<(), Status> {
        let start = out.mark();
        let timeout_ms = self.remaining_ms()?;
        let Self { service, method, argc, said: [signature, shape], .. } = *self;
        let head = RequestHead { timeout_ms, service, method, argc, pairs: &self.pairs, signature, shape };
        out.data().extend_from_slice(&[0; HEADER]);
        head.write(out.data()).map_err(|error| not_sent(Code::InvalidArgument, error.to_string()))?;
        let body = out.mark();
        arguments.encode(self.codec, out).map_err(|error| self.not_encoded(&error))?;
        let mut compression = 0;
        if self.compression.number() != 0
            && out.since(body) >= self.config.compress_above
            && let Some(compressed) = self.compress(&out.gather(body))?
        {
            out.truncate(body);
            out.data().extend_from_slice(&compressed);
            compression = self.compression.number();
        }
        let length = out.since(start);
        if length > max_frame {
            let message = format!("the request to {} has {length} bytes, the server takes {max_frame}", self.name());
            return Err(not_sent(Code::ResourceExhausted, message));
        }
        let header = Header { kind: Kind::Request, compression, codec: self.codec.number(), id: 0 };
        out.patch(start, 0, &header.to_bytes(length as u32));
        Ok(())
    }

    #[cold]
    fn compress(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Status> {
        let failed = |error| format!("the arguments of {} cannot be compressed: {error}", self.name());
        self.compression
            .shrink(body, self.config.compression_level)
            .map_err(|error| not_sent(Code::InvalidArgument, failed(error)))
    }

    /// When the call's time is over. It begins now, if it has not begun.
    pub(crate) fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + self.timeout)
    }

    /// The call's time began when its first attempt left: it ends at this moment.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
    }

    /// The time that is left.
    #[inline]
    pub(crate) fn remaining(&self) -> Duration {
        match self.deadline.get() {
            None => self.timeout,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        }
    }

    /// Rounded up, so that the server never gives up before the client does.
    #[inline]
    fn remaining_ms(&self) -> Result<u32, Status> {
        let remaining = self.remaining();
        if remaining.is_zero() {
            return Err(self.overdue(Outcome::NotSent));
        }
        let (seconds, nanos) = (remaining.as_secs(), u64::from(remaining.subsec_nanos()));
        Ok(u32::try_from(seconds * 1_000 + nanos.div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }

    /// Corrects the timeout in a frame that was encoded a while ago.
    pub(crate) fn refresh_timeout(&self, frame: &mut FrameBuf) -> Result<(), Status> {
        let timeout_ms = self.remaining_ms()?;
        // Behind the header, the head's length and its flags.
        frame.patch(Mark::default(), HEADER + 3, &timeout_ms.to_be_bytes());
        Ok(())
    }

    /// `service.method`.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.service, self.method)
    }

    /// The status of a call whose time is over.
    pub(crate) fn overdue(&self, outcome: Outcome) -> Status {
        let message = format!("no answer from {} within {:?}", self.name(), self.timeout);
        Status::new(Code::DeadlineExceeded, message).with_outcome(outcome)
    }
}

/// Key for hashes by address within a served call: the address of its caller.
#[cold]
pub(crate) fn callers_address() -> Option<Key> {
    Context::current_address().map(|address| Key::of_address(address.ip()))
}

pub(crate) fn not_sent(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, message).with_outcome(Outcome::NotSent)
}
